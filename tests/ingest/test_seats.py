"""Chats as bots learn of them, where bots stand in them, groups that become supergroups, and owners who link the service bot."""

import psycopg
import pytest

from services.ingest import apply, careful
from shared.db.connect import Raw
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.events import ChatType, Seat
from shared.domain.leads import Action, LeadStatus
from tests.ingest.arrivals import PERSON, Watch, arrive, clear, journal, leads, rows
from tests.ingest.test_apply import Scene, make
from tests.world import World

OUT, MEMBER, ADMIN = Seat
GROUP, SUPERGROUP = -777, -1_000_000_000_777


@pytest.fixture
def scene(db: Raw, world: World) -> Scene:
    return make(db, world)


def standing(db: Raw, bot: int) -> list[tuple[int, bool]]:
    return rows(db, "SELECT tg_id, admin FROM bot_chat JOIN chat ON chat.id = chat_id WHERE bot_id = %s ORDER BY tg_id", bot)


def lost(db: Raw) -> list[tuple[int, dict[str, str]]]:
    return rows(db, "SELECT account_id, params FROM notice WHERE kind = 'bot_admin_lost' ORDER BY id")


# Learning


def test_a_chat_is_learned_with_the_bots_seat_and_keeps_its_present_name(db: Raw, world: World) -> None:
    bot = world.bot(world.account())
    channel, group = Watch(bot, -1_000_000_000_555), Watch(bot, -556)
    arrive(
        db,
        [channel.seat(1, OUT, ADMIN, title="News", chat_type=ChatType.CHANNEL), group.seat(1, OUT, MEMBER, title="We", chat_type="group")],
    )
    clear(db)
    assert rows(db, "SELECT tg_id, type, title FROM chat ORDER BY 1") == [(-1_000_000_000_555, "channel", "News"), (-556, "group", "We")]
    assert standing(db, bot) == [(-1_000_000_000_555, True), (-556, False)]

    arrive(db, [channel.seat(2, ADMIN, ADMIN, title="New News", chat_type="supergroup"), group.seat(2, MEMBER, OUT, chat_type="group")])
    clear(db)
    assert rows(db, "SELECT tg_id, type, title FROM chat ORDER BY 1") == [
        (-1_000_000_000_555, "supergroup", "New News"),
        (-556, "group", "We"),
    ]
    assert standing(db, bot) == [(-1_000_000_000_555, True), (-556, False)]


