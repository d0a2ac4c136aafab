"""The ledger process: what its actors do with a wake-up."""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import psycopg
import structlog
from psycopg.pq import TransactionStatus

from services.ledger import purge, transfers
from shared.broker import worker
from shared.broker.rabbitmq import was_redelivered
from shared.db import commands
from shared.db.connect import PLANNED_ONCE, SESSION_LIMITS, Raw, connect
from shared.failpoints import failpoint
from shared.messages import Wake, parse_purge_key

#: Between two tries to reach a database that is away.
RECONNECT_S: Final = 0.5

log = structlog.get_logger("ledger")


def run(database_url: str, amqp_url: str, *, stop: threading.Event) -> None:
    """Decide transfers and purge leads until `stop` is set."""
    name = f"ledger@{socket.gethostname()}:{os.getpid()}"
    owed: list[UUID] = []  # attempts to give back once the database is there again

    def decide_transfers(db: Raw, keys: Sequence[str], swept: bool) -> None:  # noqa: FBT001  # a wake-up's two arguments
        if swept or was_redelivered():
            _decide_carefully(db, keys, name, owed)
        else:
            _decide(db, keys, name)

    decide = _with_database(database_url, stop, decide_transfers, PLANNED_ONCE)
    remove = _with_database(database_url, stop, lambda db, keys, _: _purge(db, keys), SESSION_LIMITS)
    worker.run(amqp_url, {Wake.DECIDE_TRANSFERS: decide, Wake.PURGE_LEADS: remove}, stop)


def _decide(db: Raw, keys: Sequence[str], name: str) -> None:
    """Decide what waits, all together: the way of a first delivery."""
    failpoint("ledger.taken")
    finished = transfers.decide_waiting(db, worker=name)
    failpoint("ledger.committed")
    log.info("commands_finished", count=finished, named=len(keys), careful=False)


def _decide_carefully(db: Raw, keys: Sequence[str], name: str, owed: list[UUID]) -> None:
    """Decide what waits one by one, those with the fewest attempts first.

    A message that was delivered before, or that a sweep sent again, may be here because one of its commands kills workers.
    """
    failpoint("ledger.taken")
    waiting = commands.get_untried(db, transfers.BATCH_COMMANDS_MAX)
    ids = dict.fromkeys([*waiting, *(UUID(key) for key in keys)])
    finished = transfers.decide_alone(db, list(ids), worker=name, owed=owed)
    failpoint("ledger.committed")
    log.info("commands_finished", count=finished, named=len(keys), careful=True)


def _purge(db: Raw, keys: Sequence[str]) -> None:
    for key in keys:
        purge.take_turn(db, *parse_purge_key(key))


def _with_database(
    url: str, stop: threading.Event, work: Callable[[Raw, Sequence[str], bool], None], limits: Mapping[str, int | str]
) -> worker.Actor:
    """An actor with a connection of its own, renewed when it breaks.

    While the database is away the message waits with it: there is nothing else to be done, and what was not committed can
    be done again.
    """
    connection: list[Raw] = []

    def actor(keys: Sequence[str], swept: bool) -> None:  # noqa: FBT001  # a wake-up's two arguments
        while not stop.is_set():
            try:
                if not connection or connection[0].closed:
                    connection[:] = [connect(url, name="ledger", limits=limits)]
                return work(connection[0], keys, swept)
            except psycopg.OperationalError as error:
                log.warning("database_away", error=type(error).__name__)
                if connection and not connection[0].closed:
                    connection[0].close()
                stop.wait(RECONNECT_S)
            except Exception:
                if connection and connection[0].info.transaction_status is not TransactionStatus.IDLE:
                    connection[0].close()
                raise
        raise InterruptedError("stopped before the work was done; the sweep finds it")

    return actor
