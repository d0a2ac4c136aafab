"""The server in a process of its own, from the side of a test that is not asynchronous."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).parent.parent.parent
ANSWER_S: Final = 300.0
STOP_S: Final = 10.0


class Refused(Exception):
    """The server could not do what it was asked for."""


class Remote:
    """One conversation with the control port."""

    def __init__(self, ports: dict[str, Any]) -> None:
        self.ports = ports
        self._socket = socket.create_connection((ports["host"], ports["control_port"]), ANSWER_S)
        self._file = self._socket.makefile("rwb")

    def ask(self, do: str, **arguments: Any) -> Any:
        """Ask for something by its name; what came of it."""
        self._file.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._file.flush()
        answer = json.loads(self._file.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def __getattr__(self, do: str) -> Callable[..., Any]:
        """`remote.start(person=7, bot=100)` is `remote.ask("start", person=7, bot=100)`."""
        if do.startswith("_"):
            raise AttributeError(do)
        return lambda **arguments: self.ask(do, **arguments)

    def everything(self, which: str, since: int = 0) -> list[dict[str, Any]]:
        """The whole of one of the record's lists from an entry on, however long it is."""
        rows: list[dict[str, Any]] = []
        while page := self.ask("record", which=which, since=since + len(rows)):
            rows += page
        return rows

    def another(self) -> "Remote":
        """A second conversation, for when the first waits for an answer."""
        return Remote(self.ports)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def started(*options: str, port: int = 0, log: Path | None = None) -> Iterator[Remote]:
    """A server process that is ready; it ends with the block."""
    command = [sys.executable, "-m", "tests.telegram", "--port", str(port), "--until-eof", *options]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("ab")) if log else None
        process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors))
        stack.callback(end, process)
        assert process.stdout is not None
        remote = Remote(json.loads(process.stdout.readline()))
        stack.callback(remote.close)
        yield remote


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
