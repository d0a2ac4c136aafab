"""Ask a running server for one thing: `python -m tests.telegram.poke 20304 start person=7 bot=100 payload=abc123-my-click`.

The first argument is its control port. Values that look like JSON, such as numbers, are taken as JSON, all others as text.
"""

import json
import sys
from typing import Any

from tests.telegram.core import HOST
from tests.telegram.remote import Refused, Remote


def value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main(port: str, do: str, *words: str) -> None:
    arguments = {name: value(text) for name, _, text in (word.partition("=") for word in words)}
    with Remote({"host": HOST, "control_port": int(port)}) as remote:
        print(json.dumps(remote.ask(do, **arguments)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TypeError, ValueError):
        sys.exit(__doc__)
    except (OSError, Refused) as error:
        sys.exit(str(error))
