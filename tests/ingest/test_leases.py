"""Whose bots are whose: shares, hand-over, take-over; and that one who has lost a bot neither writes nor sends for it."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from services.ingest.lease import GuardedSocket, Lease, LeaseOver, clock
from services.ingest.leases import Terms
from services.ingest.session import token_place
from shared.db import inbox, sessions
from shared.db.connect import Raw
from shared.db.inbox import Checkpoint, UpdateState
from shared.domain.shares import fair_share
from tests.ingest.listening import ANN, SEALER, eventually, office
from tests.ingest.test_parse import message, read
from tests.stack import Stack, stack
from tests.stack import eventually as in_the_end
from tests.telegram.remote import Remote, started
from tests.world import World

#: As short as those of listeners in a test's own loop.
OPTIONS: Final = ("--lease", "3", "--renew", "0.3", "--take-over", "0.5", "--catch-up", "0.5")

At = tuple[str, Raw, World]


@pytest.fixture
def at(database_url: str, db: Raw, world: World) -> At:
    return database_url, db, world


# Shares


@pytest.mark.parametrize(
    ("capacities", "sessions", "shares"),
    [
        ([10], 4, [4]),
        ([10], 40, [10]),
        ([10, 10], 10, [5, 5]),
        ([10, 10], 9, [5, 5]),
        ([10, 10, 10], 0, [0, 0, 0]),
        ([2, 10], 10, [2, 8]),
        ([2, 3, 10, 10], 19, [2, 3, 7, 7]),
        ([2, 3], 19, [2, 3]),
    ],
)
def test_a_fair_share(capacities: list[int], sessions: int, shares: list[int]) -> None:
    assert [fair_share(own, capacities, sessions) for own in capacities] == shares
    assert sum(shares) >= min(sessions, sum(capacities))


async def test_a_second_listener_gets_half_without_a_login_or_a_moment_of_two(at: At) -> None:
    async with office(*at, one_connection_per_key=True) as here:
        bots = [here.bot(key=True) for _ in range(10)]
        first = await here.listening(*bots)
        second = here.open_desk()
        await eventually(lambda: (len(first.live), len(second.live)) == (5, 5), "each has half")
        assert sorted([*first.live, *second.live]) == bots
        for bot in bots:
            here.core.people.start(ANN, here.tg(bot), "code")
        await eventually(lambda: all(here.starts(bot) == ["code"] for bot in bots), "everything comes in")
        await second.stop()
        await eventually(lambda: len(first.live) == 10, "the first has all again")
        methods = here.core.record.methods()
        assert "ImportBotAuthorization" not in methods, "no key was destroyed by being used twice"


async def test_what_is_over_everybodys_capacity_waits(at: At) -> None:
    async with office(*at) as here:
        bots = [here.bot(key=True) for _ in range(5)]
        small = Terms(lease_s=3, renew_s=0.3, take_over_s=0.5, capacity=2)
        first, second = here.open_desk(terms=small), here.open_desk(terms=small)
        await eventually(lambda: (len(first.live), len(second.live)) == (2, 2), "both are full")
        third = here.open_desk()
        await eventually(lambda: {*first.live, *second.live, *third.live} == set(bots), "the third takes the rest")


async def test_a_new_bot_is_taken_when_it_is_announced(at: At) -> None:
    async with office(*at) as here:
        desk = await here.listening(here.bot(key=True))
        bot = here.bot(key=True)
        here.db.execute(f"NOTIFY gatepost_listener, '{bot}'")
        await eventually(lambda: bot in desk.live, "it is taken")


# Fencing


def checkpoint(bot: int, epoch: int, payload: str, pts: int) -> Checkpoint:
    event = read(message(f"/start {payload}"))
    assert event is not None
    return Checkpoint(
        bot=bot, epoch=epoch, state=UpdateState(pts, 1, 0, event.at), events={payload.encode().ljust(16): event}, peers={ANN: pts}
    )


def test_a_checkpoint_is_taken_from_the_owner_alone(db: Raw) -> None:
    old, new = uuid4(), uuid4()
    db.execute("INSERT INTO bot_session (bot_id, token) VALUES (3, 'x')")
    sessions.register(db, old, name="old", capacity=1, lease_s=60)
    sessions.register(db, new, name="new", capacity=1, lease_s=60)
    [row] = sessions.lease(db, old, take_over_s=5, limit=1)
    assert inbox.store(db, old, [checkpoint(3, row.epoch, "first", 2)]).own == {3: row.epoch}
    assert not inbox.store(db, new, [checkpoint(3, row.epoch, "not mine", 3)]).own
    assert sessions.lease(db, new, take_over_s=5, limit=1) == []

    db.execute("UPDATE listener SET expires_at = now() - interval '1 s' WHERE id = %s", [old])
    assert not inbox.store(db, old, [checkpoint(3, row.epoch, "too late", 4)]).own
    assert sessions.lease(db, new, take_over_s=5, limit=1) == [], "who was alive a moment ago may be sending"
    assert not sessions.renew(db, old, lease_s=60)

    db.execute("UPDATE listener SET expires_at = now() - interval '6 s' WHERE id = %s", [old])
    [taken] = sessions.lease(db, new, take_over_s=5, limit=1)
    assert (taken.epoch, taken.state and taken.state.pts) == (row.epoch + 1, 2)
    sessions.register(db, old, name="old", capacity=1, lease_s=60)
    for epoch in (row.epoch, taken.epoch):
        assert not inbox.store(db, old, [checkpoint(3, epoch, "of the past", 5)]).own
        owner = sessions.Owner(old, 3, epoch)
        assert not sessions.keep_key(db, owner, b"k", dc=2, address="a", port=1)
        assert not sessions.drop_key(db, owner, "dead")
        assert not sessions.put_off(db, owner, 1, "flood")
        assert not sessions.revoke(db, owner, b"x", "revoked")
        assert sessions.get(db, owner) is None
    assert inbox.store(db, new, [checkpoint(3, taken.epoch, "second", 6)]).own == {3: taken.epoch}
    sessions.release(db, new, [3])
    [again] = sessions.lease(db, new, take_over_s=5, limit=1)
    assert not inbox.store(db, new, [checkpoint(3, taken.epoch, "of an earlier time", 7)]).own
    assert not sessions.drop_key(db, sessions.Owner(new, 3, taken.epoch), "dead")
    assert sessions.drop_key(db, sessions.Owner(new, 3, again.epoch), "dead")
    assert [payload for (payload,) in db.execute("SELECT payload FROM inbox_event ORDER BY id")] == ["first", "second"]
    assert db.execute("SELECT access_hash FROM peer").fetchall() == [(6,)]
    assert db.execute("SELECT count(*) FROM seen").fetchone() == (2,)


async def test_who_has_lost_a_session_drops_the_bot_without_a_word(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot(key=True)
        desk = await here.listening(bot)
        here.db.execute(
            "UPDATE bot_session SET listener_id = %s, epoch = epoch + 1, retry_at = 'infinity' WHERE bot_id = %s", [uuid4(), bot]
        )
        here.core.people.start(ANN, here.tg(bot), "for somebody else")
        await eventually(lambda: not desk.live and not here.core.lines, "it is dropped")
        assert here.inbox(bot) == []
        assert here.session(bot)["trouble"] == ""


# The deadline


def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    lease = Lease(uuid4())
    assert lease.over
    lease.extend(clock() - 10, 30)
    assert not lease.over
    assert 19 < lease.left_s <= 20
    lease.extend(clock() - 31, 30)
    assert lease.over


async def test_no_byte_leaves_after_the_deadline_not_even_one_that_waited_for_its_turn() -> None:
    lease = Lease(uuid4())
    lease.extend(clock(), 60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = GuardedSocket(lease, socket.AF_INET)
        ours.connect(server.getsockname())
        theirs, _ = server.accept()
        ours.setblocking(False)
        _, writer = await asyncio.open_connection(sock=ours)
        writer.write(b"x" * 50_000_000)
        assert writer.transport.get_write_buffer_size() > 0, "the kernel has taken what it can"
        lease.extend(clock() - 60, 1)
        taken = await asyncio.to_thread(receive_all, theirs)
        assert 0 < taken < 50_000_000
        writer.write(b"more")
        assert writer.transport.is_closing()
        with GuardedSocket(lease, socket.AF_INET) as another, pytest.raises(LeaseOver):
            another.connect(server.getsockname())
        writer.close()


def receive_all(connection: socket.socket) -> int:
    """Bytes until the other side hangs up."""
    with connection:
        connection.settimeout(5)
        total = 0
        with suppress(ConnectionResetError, TimeoutError):
            while got := len(connection.recv(1_000_000)):
                total += got
        return total


# Processes


@pytest.fixture
def telegram() -> Iterator[Remote]:
    with started() as remote:
        yield remote


@pytest.fixture
def running(database_url: str, tmp_path: Path, telegram: Remote) -> Iterator[Stack]:
    """Processes without a broker: a listener has no need of one."""
    with stack(database_url, "amqp://nobody", tmp_path) as processes:
        ports = telegram.ports
        processes.environment = {
            "GATEPOST_TELEGRAM_SERVER": f"{ports['dc']}@{ports['host']}:{ports['port']}",
            "GATEPOST_TELEGRAM_SERVER_KEY": ports["public_key"],
        }
        yield processes


def add_bot(db: Raw, world: World, telegram: Remote) -> tuple[int, int]:
    """A bot of ours with its session, and its number at Telegram."""
    bot = world.bot(world.account())
    row = db.execute("SELECT tg_id FROM bot WHERE id = %s", [bot]).fetchone()
    assert row is not None
    token = f"{row[0]}:secret"
    telegram.add_bot(token=token)
    db.execute("INSERT INTO bot_session (bot_id, token) VALUES (%s, %s)", [bot, SEALER.seal(token.encode(), token_place(bot))])
    return bot, row[0]


def starts(db: Raw) -> list[str]:
    return [payload for (payload,) in db.execute("SELECT payload FROM inbox_event ORDER BY id")]


def test_a_stopped_listener_that_comes_back_has_lost_its_bots_and_says_nothing_more(
    db: Raw, world: World, telegram: Remote, running: Stack
) -> None:
    bot, tg = add_bot(db, world, telegram)
    telegram.nasty(one_connection_per_key=True)
    old = running.listener(*OPTIONS)
    in_the_end(lambda: tg in telegram.counts()["listening"], "the first listener has it")
    telegram.start(person=7, bot=tg, payload="first")
    in_the_end(lambda: starts(db) == ["first"], "it comes in")
    [owner] = owners(db, bot)

    old.send(signal.SIGSTOP)
    its = len(telegram.everything("connections"))
    telegram.start(person=8, bot=tg, payload="while stopped")
    new = running.listener(*OPTIONS)
    in_the_end(lambda: starts(db) == ["first", "while stopped"], "the second has taken over")
    assert owners(db, bot) != [owner]
    said = [one["bytes_in"] for one in telegram.everything("connections")[:its]]

    old.send(signal.SIGCONT)
    in_the_end(lambda: "lease_over" in old.log.read_text(), "the first has noticed")
    new.stop()
    telegram.start(person=9, bot=tg, payload="after all")
    in_the_end(lambda: starts(db) == ["first", "while stopped", "after all"], "the first may begin anew")
    assert [one["bytes_in"] for one in telegram.everything("connections")[:its]] == said, "not a byte after its deadline"
    assert [call["method"] for call in telegram.everything("calls")].count("ImportBotAuthorization") == 1, "the key has lived through it"


def owners(db: Raw, bot: int) -> list[Any]:
    return [owner for (owner,) in db.execute("SELECT listener_id FROM bot_session WHERE bot_id = %s", [bot])]


def test_a_killed_listener_is_taken_over_and_a_stopped_one_hands_back_at_once(
    db: Raw, world: World, telegram: Remote, running: Stack
) -> None:
    bot, tg = add_bot(db, world, telegram)
    first = running.listener(*OPTIONS)
    in_the_end(lambda: db.execute("SELECT pts FROM bot_session").fetchone() != (None,), "the first listener has it")
    second = running.listener(*OPTIONS)
    first.kill()
    telegram.start(person=7, bot=tg, payload="while nobody listens")
    in_the_end(lambda: starts(db) == ["while nobody listens"], "the second has taken over")
    assert second.stop() == 0
    assert owners(db, bot) == [None]
    assert db.execute("SELECT count(*) FROM listener WHERE expires_at > now()").fetchone() == (0,)
    assert "secret" not in first.log.read_text() + second.log.read_text()


def test_a_listener_needs_to_know_telegram(running: Stack) -> None:
    running.environment = {}
    lost = running.listener()
    assert lost.popen.wait(20) == 1
    assert "GATEPOST_TELEGRAM_API_ID" in lost.log.read_text()
