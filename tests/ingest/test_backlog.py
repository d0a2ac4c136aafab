"""Bots that come back with much to tell: it is stored in reasonable time, and in parts."""

import asyncio
from uuid import UUID, uuid4

from services.ingest.committer import BATCH_EVENTS_MAX, Committer
from services.ingest.database import Database
from services.ingest.lease import Lease, clock
from shared.db import inbox, sessions
from shared.db.connect import BY_KEY, Raw, connect
from shared.db.inbox import Checkpoint
from shared.domain.events import Event, EventKind
from tests.db.support import scalar
from tests.telegram.tl import now


def lease(db: Raw, listener: UUID, bots: int) -> dict[int, int]:
    """So many bots' sessions: their epochs."""
    db.execute("INSERT INTO bot_session (bot_id, token) SELECT n, 'x' FROM generate_series(1, %s) AS n", [bots])
    sessions.register(db, listener, name="listener", capacity=bots, lease_s=60)
    return {row.bot: row.epoch for row in sessions.lease(db, listener, take_over_s=5, limit=bots)}


def starts(bot: int, epoch: int, number: int) -> Checkpoint:
    events = {n.to_bytes(16, "big"): Event(bot=bot, kind=EventKind.START, at=now(), subscriber=n, message=n) for n in range(number)}
    return Checkpoint(bot=bot, epoch=epoch, state=None, events=events)


def test_many_events_are_stored_within_the_limit_of_a_statement(database_url: str, db: Raw) -> None:
    listener, number = uuid4(), 40_000
    epochs = lease(db, listener, 1)
    with connect(database_url, name="listener", limits=BY_KEY) as own:
        assert inbox.store(own, listener, [starts(1, epochs[1], number)]).fresh == number


async def test_backlogs_of_many_bots_are_stored_some_at_a_time(database_url: str, db: Raw) -> None:
    own = Lease(uuid4())
    own.extend(clock(), 60)
    bots, each = 7, BATCH_EVENTS_MAX // 3
    epochs = lease(db, own.listener, bots)
    async with Database(database_url, name="listener", limits=BY_KEY) as database:
        committer = Committer(database, own)
        stored = [committer.commit(starts(bot, epoch, each)) for bot, epoch in epochs.items()]
        running = asyncio.create_task(committer.run())
        await asyncio.gather(*stored)
        running.cancel()
    assert scalar(db, "SELECT count(*) FROM inbox_event") == bots * each
    assert scalar(db, "SELECT max(n) FROM (SELECT count(*) AS n FROM inbox_event GROUP BY arrived) AS statement") < BATCH_EVENTS_MAX + each
