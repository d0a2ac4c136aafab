"""Processes beside the one that measures: Gatepost's own, and the benchmarks' helpers."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from benchmarks.ground import Ground
from shared.local.ports import LOOPBACK, choose
from shared.sealing import new_key

READY_S: Final = 30.0
POLL_S: Final = 0.02

#: Nothing that is measured is secret.
SECRET_KEYS: Final = new_key()


class Processes:
    """Started here, killed here."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._running: list[subprocess.Popen[str]] = []

    def start(self, module: str, *arguments: str, database_url: str = "") -> subprocess.Popen[str]:
        """`python -m MODULE ARGUMENTS`, to be talked to by lines; its log is in the state folder."""
        environment = {
            **os.environ,
            "GATEPOST_DATABASE_URL": database_url,
            "GATEPOST_AMQP_URL": self._ground.amqp_url,
            "GATEPOST_SECRET_KEYS": SECRET_KEYS,
        }
        log = self._ground.folder / f"{module.rpartition('.')[2]}-{arguments[0] if arguments else ''}.log".replace("/", "_")[-80:]
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if module.startswith("benchmarks") else output,
                stderr=output,
                text=True,
            )
        self._running.append(process)
        return process

    def gatepost(self, database_url: str) -> int:
        """A gateway, a relay and a ledger, one of each. Returns the gateway's port."""
        self.start("services", "relay", database_url=database_url)
        self.start("services", "ledger", database_url=database_url)
        return self.gateway(database_url)

    def gateway(self, database_url: str) -> int:
        """A gateway alone. Returns its port."""
        port = choose(1)[0]
        self.start("services", "gateway", "--port", str(port), database_url=database_url)
        self.await_answer(port, "/readyz")
        return port

    def await_answer(self, port: int, path: str) -> None:
        """Wait until the server answers with 200."""
        deadline = time.monotonic() + READY_S
        while not _answers(port, path):
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._running):
                raise RuntimeError(f"a process did not start; see the logs in {self._ground.folder}")
            time.sleep(POLL_S)

    def end(self) -> None:
        """Kill what runs."""
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


@contextmanager
def processes(ground: Ground) -> Iterator[Processes]:
    """Processes that end with the block."""
    running = Processes(ground)
    try:
        yield running
    finally:
        running.end()


def say_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None, "it is a pipe"
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None, "it is a pipe"
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{_name(process.args)} died")
    return line


def _name(arguments: object) -> str:
    return " ".join(map(str, arguments[1:4])) if isinstance(arguments, Sequence) else str(arguments)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
