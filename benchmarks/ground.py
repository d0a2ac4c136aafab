"""What a measurement stands on: private servers with every durability setting on, and a fresh database whenever it wants one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from shared.broker.rabbitmq import Broker
from shared.db.connect import Raw, connect
from shared.db.migrate import migrate
from shared.local import Postgres, services
from shared.local.packages import Say

#: Without these a figure would be a lie about what a commit costs.
DURABILITY: Final = ("fsync", "synchronous_commit", "full_page_writes")
SCHEMA: Final = "bench_schema"


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers of a run, the folder for what its processes say, and where progress goes."""

    postgres: Postgres
    amqp_url: str
    folder: Path
    say: Say

    def url(self, database: str) -> str:
        """Where one of the databases is."""
        return f"{self.postgres.url.rpartition('/')[0]}/{database}"

    def create(self, name: str, *, template: str = SCHEMA) -> str:
        """A database with the template's rows, in place of what had that name. Returns its address.

        The checkpoint before it and the copy through the log leave every page written since the last checkpoint, so that no
        measurement pays for the full-page images of another, and none starts on cold pages.
        """
        with self._server() as server:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            server.execute("CHECKPOINT")
            server.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")
        return self.url(name)

    def exists(self, name: str) -> bool:
        """Whether this run has made it already."""
        with self._server() as server:
            return server.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is not None

    def drop(self, name: str) -> None:
        """Remove a database, and whoever is still connected to it."""
        with self._server() as server:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def durability(self) -> dict[str, str]:
        """The settings every promise rests on, as the servers have them.

        Raises:
            AssertionError: one of them is off.
        """
        with self._server() as server:
            shown = {name: str(server.execute(f"SHOW {name}").fetchall()[0][0]) for name in DURABILITY}
        assert set(shown.values()) == {"on"}, f"a durability setting is off: {shown}"
        broker = Broker(self.amqp_url)
        assert broker.confirm_delivery, "messages are published without confirms"
        return {**shown, "publisher confirms": "on", "queues": str(broker._build_queue_arguments("ledger")["x-queue-type"])}  # noqa: SLF001

    def _server(self) -> Raw:
        return connect(self.url("postgres"), name="bench", limits={})


@contextmanager
def ground(state: Path, say: Say) -> Iterator[Ground]:
    """Servers for as long as the block runs, with one migrated database to copy."""
    with services(state, say) as running:
        assert running.postgres is not None, "the servers are private"
        here = Ground(running.postgres, running.amqp_url, state, say)
        remove_all(here)
        migrate(here.create(SCHEMA, template="template1"))
        try:
            yield here
        finally:
            remove_all(here)


def remove_all(here: Ground) -> None:
    """Remove the databases of this run, or of one that was killed."""
    with psycopg.connect(here.url("postgres"), autocommit=True) as server:
        names = [row[0] for row in server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench_%'")]
    for name in names:
        here.drop(name)