def test_what_is_older_than_what_is_known_of_a_seat_changes_nothing(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    for events in ([watch.seat(5, ADMIN, MEMBER)], [watch.seat(3, OUT, ADMIN)], [watch.seat(4, MEMBER, ADMIN), watch.seat(1, ADMIN, OUT)]):
        arrive(db, events)
        clear(db)
        assert standing(db, scene.bot) == [(watch.chat, False)]
    assert rows(db, "SELECT changed FROM bot_chat") == [(watch.at(5),)]


def test_what_happened_in_the_second_of_the_last_change_counts(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    db.execute("UPDATE bot_chat SET changed = %s + interval '0.9 s'", [watch.at(5)])
    arrive(db, [watch.seat(5, ADMIN, MEMBER)])
    clear(db)

    assert standing(db, scene.bot) == [(watch.chat, False)]


# Losing a seat


def test_an_owner_is_told_once_of_each_loss(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    ((title, username),) = rows(db, "SELECT title, username FROM chat, bot WHERE chat.id = %s AND bot.id = %s", scene.chat, scene.bot)
    told = (scene.owner.id, {"title": f"@{username}", "chat": title})
    for second, before, after, expected in (
        (1, ADMIN, ADMIN, []),
        (2, ADMIN, MEMBER, [told]),
        (3, MEMBER, OUT, [told]),
        (1.5, ADMIN, OUT, [told]),
        (4, OUT, ADMIN, [told]),
        (5, ADMIN, OUT, [told, told]),
    ):
        arrive(db, [watch.seat(second, before, after)])
        clear(db)
        assert lost(db) == expected

    arrive(db, [watch.seat(6, OUT, ADMIN), watch.seat(7, ADMIN, OUT), watch.seat(8, OUT, ADMIN)])
    clear(db)
    assert (lost(db), standing(db, scene.bot)) == ([told, told], [(watch.chat, True)])


def test_nobody_is_told_where_no_campaign_tracks_the_chat(db: Raw, world: World, scene: Scene) -> None:
    other = world.bot(scene.owner, scene.chat)
    world.set("campaign", scene.campaign, status=2)
    arrive(db, [scene.watch.seat(1, ADMIN, OUT), scene.watch.of(other).seat(1, ADMIN, MEMBER)])
    clear(db)

    assert lost(db) == []


def test_the_service_bots_own_seats_and_chats_are_nobodys(db: Raw) -> None:
    watch = Watch(SERVICE_BOT, -1_000_000_000_888)
    arrive(db, [watch.seat(1, OUT, ADMIN), watch.join(2), watch.request(3), watch.migrated(4, -1_000_000_000_889)])

    clear(db)

    assert rows(db, "SELECT * FROM bot_chat") == rows(db, "SELECT * FROM journal") == []
    assert rows(db, "SELECT * FROM inbox_event") == []


# A group becomes a supergroup


def group_scene(db: Raw, world: World) -> Scene:
    scene = make(db, world)
    world.set("chat", scene.chat, tg_id=GROUP, type="group", title="We")
    return Scene(scene.owner, scene.bot, scene.chat, scene.campaign, scene.code, Watch(scene.bot, GROUP))


def test_a_group_that_becomes_a_supergroup_keeps_its_campaign(db: Raw, world: World) -> None:
    scene = group_scene(db, world)
    old, new = scene.watch, Watch(scene.bot, SUPERGROUP, dawn=scene.watch.dawn)
    arrive(db, [old.start(1, scene.payload()), old.join(2), new.leave(4), old.migrated(3, SUPERGROUP, title="We all")])
    clear(db)
    arrive(db, [old.request(2)])
    clear(db)
    arrive(
        db,
        [
            old.migrated(3, SUPERGROUP, title="Old name"),
            new.seat(5, ADMIN, ADMIN, chat_type="supergroup"),
            old.seat(2, ADMIN, ADMIN, title="Old"),
        ],
    )
    clear(db)

    assert rows(db, "SELECT id, tg_id, former_tg_id, type, title FROM chat") == [(scene.chat, SUPERGROUP, GROUP, "supergroup", "We all")]
    assert leads(db) == [(LeadStatus.CANCEL, "a")]
    assert [entry[1:] for entry in journal(db)] == [(Action.JOIN, "paid"), (Action.REQUEST, "paid"), (Action.LEAVE, "paid")]
    assert standing(db, scene.bot) == [(SUPERGROUP, True)]


def test_a_supergroup_that_was_learned_first_becomes_one_with_its_group(db: Raw, world: World) -> None:
    scene = group_scene(db, world)
    other = world.bot(scene.owner, scene.chat)
    new = Watch(scene.bot, SUPERGROUP, dawn=scene.watch.dawn)
    arrive(db, [new.join(1), new.seat(2, ADMIN, MEMBER, chat_type="supergroup", title="We"), new.of(other).seat(2, OUT, ADMIN)])
    clear(db)
    ((second,),) = rows(db, "SELECT id FROM chat WHERE tg_id = %s", SUPERGROUP)
    later = world.campaign(scene.owner, other, second)
    assert lost(db) == []

    arrive(db, [scene.watch.migrated(3, SUPERGROUP)])
    clear(db)

    assert rows(db, "SELECT id, tg_id, former_tg_id, type, title FROM chat") == [(scene.chat, SUPERGROUP, GROUP, "supergroup", "We")]
    assert rows(db, "SELECT DISTINCT chat_id FROM campaign") == [(scene.chat,)]
    assert rows(db, "SELECT DISTINCT chat_id FROM journal") == [(scene.chat,)]
    assert (standing(db, scene.bot), standing(db, other)) == ([(SUPERGROUP, False)], [(SUPERGROUP, True)])
    assert later


@pytest.mark.parametrize("known", [False, True])
def test_a_migration_of_which_the_group_was_not_known_is_kept(db: Raw, world: World, known: bool) -> None:
    bot = world.bot(world.account())
    group, new = Watch(bot, GROUP), Watch(bot, SUPERGROUP)
    if known:
        arrive(db, [new.seat(1, OUT, ADMIN, title="We", chat_type="supergroup")])
        clear(db)
    arrive(db, [group.migrated(2, SUPERGROUP, title="We")])
    clear(db)
    arrive(db, [group.join(1), new.leave(3)])
    clear(db)

    assert rows(db, "SELECT tg_id, former_tg_id, type, title FROM chat") == [(SUPERGROUP, GROUP, "supergroup", "We")]
    assert rows(db, "SELECT count(DISTINCT chat_id) FROM journal") == [(1,)]


def test_a_migration_that_would_give_a_bot_two_campaigns_in_a_chat_is_parked_and_harms_nobody(db: Raw, world: World) -> None:
    scene = group_scene(db, world)
    new = Watch(scene.bot, SUPERGROUP, dawn=scene.watch.dawn)
    arrive(db, [new.seat(1, OUT, ADMIN)])
    clear(db)
    ((second,),) = rows(db, "SELECT id FROM chat WHERE tg_id = %s", SUPERGROUP)
    later = world.campaign(scene.owner, scene.bot, second)
    arrive(db, [scene.watch.migrated(2, SUPERGROUP), scene.watch.start(3, scene.payload())])
    with pytest.raises(psycopg.errors.UniqueViolation):
        apply.take_turn(db, [scene.bot])

    for _ in range(careful.ATTEMPTS_MAX + 1):
        careful.apply_waiting(db, [scene.bot], owed=[])

    assert leads(db) == [(LeadStatus.WAIT, "a")]
    ((parked, trouble),) = rows(db, "SELECT parked, trouble FROM inbox_event")
    assert parked
    assert "UniqueViolation" in trouble

    world.set("campaign", later, status=2)
    db.execute("UPDATE inbox_event SET parked = false")
    clear(db)
    assert rows(db, "SELECT id, former_tg_id FROM chat") == [(scene.chat, GROUP)]


# Owners


def test_a_link_code_works_once_at_the_service_bot_alone(db: Raw, world: World, scene: Scene) -> None:
    ben = world.account()
    world.set("account", scene.owner.id, link_code="codeforann")
    world.set("account", ben.id, link_code="codeforben")
    service = Watch(SERVICE_BOT, 0)
    arrive(
        db, [scene.watch.start(1, "link-codeforann"), service.start(2, "link-codeforann"), service.start(3, "link-codeforann", person=8)]
    )
    arrive(db, [service.start(4, "", person=9), service.start(5, "codeforben", person=9), service.stopped(6, person=9)])
    clear(db)

    owners = dict(rows(db, "SELECT id, owner_tg_id FROM account"))
    assert owners == {scene.owner.id: PERSON, ben.id: None}
    assert rows(db, "SELECT id, link_code FROM account WHERE owner_linked IS NOT NULL") == [(scene.owner.id, None)]
    assert rows(db, "SELECT account_id, params FROM notice WHERE kind = 'linked'") == [(scene.owner.id, {})]
    assert rows(db, "SELECT bot_id, subscriber FROM blocked") == [(SERVICE_BOT, 9)]
