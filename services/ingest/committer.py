"""Commits what the clients of this process take in: one statement for all that have something at the moment."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import psycopg
import structlog

from services.ingest.database import Database
from services.ingest.lease import Lease
from shared.db import inbox
from shared.db.connect import EXPECTED, Raw
from shared.db.inbox import Checkpoint
from shared.failpoints import failpoint

#: Bots whose checkpoints one statement takes.
BATCH_BOTS_MAX: Final = 100

#: Events that one statement takes, unless a single checkpoint has more: bots with a backlog must not keep the others waiting, nor the
#: statement run into its limit.
BATCH_EVENTS_MAX: Final = 2_000

#: Seconds for which a batch gathers, if the one before was of more than one bot. Alone, a checkpoint goes at once.
GATHER_S: Final = 0.005

#: Seconds between two tries while the database is away; the first is short.
AWAY_S: Final = (0.1, 1.0)

log = structlog.get_logger("listener")


class Fenced(Exception):
    """The session is not this listener's any more, or this process commits nothing more; the checkpoint is not known to be written."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    checkpoint: Checkpoint
    committed: "asyncio.Future[None]"


class Committer:
    """One for the process, whatever the number of bots."""

    def __init__(self, db: Database, lease: Lease) -> None:
        self._db = db
        self._lease = lease
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._crowded = False
        self._failed = False

    def commit(self, checkpoint: Checkpoint) -> "asyncio.Future[None]":
        """Done once the checkpoint is committed, whoever waits for it. A bot gives its next one after that.

        The future's exception is Fenced if the session is lost, or `run` has failed.
        """
        one = _Waiting(checkpoint, asyncio.get_running_loop().create_future())
        if self._failed:
            _tell(one, Fenced())
        else:
            self._queue.put_nowait(one)
        return one.committed

    async def run(self) -> None:
        """Commit until cancelled.

        1. Take what waits, and a little more if many are at it.
        2. Store it in one statement, again and again while the database is away and the lease lasts.
        3. Tell those who wait.
        4. Look once more for bots of which it was not sure that a worker will come.

        Raises:
            whatever is no fault of the database. Nobody is left waiting then: who waits for a commit cannot be ended.
        """
        while True:
            batch = await self._gather()
            try:
                await self._settle(batch)
            except Exception:
                self._fail(batch)
                raise

    def _fail(self, batch: Sequence[_Waiting]) -> None:
        self._failed = True
        for one in batch:
            _tell(one, Fenced())
        while not self._queue.empty():
            _tell(self._queue.get_nowait(), Fenced())

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        try:
            stored = await self._store([one.checkpoint for one in batch])
        except psycopg.Error as error:
            await self._settle_apart(batch, error)
            return
        for one in batch:
            _tell(one, None if stored.own.get(one.checkpoint.bot) == one.checkpoint.epoch else Fenced())
        if stored.unsure:
            await self._look_again(stored.unsure)

    async def _settle_apart(self, batch: Sequence[_Waiting], error: psycopg.Error) -> None:
        """What the database refuses of one bot must not hold up the others."""
        if len(batch) == 1:
            log.error("checkpoint_refused", bot=batch[0].checkpoint.bot, error=type(error).__name__)
            _tell(batch[0], error)
            return
        for one in batch:
            await self._settle([one])

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        if self._crowded:
            await asyncio.sleep(GATHER_S)
        events = len(batch[0].checkpoint.events)
        while len(batch) < BATCH_BOTS_MAX and events < BATCH_EVENTS_MAX and not self._queue.empty():
            batch.append(self._queue.get_nowait())
            events += len(batch[-1].checkpoint.events)
        self._crowded = len(batch) > 1
        return batch

    async def _store(self, checkpoints: Sequence[Checkpoint]) -> inbox.Stored:
        tries = 0
        while not self._lease.over:
            try:
                return await self._db.run(_store, self._lease.listener, checkpoints)
            except EXPECTED as error:
                log.warning("checkpoint_waits", bots=len(checkpoints), error=type(error).__name__)
                await asyncio.sleep(AWAY_S[min(tries, 1)])
                tries += 1
        return inbox.Stored({}, 0, ())

    async def _look_again(self, bots: Sequence[int]) -> None:
        try:
            await self._db.run(inbox.announce, bots)
        except psycopg.OperationalError as error:
            log.warning("announcement_left_to_the_sweep", bots=len(bots), error=type(error).__name__)


def _store(db: Raw, listener: UUID, checkpoints: Sequence[Checkpoint]) -> inbox.Stored:
    failpoint("listener.committing")
    stored = inbox.store(db, listener, checkpoints)
    failpoint("listener.committed")
    return stored


def _tell(one: _Waiting, error: Exception | None) -> None:
    if one.committed.done():
        return
    if error is None:
        one.committed.set_result(None)
    else:
        one.committed.set_exception(error)
