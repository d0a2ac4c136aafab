"""The ledger process: what its actors do with a wake-up."""

import os
import socket
import threading
from collections.abc import Sequence
from uuid import UUID

import structlog

from services.ledger import purge, transfers
from shared.broker import worker
from shared.broker.rabbitmq import was_redelivered
from shared.db import commands
from shared.db.connect import BY_KEY, SESSION_LIMITS, Raw
from shared.failpoints import failpoint
from shared.messages import Wake, parse_purge_key

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

    decide = worker.on_database(decide_transfers, database_url, name="ledger", limits=BY_KEY, stop=stop)
    remove = worker.on_database(lambda db, keys, _: _purge(db, keys), database_url, name="ledger", limits=SESSION_LIMITS, stop=stop)
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
