"""Our processes, started as processes, to be killed, stopped and held at fail points."""

import base64
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pika
import pika.exceptions

from shared.failpoints import FailPoint
from shared.local.ports import choose
from shared.messages import LEDGER

#: The tests' own; whatever a test seals, the processes open.
SECRET_KEY: Final = base64.b64encode(b"the tests' secret key, 32 bytes!").decode()
WAIT_S: Final = 30.0
POLL_S: Final = 0.01


def eventually(condition: Callable[[], object], what: str, *, wait_s: float = WAIT_S) -> None:
    """Wait until the condition holds; fail with `what` if it does not come to hold."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come to hold within {wait_s} s: {what}")
        time.sleep(POLL_S)


@dataclass(slots=True)
class Process:
    """One process of ours."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    base_url: str = ""

    @property
    def pid(self) -> int:
        return self.popen.pid

    def send(self, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(which)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.popen.wait(WAIT_S)

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        return self.popen.wait(WAIT_S)

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None


@dataclass(slots=True)
class Stack:
    """Starts processes on one database and one broker, and ends those still running at the end."""

    database_url: str
    amqp_url: str
    folder: Path
    processes: list[Process] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    """Further settings, such as the Telegram server in Telegram's place."""

    @property
    def failpoints(self) -> Path:
        return self.folder / "failpoints"

    def start(self, command: str, *options: str) -> Process:
        """`python -m services COMMAND OPTIONS`, not waited for."""
        self.failpoints.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{command}-{len(self.processes)}.log"
        environment = {
            **os.environ,
            "GATEPOST_DATABASE_URL": self.database_url,
            "GATEPOST_AMQP_URL": self.amqp_url,
            "GATEPOST_FAILPOINTS": str(self.failpoints),
            "GATEPOST_SECRET_KEYS": SECRET_KEY,
            "GATEPOST_MODE": "test",
            **self.environment,
        }
        with log.open("wb") as output:
            popen = subprocess.Popen([sys.executable, "-m", "services", command, *options], env=environment, stdout=output, stderr=output)
        process = Process(command, popen, log)
        self.processes.append(process)
        return process

    def gateway(self, *options: str, port: int | None = None) -> Process:
        """A gateway that is ready."""
        port = port or choose(1)[0]
        process = self.start("gateway", "--port", str(port), *options)
        process.base_url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_ready(port) or not process.alive, "the gateway is ready")
        assert process.alive, process.log.read_text()
        return process

    def relay(self, *options: str) -> Process:
        """A relay. It publishes what waits as soon as it is up."""
        return self.start("relay", *options)

    def ledger(self) -> Process:
        """A ledger worker. It takes what waits as soon as it is up."""
        return self.start("ledger")

    def listener(self, *options: str) -> Process:
        """A listener. It takes free sessions as soon as it is up."""
        return self.start("listener", *options)

    def ingest(self) -> Process:
        """An ingest worker. It takes what waits as soon as it is up."""
        return self.start("ingest")

    def wait_for_consumers(self, number: int) -> None:
        """Wait until so many workers consume the ledger's queue."""
        eventually(lambda: count_consumers(self.amqp_url) == number, f"{number} workers consume")

    def end(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes:
            if process.alive:
                process.kill()

    def arm(self, point: FailPoint) -> None:
        """Hold the next process that reaches this point."""
        self.failpoints.mkdir(parents=True, exist_ok=True)
        (self.failpoints / point).touch()

    def disarm(self, point: FailPoint) -> None:
        """Hold nobody there any more."""
        (self.failpoints / point).unlink(missing_ok=True)

    def reached(self, point: FailPoint, *, wait_s: float = WAIT_S) -> int:
        """Wait until a process stands at the point; its pid."""
        file = self.failpoints / f"{point}.reached"
        eventually(file.exists, f"{point} is reached", wait_s=wait_s)
        return int(file.read_text())

    def let_go(self, point: FailPoint) -> None:
        """Let the process that stands there go on."""
        (self.failpoints / f"{point}.reached").unlink(missing_ok=True)


def is_ready(port: int) -> bool:
    """Whether a gateway answers /readyz with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def count_consumers(amqp_url: str) -> int:
    """How many workers consume the ledger's queue; 0 while it does not exist."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    try:
        return int(connection.channel().queue_declare(LEDGER, passive=True).method.consumer_count)
    except pika.exceptions.ChannelClosedByBroker:
        return 0
    finally:
        connection.close()


@contextlib.contextmanager
def stack(database_url: str, amqp_url: str, folder: Path) -> Iterator[Stack]:
    """A stack whose processes end with the block."""
    running = Stack(database_url, amqp_url, folder)
    try:
        yield running
    finally:
        running.end()
