"""The ledger process: what its actors do with a wake-up."""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import psycopg
import structlog

from services.ledger import purge, transfers
from shared.broker import worker
from shared.broker.rabbitmq import was_redelivered
from shared.db import commands
from shared.db.connect import Raw, connect
from shared.failpoints import failpoint
from shared.messages import Wake, parse_purge_key

#: Between two tries to reach a database that is away.
RECONNECT_S: Final = 0.5

log = structlog.get_logger("ledger")


def run(database_url: str, amqp_url: str, *, stop: threading.Event) -> None:
    """Decide transfers and purge leads until `stop` is set."""
    name = f"ledger@{socket.gethostname()}:{os.getpid()}"
    decide = _with_database(database_url, stop, lambda db, keys, swept: _decide(db, keys, name, careful=swept or was_redelivered()))
    remove = _with_database(database_url, stop, lambda db, keys, _: _purge(db, keys))
    worker.run(amqp_url, {Wake.DECIDE_TRANSFERS: decide, Wake.PURGE_LEADS: remove}, stop)


def _decide(db: Raw, keys: Sequence[str], name: str, *, careful: bool) -> None:
    """Decide what waits: together, or one by one when careful.

    A message that was delivered before, or that a sweep sent, may be here because one of its commands kills workers.
    Then each is tried alone, the named ones and whatever else waits, those with the fewest attempts first.
    """
    failpoint("ledger.taken")
    if careful:
        named = [UUID(key) for key in keys]
        waiting = commands.get_untried(db, transfers.BATCH_COMMANDS_MAX)
        finished = transfers.decide_alone(db, list(dict.fromkeys([*waiting, *named])), worker=name)
    else:
        finished = transfers.decide_waiting(db, worker=name)
    failpoint("ledger.committed")
    log.info("commands_finished", count=finished, named=len(keys), careful=careful)


def _purge(db: Raw, keys: Sequence[str]) -> None:
    for key in keys:
        purge.take_turn(db, *parse_purge_key(key))


def _with_database(url: str, stop: threading.Event, work: Callable[[Raw, Sequence[str], bool], None]) -> worker.Actor:
    """An actor with a connection of its own, renewed when it breaks.

    While the database is away the message waits with it: there is nothing else to be done, and what was not committed can
    be done again.
    """
    connection: list[Raw] = []

    def actor(keys: Sequence[str], swept: bool) -> None:  # noqa: FBT001  # a wake-up's two arguments
        while not stop.is_set():
            try:
                if not connection or connection[0].closed:
                    connection[:] = [connect(url, name="ledger")]
                return work(connection[0], keys, swept)
            except psycopg.OperationalError as error:
                log.warning("database_away", error=type(error).__name__)
                if connection and not connection[0].closed:
                    connection[0].close()
                stop.wait(RECONNECT_S)
        raise InterruptedError("stopped before the work was done; the sweep finds it")

    return actor
