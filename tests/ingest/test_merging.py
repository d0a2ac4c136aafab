"""A group and its supergroup that were met as two chats become one, whatever overtakes the news of it."""

import pytest

from services.ingest import apply
from shared.db.connect import BY_KEY, Raw, connect
from shared.domain.events import ChatType, Seat
from shared.domain.leads import Action, LeadStatus
from tests.db.support import threads, wait_for_blocked
from tests.db.test_races import deadlocks
from tests.ingest.arrivals import Watch, arrive, clear, counters, journal, leads, owed, rows, turn
from tests.ingest.test_apply import Scene
from tests.ingest.test_seats import GROUP, SUPERGROUP, group_scene
from tests.world import World

OUT, _, ADMIN = Seat
WAIT, HOLD, APPROVE, CANCEL, TRASH = LeadStatus


@pytest.fixture
def scene(db: Raw, world: World) -> Scene:
    return group_scene(db, world)


def test_what_overtakes_a_migration_counts_for_the_groups_campaign(db: Raw, scene: Scene) -> None:
    old, new = scene.watch, Watch(scene.bot, SUPERGROUP, dawn=scene.watch.dawn)
    arrive(db, [old.start(1, scene.payload()), old.start(1, scene.payload(), person=8)])
    clear(db)
    arrive(db, [new.request(4), new.join(5), new.leave(6), new.join(5, person=8), new.kick(7, person=8)])
    clear(db)
    assert leads(db) == [(WAIT, "a")] * 2

    arrive(db, [old.migrated(3, SUPERGROUP)])
    clear(db)

    assert leads(db) == [(CANCEL, "a"), (TRASH, "a")]
    assert sorted(status for status, _ in owed(db)) == [WAIT, WAIT, HOLD, APPROVE, APPROVE, CANCEL, TRASH]
    assert [entry[1:] for entry in journal(db)] == [
        (Action.REQUEST, "paid"),
        (Action.JOIN, "paid"),
        (Action.JOIN, "paid"),
        (Action.LEAVE, "paid"),
        (Action.KICK, "paid"),
    ]
    assert counters(db) == {"starts": 2, "holds": 1, "confirms": 2, "unsubs": 2, "n_cancel": 1, "n_trash": 1}
    assert rows(db, "SELECT DISTINCT chat_id FROM journal") == [(scene.chat,)]


def test_the_other_bots_of_the_chat_are_woken_for_what_they_have_again(db: Raw, world: World, scene: Scene) -> None:
    other = world.bot(scene.owner, scene.chat)
    world.campaign(scene.owner, other, scene.chat)
    new = Watch(other, SUPERGROUP, dawn=scene.watch.dawn)
    arrive(db, [new.join(5)])
    clear(db)
    arrive(db, [scene.watch.migrated(3, SUPERGROUP)])

    apply.take_turn(db, [scene.bot])

    assert rows(db, "SELECT key FROM outbox WHERE wake = 'apply_events'") == [(str(other),)]
    assert clear(db) == 1
    assert rows(db, "SELECT count(*) FROM fact") == [(1,)]
    assert [entry[1:] for entry in journal(db)] == [(Action.JOIN, "organic")]


def test_a_turn_that_waits_for_a_migration_leaves_what_was_in_the_second_chat_for_the_next(
    db: Raw, database_url: str, scene: Scene, world: World
) -> None:
    old, new = scene.watch, Watch(scene.bot, SUPERGROUP, dawn=scene.watch.dawn)
    other = new.of(world.bot(scene.owner, scene.chat))
    arrive(db, [new.seat(1, OUT, ADMIN), old.start(1, scene.payload())])
    clear(db)
    arrive(db, [old.migrated(3, SUPERGROUP), new.join(4), other.join(4)])
    with threads(2) as start, connect(database_url, name="holder") as holder:
        with holder.transaction():
            holder.execute("SELECT 1 FROM campaign FOR UPDATE")
            start(turn, database_url, scene.bot)
            # The merge has its chats before it wants the campaigns.
            wait_for_blocked(db, 1)
            late = start(turn, database_url, other.bot)
            wait_for_blocked(db, 2)
        assert late.result() == 0

    clear(db)
    assert leads(db) == [(APPROVE, "a")]
    assert rows(db, "SELECT DISTINCT chat_id FROM journal") == [(scene.chat,)]
    assert deadlocks(db) == 0


def test_a_turn_keeps_the_chats_it_writes_of(db: Raw, database_url: str, scene: Scene) -> None:
    """A merge waits for a turn that has found the second chat; what that turn writes is seen by the merge."""
    old, new = scene.watch, Watch(scene.bot, SUPERGROUP, dawn=scene.watch.dawn)
    arrive(db, [old.start(1, scene.payload())])
    clear(db)
    arrive(db, [new.of(scene.bot).seat(1, OUT, ADMIN)])
    clear(db)
    with connect(database_url, name="holder", limits=BY_KEY) as holder, threads(1) as start:
        with holder.transaction():
            holder.execute("SELECT 1 FROM chat WHERE tg_id = %s FOR KEY SHARE", [SUPERGROUP])
            arrive(db, [old.migrated(3, SUPERGROUP)])
            merging = start(turn, database_url, scene.bot)
            wait_for_blocked(db, 1)
            holder.execute(
                """INSERT INTO journal (bot_id, chat_id, subscriber, action, at)
                   SELECT %s, id, 5000000001, 0, %s FROM chat WHERE tg_id = %s""",
                [scene.bot, new.at(4), SUPERGROUP],
            )
        assert merging.result() == 2
    assert leads(db) == [(APPROVE, "a")]


def test_turns_that_migrate_the_same_chats_do_not_deadlock(db: Raw, database_url: str, world: World, scene: Scene) -> None:
    """Each has its first merge before it when it waits for the campaign, unless it took the chats of both merges first."""
    second = world.chat()
    world.set("chat", second, tg_id=GROUP - 1, type="group")
    bots = (scene.bot, world.bot(scene.owner, scene.chat, second))
    world.campaign(scene.owner, bots[1], second)
    arrive(db, [Watch(scene.bot, chat).seat(1, OUT, ADMIN) for chat in (SUPERGROUP, SUPERGROUP - 1)])
    clear(db)
    for bot, numbers in zip(bots, ((0, 1), (1, 0)), strict=True):
        arrive(
            db,
            [Watch(bot, GROUP - n, dawn=scene.watch.dawn).migrated(second, SUPERGROUP - n) for second, n in enumerate(numbers)],
        )
    with threads(2) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute("SELECT 1 FROM campaign FOR UPDATE")
        for number, bot in enumerate(bots, 1):
            start(turn, database_url, bot)
            wait_for_blocked(db, number)

    assert clear(db) == 0
    assert deadlocks(db) == 0
    assert rows(db, "SELECT count(*) FROM chat WHERE former_tg_id IS NOT NULL") == [(2,)]


def test_a_seat_without_its_chat_leaves_the_type_as_it_is(db: Raw, scene: Scene) -> None:
    new = Watch(scene.bot, SUPERGROUP)
    arrive(db, [new.seat(1, OUT, ADMIN, title="We", chat_type=ChatType.SUPERGROUP), new.seat(2, ADMIN, ADMIN)])
    clear(db)
    arrive(db, [new.seat(3, ADMIN, ADMIN)])
    clear(db)

    assert rows(db, "SELECT type, title FROM chat WHERE tg_id = %s", SUPERGROUP) == [("supergroup", "We")]
