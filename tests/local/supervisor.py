"""A process that starts one of the servers and waits to be killed: `python -m tests.local.supervisor postgres FOLDER`."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shared.local import postgres, rabbitmq

STARTS: dict[str, Callable[..., object]] = {"postgres": postgres.start, "rabbitmq": rabbitmq.start}
PROJECT = Path(__file__).resolve().parents[2]


def start_and_die(server: str, state: Path) -> None:
    """Leave a running server behind, as a SIGKILL of `make run` does."""
    command = [sys.executable, "-m", "tests.local.supervisor", server, str(state)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        said = supervisor.stdout.readline()
        supervisor.kill()
    assert said == "ready\n", said


def main() -> None:
    STARTS[sys.argv[1]](Path(sys.argv[2]), say=lambda _: None)
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
