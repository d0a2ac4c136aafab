"""Where it happens: two private services, our processes in the numbers of a small installation, and whoever restarts the dead."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pika
import psycopg
from pika.exceptions import AMQPError

from shared.db.migrate import migrate
from shared.local import Postgres, RabbitMQ, Services
from shared.local.ports import choose
from shared.messages import LEDGER, QUEUES
from tests.conftest import on_database
from tests.stack import Process, Stack, is_ready, stack

GATEWAYS: Final = 2
RELAYS: Final = 2

SWEEP_S: Final = 2.0
DEADLINE_S: Final = 3.0

DATABASE: Final = "chaos"
WATCH_S: Final = 0.02
BACK_S: Final = 90.0
BACK_POLL_S: Final = 0.1


@dataclass(slots=True)
class Stage:
    """Services and processes. What dies is started again at once, a gateway on its old port; `deaths` are those nobody ordered."""

    stack: Stack
    postgres: Postgres
    rabbitmq: RabbitMQ
    ports: tuple[int, ...]
    number_of_ledgers: int
    running: list[tuple[Process, tuple[str, ...]]] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Start every process and wait until all can work."""
        commands: list[tuple[str, ...]] = [("gateway", "--port", str(port), "--deadline", str(DEADLINE_S)) for port in self.ports]
        commands += [("relay", "--sweep", str(SWEEP_S))] * RELAYS + [("ledger",)] * self.number_of_ledgers
        self.running = [(self.stack.start(*command), command) for command in commands]
        self.wait_until_back()

    def watch(self) -> None:
        """Restart what dies, until closed; runs in a thread of its own."""
        while not self._closed.wait(WATCH_S):
            for place, (process, command) in enumerate(self.running):
                if not process.alive:
                    if process.popen.returncode != -signal.SIGKILL:
                        self.deaths.append(f"{process.name} ended by itself with {process.popen.returncode}; {process.log}")
                    self.running[place] = (self.stack.start(*command), command)

    def close(self) -> None:
        """Restart nothing any more."""
        self._closed.set()

    def ledgers(self) -> list[Process]:
        """The ledgers of this moment."""
        return [process for process, command in self.running if command[0] == "ledger"]

    def wait_until_back(self) -> float:
        """Wait until PostgreSQL and RabbitMQ answer, every gateway is ready and every ledger consumes. Returns when, in Unix seconds."""
        for role in ("gateway", "ledger"):
            self.wait_for(role)
        return time.time()

    def wait_for(self, role: str) -> None:
        """Wait until every process of this role can work. A relay listens nowhere; that it works shows in what it relays."""
        works: dict[str, Callable[[], bool]] = {
            "gateway": lambda: all(map(is_ready, self.ports)),
            "ledger": lambda: self._consumers() >= self.number_of_ledgers,
            "relay": lambda: True,
        }
        deadline = time.monotonic() + BACK_S
        while not works[role]():
            assert time.monotonic() < deadline, f"not every {role} works after {BACK_S:.0f} s"
            time.sleep(BACK_POLL_S)

    def _consumers(self) -> int:
        try:
            connection = pika.BlockingConnection(pika.URLParameters(self.rabbitmq.url))
        except (AMQPError, OSError):
            return 0
        try:
            return int(connection.channel().queue_declare(LEDGER, passive=True).method.consumer_count)
        except AMQPError:
            return 0
        finally:
            with contextlib.suppress(AMQPError):
                connection.close()


@contextlib.contextmanager
def stage(services: Services, folder: Path, *, ledgers: int) -> Iterator[Stage]:
    """A stage with an empty database and empty queues; nothing runs yet, and nothing does after the block."""
    assert services.postgres is not None, "chaos needs services that it may hurt"
    assert services.rabbitmq is not None, "chaos needs services that it may hurt"
    with psycopg.connect(services.database_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {DATABASE}")
    empty_queues(services.amqp_url)
    database_url = on_database(services.database_url, DATABASE)
    migrate(database_url)
    with stack(database_url, services.amqp_url, folder) as processes:
        made = Stage(processes, services.postgres, services.rabbitmq, choose(GATEWAYS), ledgers)
        watcher = threading.Thread(target=made.watch, name="watcher")
        try:
            made.start()
            watcher.start()
            yield made
        finally:
            made.close()
            if watcher.is_alive():
                watcher.join()


def empty_queues(amqp_url: str) -> None:
    """Leave nothing of an earlier run."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    for queue in QUEUES:
        connection.channel().queue_delete(queue)
    connection.close()
