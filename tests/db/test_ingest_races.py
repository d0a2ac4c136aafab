"""Interleavings of ingest turns with each other, with listeners and with transfers. Each is forced by a lock, or by the order of calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import permutations
from typing import Final
from uuid import UUID

import pytest

from services.ingest import apply
from shared.db import inbox, ingest
from shared.db.connect import BY_KEY, Raw, connect, pipelined
from shared.domain.leads import Action, LeadStatus
from shared.domain.transfers import Kind
from tests.db.support import DONE, accept, decide_alone, ending, threads, wait_for_blocked
from tests.db.test_purge import purge_everything
from tests.db.test_races import deadlocks
from tests.ingest.arrivals import Watch, arrive, clear, counters, journal, leads, owed, rows, sends, turn
from tests.ingest.test_apply import TEMPLATES, Scene, make
from tests.world import Account, World

WAIT, APPROVE = LeadStatus.WAIT, LeadStatus.APPROVE
LOCK_CAMPAIGN = "SELECT 1 FROM campaign WHERE id = %s FOR UPDATE"


@dataclass(frozen=True)
class Handover:
    """A scene, and who could have its campaign: another account with a bot in the chat."""

    scene: Scene
    to: Account
    new: Watch

    def transfer(self, db: Raw, *, keep: bool = True) -> UUID:
        return accept(db, Kind.CAMPAIGN, self.scene.owner, self.scene.campaign, self.to.token, keep=keep)


@pytest.fixture
def handover(db: Raw, world: World) -> Handover:
    scene = make(db, world)
    ben = world.account()
    return Handover(scene, ben, scene.watch.of(world.bot(ben, scene.chat)))


def woken(db: Raw) -> list[int]:
    return sorted(int(key) for (key,) in rows(db, "SELECT key FROM outbox WHERE wake = 'apply_events'"))


# Wake-ups


def test_what_is_taken_in_during_a_turn_is_announced_by_whoever_commits_last(db: Raw, database_url: str, world: World) -> None:
    """The listener's events are committed between the turn's read and its commit: only the turn can see that they wait."""
    scene = make(db, world)
    watch = scene.watch
    arrive(db, [watch.start(1, scene.payload())])
    with threads(1) as start, connect(database_url, name="holder") as holder:
        with holder.transaction():
            holder.execute(LOCK_CAMPAIGN, [scene.campaign])
            running = start(turn, database_url, scene.bot)
            wait_for_blocked(db, 1)
            arrive(db, [watch.join(2)], announce=True)
            assert woken(db) == []
        assert running.result() == 1

    assert woken(db) == [scene.bot]
    assert clear(db) == 1


def test_what_is_taken_in_after_a_turns_look_is_announced_by_the_listener(db: Raw, world: World) -> None:
    scene = make(db, world)
    arrive(db, [scene.watch.start(1, scene.payload())])
    apply.take_turn(db, [scene.bot])
    arrive(db, [scene.watch.join(2)])
    assert woken(db) == []

    assert inbox.announce(db, [scene.bot]) == 1
    assert inbox.announce(db, [scene.bot]) == 0
    assert woken(db) == [scene.bot]


def test_an_inbox_that_somebody_has_is_passed_over(db: Raw, database_url: str, world: World) -> None:
    scene, other = make(db, world), make(db, world)
    arrive(db, [scene.watch.start(1, scene.payload()), other.watch.start(1, other.payload())])
    with connect(database_url, name="other", limits=BY_KEY) as worker, pipelined(worker) as pipeline:
        assert len(ingest.take(worker, pipeline, [scene.bot], share=10)) == 1

        assert apply.take_turn(db, [scene.bot, other.bot]) == 1
        assert leads(db) == [(WAIT, "a")]
        pipeline.sync()

    assert clear(db) == 1


def test_two_bots_of_one_campaign_take_turns(db: Raw, database_url: str, world: World, handover: Handover) -> None:
    scene, new = handover.scene, handover.new
    db.execute(
        "INSERT INTO campaign_bot (campaign_id, bot_id, from_date, to_date) VALUES (%s, %s, now(), now())", [scene.campaign, new.bot]
    )
    arrive(db, [scene.watch.start(1, scene.payload()), scene.watch.join(2), new.join(2)])
    with threads(2) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_CAMPAIGN, [scene.campaign])
        start(turn, database_url, scene.bot)
        wait_for_blocked(db, 1)
        start(turn, database_url, new.bot)
        wait_for_blocked(db, 2)

    assert clear(db) == 0
    assert journal(db) == [(scene.bot, Action.JOIN, "paid"), (new.bot, Action.JOIN, "organic")]
    assert counters(db) == {"starts": 1, "confirms": 1, "n_approve": 1}
    assert deadlocks(db) == 0


def test_turns_that_want_the_same_campaigns_chats_and_lanes_do_not_deadlock(db: Raw, database_url: str, world: World) -> None:
    ann, chats = world.account(), [world.chat() for _ in range(6)]
    bots = [world.bot(ann, *chats) for _ in range(2)]
    campaigns = [world.campaign(ann, bots[number % 2], chat, **TEMPLATES) for number, chat in enumerate(chats)]
    for bot in bots:
        db.execute(
            """INSERT INTO campaign_bot (campaign_id, bot_id, from_date, to_date)
               SELECT id, %s, '2020-01-01', '2099-01-01' FROM campaign WHERE bot_id <> %s""",
            [bot, bot],
        )
    found = rows(db, "SELECT c.id, c.code, c.bot_id, tg_id FROM campaign c JOIN chat ON chat.id = c.chat_id ORDER BY c.id")
    dawn = Watch(0, 0).dawn
    for bot, order in zip(bots, (found, found[::-1]), strict=True):
        for _, code, holder, tg_id in order:
            watch = Watch(bot, tg_id, dawn=dawn)
            arrive(db, [watch.start(1, f"{code}-a")] if bot == holder else [])
            arrive(db, [watch.join(2), Watch(bot, tg_id - 1000, dawn=dawn).join(2)])
    with threads(2) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_CAMPAIGN, [campaigns[0]])
        for number, bot in enumerate(bots, 1):
            start(turn, database_url, bot)
            wait_for_blocked(db, number)

    assert clear(db) == 0
    assert leads(db) == [(APPROVE, "a")] * len(campaigns)
    assert deadlocks(db) == 0


# Transfers


@contextmanager
def campaign_held(db: Raw, database_url: str, campaign: int) -> Iterator[None]:
    """The campaign is locked: whoever comes for it waits, and they get it in the order in which they came."""
    with connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_CAMPAIGN, [campaign])
        yield


@pytest.mark.parametrize("first", ["turn", "transfer"])
def test_a_turn_and_a_transfer_come_for_a_campaign_at_once(
    db: Raw, database_url: str, world: World, handover: Handover, first: str
) -> None:
    """Whoever commits first, the event counts once, for the owner at its commit, in the epoch that then holds."""
    scene = handover.scene
    arrive(db, [Watch(scene.bot, scene.watch.chat, dawn=past(db)).start(0, scene.payload())])
    command = handover.transfer(db, keep=False)
    world.set("account", handover.to.id, pb_wait="https://new.example/")
    calls = [(turn, scene.bot), (decide_alone, command)]
    with threads(2) as start, campaign_held(db, database_url, scene.campaign):
        for number, (call, what) in enumerate(calls if first == "turn" else calls[::-1], 1):
            start(call, database_url, what)
            wait_for_blocked(db, number)

    assert ending(db, command) == DONE
    assert leads(db) == []
    written = rows(db, "SELECT account_id, epoch, status FROM delivery")
    assert written == ([(scene.owner.id, 0, WAIT)] if first == "turn" else [])
    assert rows(db, "SELECT epoch FROM lead") == ([(0,)] if first == "turn" else [])
    assert rows(db, "SELECT * FROM inbox_event") == []


def past(db: Raw) -> datetime:
    """A moment in which the campaign has been there for some time, well before any transfer."""
    db.execute("UPDATE campaign_bot SET from_date = from_date - interval '1 day'")
    db.execute("UPDATE campaign SET epoch_since = epoch_since - interval '1 day'")
    ((moment,),) = rows(db, "SELECT date_trunc('second', now()) - interval '30 s'")
    assert isinstance(moment, datetime)
    return moment


ORDERS: Final = tuple(permutations(("old", "new", "commit")))


@pytest.mark.parametrize("keep", [True, False], ids=["leads=1", "leads=0"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_whatever_comes_first_of_old_bot_new_bot_and_commit_a_change_counts_once(
    db: Raw, database_url: str, handover: Handover, order: tuple[str, ...], keep: bool
) -> None:
    """Both bots see one join, dated before the transfer."""
    old = Watch(handover.scene.bot, handover.scene.watch.chat, dawn=past(db))
    new = old.of(handover.new.bot)
    arrive(db, [old.start(0, handover.scene.payload())])
    clear(db)
    for step in order:
        if step == "commit":
            command = handover.transfer(db, keep=keep)
            decide_alone(database_url, command)
            assert ending(db, command) == DONE
        else:
            arrive(db, [(old if step == "old" else new).join(2)])
            clear(db)

    if keep:
        first, other = (new, old) if order == ("commit", "new", "old") else (old, new)
        assert sorted(journal(db)) == sorted([(first.bot, Action.JOIN, "paid"), (other.bot, Action.JOIN, "organic")])
        assert leads(db) == [(APPROVE, "a")]
        assert counters(db) == {"starts": 1, "confirms": 1, "n_approve": 1}
        assert owed(db) == [(WAIT, "a"), (APPROVE, "a")]
    else:
        hidden = order.index("old") < order.index("commit")
        assert journal(db) == [(bot, Action.JOIN, "organic") for bot in ((new.bot,) if hidden else (old.bot, new.bot))]
        assert (leads(db), counters(db)) == ([], {})


@pytest.mark.parametrize("keep", [True, False], ids=["leads=1", "leads=0"])
def test_after_a_transfer_starts_count_at_the_new_bot_and_the_old_one_answers(
    db: Raw, database_url: str, handover: Handover, keep: bool
) -> None:
    scene, new = handover.scene, handover.new
    past(db)
    decide_alone(database_url, handover.transfer(db, keep=keep))
    arrive(db, [scene.watch.start(5, scene.payload("late")), new.start(5, scene.payload("new"), person=8), new.join(6, person=8)])
    clear(db)

    assert leads(db) == [(APPROVE, "new")]
    assert sends(db) == [(new.bot, "welcome", "new"), (scene.bot, "moved", "late")]
    assert rows(db, "SELECT DISTINCT epoch FROM lead") == [(0 if keep else 1,)]


def test_a_campaign_that_came_to_the_bot_after_the_locks_were_taken_waits_for_the_next_turn(
    db: Raw, database_url: str, world: World, handover: Handover
) -> None:
    """The locks wait for another campaign; meanwhile the transfer commits, and what is read then names one that is not locked."""
    scene, new = handover.scene, handover.new
    other_chat = world.chat()
    other = world.campaign(handover.to, new.bot, other_chat)
    ((tg_id,),) = rows(db, "SELECT tg_id FROM chat WHERE id = %s", other_chat)
    old = Watch(scene.bot, scene.watch.chat, dawn=past(db))
    arrive(db, [Watch(new.bot, tg_id, dawn=old.dawn).join(1), old.of(new.bot).join(2)])
    with threads(1) as start:
        with campaign_held(db, database_url, other):
            running = start(turn, database_url, new.bot)
            wait_for_blocked(db, 1)
            decide_alone(database_url, handover.transfer(db))
        assert running.result() == 1

    assert woken(db) == [new.bot]
    assert clear(db) == 1
    assert rows(db, "SELECT campaign_id FROM fact ORDER BY 1") == [(scene.campaign,), (other,)]


def test_what_a_transfer_drops_is_purged_but_for_what_is_still_owed(db: Raw, database_url: str, world: World, handover: Handover) -> None:
    scene = handover.scene
    world.set("campaign", scene.campaign, pb_hold="")
    moment = Watch(scene.bot, scene.watch.chat, dawn=past(db))
    arrive(db, [moment.start(0, scene.payload()), moment.request(1), moment.join(2), moment.start(3, scene.payload(), person=8)])
    clear(db)
    assert len(rows(db, "SELECT * FROM fact")) == 4
    decide_alone(database_url, handover.transfer(db, keep=False))
    purge_everything(db)

    for table in ("lead", "journal", "fact", "daily"):
        assert rows(db, f"SELECT * FROM {table}") == []
    assert rows(db, "SELECT state, status FROM delivery ORDER BY id") == [("pending", WAIT), ("pending", APPROVE), ("pending", WAIT)]
