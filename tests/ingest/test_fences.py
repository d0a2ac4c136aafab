"""What keeps events from being lost, doubled or written by somebody else, each shown at the moment at which it matters."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.ingest import leases
from shared.db import inbox, sessions
from shared.db.connect import Raw, connect
from shared.failpoints import FailPoint
from tests.db.support import scalar
from tests.ingest.listening import ANN, BOB, TERMS, eventually, office
from tests.ingest.test_leases import add_bot, checkpoint, starts
from tests.stack import Stack, stack
from tests.stack import eventually as in_the_end
from tests.telegram.remote import Remote, started
from tests.world import World

#: A killed listener's bots are another's after so short a time.
OPTIONS: Final = ("--lease", "1", "--renew", "0.2", "--take-over", "0.2")
POINTS: Final[tuple[FailPoint, ...]] = ("listener.committing", "listener.committed")


@pytest.fixture(scope="module")
def telegram() -> Iterator[Remote]:
    with started() as remote:
        yield remote


@pytest.fixture
def listeners(database_url: str, tmp_path: Path, telegram: Remote) -> Iterator[Stack]:
    with stack(database_url, "amqp://nobody", tmp_path) as processes:
        ports = telegram.ports
        processes.environment = {
            "GATEPOST_TELEGRAM_SERVER": f"{ports['dc']}@{ports['host']}:{ports['port']}",
            "GATEPOST_TELEGRAM_SERVER_KEY": ports["public_key"],
        }
        yield processes


def test_what_is_told_again_is_stored_once(db: Raw) -> None:
    owner = uuid4()
    db.execute("INSERT INTO bot_session (bot_id, token) VALUES (3, 'x')")
    sessions.register(db, owner, name="owner", capacity=1, lease_s=60)
    [row] = sessions.lease(db, owner, take_over_s=5, limit=1)
    assert inbox.store(db, owner, [checkpoint(3, row.epoch, "once", 2)]).fresh == 1
    again = inbox.store(db, owner, [checkpoint(3, row.epoch, "once", 3)])
    assert (again.own, again.fresh) == ({3: row.epoch}, 0)
    assert starts(db) == ["once"]


def test_a_client_of_an_earlier_lease_of_the_same_listener_writes_nothing(db: Raw) -> None:
    owner = uuid4()
    db.execute("INSERT INTO bot_session (bot_id, token) VALUES (3, 'x')")
    sessions.register(db, owner, name="owner", capacity=1, lease_s=60)
    [first] = sessions.lease(db, owner, take_over_s=5, limit=1)
    sessions.release(db, owner, [3])
    [second] = sessions.lease(db, owner, take_over_s=5, limit=1)
    assert not inbox.store(db, owner, [checkpoint(3, first.epoch, "of the past", 9)]).own
    assert inbox.store(db, owner, [checkpoint(3, second.epoch, "of now", 2)]).own == {3: second.epoch}
    assert starts(db) == ["of now"]
    assert scalar(db, "SELECT pts FROM bot_session") == 2


@pytest.mark.parametrize("first", ["stale", "valid"])
def test_of_two_checkpoints_of_a_bot_in_one_statement_the_one_of_an_earlier_lease_writes_nothing(db: Raw, first: str) -> None:
    owner = uuid4()
    db.execute("INSERT INTO bot_session (bot_id, token) VALUES (3, 'x')")
    sessions.register(db, owner, name="owner", capacity=1, lease_s=60)
    [earlier] = sessions.lease(db, owner, take_over_s=5, limit=1)
    sessions.release(db, owner, [3])
    [now] = sessions.lease(db, owner, take_over_s=5, limit=1)
    both = {"stale": checkpoint(3, earlier.epoch, "of the past", 9), "valid": checkpoint(3, now.epoch, "of now", 2)}
    stored = inbox.store(db, owner, [both.pop(first), *both.values()])
    assert (stored.own, stored.fresh) == ({3: now.epoch}, 1)
    assert starts(db) == ["of now"]
    assert db.execute("SELECT access_hash FROM peer").fetchall() == [(2,)]
    assert scalar(db, "SELECT pts FROM bot_session") == 2


def test_what_is_told_twice_at_once_is_stored_once(db: Raw) -> None:
    owner = uuid4()
    db.execute("INSERT INTO bot_session (bot_id, token) VALUES (3, 'x')")
    sessions.register(db, owner, name="owner", capacity=1, lease_s=60)
    [row] = sessions.lease(db, owner, take_over_s=5, limit=1)
    assert inbox.store(db, owner, [checkpoint(3, row.epoch, "once", 2)] * 2).fresh == 1
    assert starts(db) == ["once"]


@pytest.mark.parametrize("point", POINTS)
def test_a_listener_killed_around_its_commit_has_lost_and_doubled_nothing(
    point: FailPoint, db: Raw, world: World, telegram: Remote, listeners: Stack
) -> None:
    """State and events are committed together: a state ahead of them loses them, one behind them only tells them again."""
    _, tg = add_bot(db, world, telegram)
    first = listeners.listener(*OPTIONS)
    in_the_end(lambda: tg in telegram.counts()["listening"], "it listens")
    telegram.start(person=ANN, bot=tg, payload="before")
    in_the_end(lambda: starts(db) == ["before"], "it comes in")

    listeners.arm(point)
    telegram.start(person=BOB, bot=tg, payload="at the point")
    assert listeners.reached(point) == first.pid
    first.kill()
    listeners.let_go(point)
    telegram.start(person=ANN, bot=tg, payload="after")

    listeners.listener(*OPTIONS)
    in_the_end(lambda: "after" in starts(db), "the next one has it")
    assert starts(db) == ["before", "at the point", "after"]


async def test_a_worker_that_finished_during_a_checkpoint_is_woken_for_it(database_url: str, db: Raw, world: World) -> None:
    """The checkpoint sees the bot as awake, since it began before the worker had ended; so it looks again afterwards."""
    async with office(database_url, db, world) as here:
        bot = here.bot()
        await here.listening(bot)
        db.execute("UPDATE bot_inbox SET awake = true")
        with connect(database_url, name="in the way") as other:
            with other.transaction():
                other.execute("SELECT FROM bot_session WHERE bot_id = %s FOR UPDATE", [bot])
                here.core.people.start(ANN, here.tg(bot), "meanwhile")
                await eventually(lambda: waits_for_a_lock(db), "the checkpoint waits")
                db.execute("UPDATE bot_inbox SET awake = false")
            await here.told(bot, "meanwhile")
            await eventually(lambda: scalar(db, "SELECT awake FROM bot_inbox WHERE bot_id = %s", bot), "it is awake")
        assert scalar(db, "SELECT count(*) FROM outbox WHERE key = %s", str(bot)) == 1


async def test_a_bot_that_is_dropped_when_the_lease_ends_is_waited_for_all_the_same(
    database_url: str, db: Raw, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the lease cancels the hand-over, and what this waits for must not be over for that: its commit is under way."""
    monkeypatch.setattr(leases, "DROP_AGAIN_S", 0.1)
    async with office(database_url, db, world) as here:
        bot = here.bot(key=True)
        desk = await here.listening(bot)
        client = desk.live[bot].client
        with capture_logs() as logs:
            with connect(database_url, name="in the way") as other, other.transaction():
                other.execute("SELECT FROM bot_session WHERE bot_id = %s FOR UPDATE", [bot])
                here.core.people.start(ANN, here.tg(bot), "under way")
                await eventually(lambda: waits_for_a_lock(db), "the checkpoint waits")
                client._under_way.add_done_callback(lambda _: logs.append({"event": "settled"}))
                db.execute("UPDATE bot SET disconnected = now() WHERE id = %s", [bot])
                db.execute(f"NOTIFY gatepost_listener, '{bot}'")
                await eventually(lambda: not desk.live, "it is dropped")
                db.execute("UPDATE listener SET expires_at = now()")
                await asyncio.sleep(TERMS.renew_s * 3)
            await eventually(lambda: "lease_over" in [log["event"] for log in logs], "the lease is over")
        events = [log["event"] for log in logs]
        assert events.index("settled") < events.index("lease_over")


async def test_what_is_pushed_before_it_is_known_where_updates_begin_says_nothing_of_it(database_url: str, db: Raw, world: World) -> None:
    """Telegram pushes from the moment of the login on. What such a push is numbered must not pass for how far updates are taken in."""
    async with office(database_url, db, world, slow_s={"GetState": 2.0}) as here:
        bot = here.bot(key=True)
        here.core.people.start(ANN, here.tg(bot), "missed")
        here.core.kill_keys(here.tg(bot))
        desk = here.open_desk()
        await eventually(lambda: "GetState" in here.core.record.methods(here.tg(bot)), "it has logged in again")
        here.core.people.start(BOB, here.tg(bot), "pushed")
        await here.told(bot, "pushed")
        await desk.stop()
        here.core.nasty.set(slow_s={})
        await here.listening(bot)
        await here.told(bot, "missed", "pushed")


def waits_for_a_lock(db: Raw) -> bool:
    sql = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(scalar(db, sql))
