"""The negative control: stock Telethon with stock persistence, as tutorials have it. It writes down what its handler is given.

`python -m tests.chaos.telegram.stock PORT FOLDER TOKEN...` runs until it is killed. The session of each bot is a SQLite file and missed
updates are asked for at the start, which is all that stock Telethon offers; each event is on disk before the next is handled.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telethon import TelegramClient, events
from telethon.sessions import SQLiteSession

from tests.telegram.client import API_HASH, API_ID, Address, connect
from tests.telegram.naming import event_key


@dataclass(frozen=True, slots=True)
class Losses:
    """How stock Telethon fared."""

    owed: int
    lost: int
    doubled: int


def count(folder: Path, owed: Sequence[Mapping[str, Any]], bots: Sequence[int]) -> Losses:
    """What it has written down, against what the server owed it."""
    due = Counter((one["bot_id"], one["key"]) for one in owed if one["bot_id"] in bots)
    seen = Counter((bot, line) for bot in bots if (file := _file(folder, bot)).exists() for line in file.read_text().splitlines())
    return Losses(due.total(), (due - seen).total(), (seen - due).total())


async def watch(port: int, folder: Path, token: str) -> None:
    """Watch one bot until killed."""
    bot = int(token.partition(":")[0])
    session: Any = SQLiteSession(str(folder / str(bot)))
    client = TelegramClient(session, API_ID, API_HASH, catch_up=True, sequential_updates=True, retry_delay=0.2, connection_retries=None)

    async def note(update: Any) -> None:
        key = event_key(update)
        if key is not None:
            file.write(key + "\n")
            file.flush()

    with _file(folder, bot).open("a") as file:
        client.add_event_handler(note, events.Raw())
        await connect(client, Address(port), token=token)
        await client.disconnected


async def main(port: int, folder: Path, tokens: Sequence[str]) -> None:
    await asyncio.gather(*(watch(port, folder, token) for token in tokens))


def _file(folder: Path, bot: int) -> Path:
    return folder / f"{bot}.seen"


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
