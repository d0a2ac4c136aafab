"""What a turn makes of the events it finds. (`test_cells.py` has every cell of the table, told by Telegram.)"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

import pytest

from services.ingest import apply
from shared.db.connect import Raw
from shared.domain.leads import MOVED_ANSWER, Action, LeadStatus
from tests.ingest.arrivals import PERSON, SECOND, Watch, arrive, clear, counters, held, journal, leads, owed, rows, sends
from tests.world import Account, World

WAIT, HOLD, APPROVE, CANCEL, TRASH = LeadStatus
TEMPLATES: Final[dict[str, Any]] = {
    f"pb_{status.name.lower()}": f"https://track.example/{status.name}?c={{click}}" for status in LeadStatus
}


@dataclass(frozen=True)
class Scene:
    """An account with a bot that has a campaign in a chat."""

    owner: Account
    bot: int
    chat: int
    campaign: int
    code: str
    watch: Watch

    def payload(self, click: str = "a") -> str:
        return f"{self.code}-{click}"


def make(db: Raw, world: World, **settings: Any) -> Scene:
    owner, chat = world.account(), world.chat()
    bot = world.bot(owner, chat)
    campaign = world.campaign(owner, bot, chat, **{**TEMPLATES, **settings})
    ((code, tg_id),) = rows(db, "SELECT code, tg_id FROM campaign c JOIN chat ON chat.id = c.chat_id WHERE c.id = %s", campaign)
    return Scene(owner, bot, chat, campaign, code, Watch(bot, tg_id))


@pytest.fixture
def scene(db: Raw, world: World) -> Scene:
    return make(db, world)


def test_a_life_from_start_to_leave(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    arrive(db, [watch.start(1, scene.payload()), watch.request(2), watch.join(3), watch.leave(4)])

    assert clear(db) == 4

    assert leads(db) == [(CANCEL, "a")]
    assert owed(db) == [(WAIT, "a"), (HOLD, "a"), (APPROVE, "a"), (CANCEL, "a")]
    assert held(db) == []
    assert journal(db) == [(scene.bot, Action.REQUEST, "paid"), (scene.bot, Action.JOIN, "paid"), (scene.bot, Action.LEAVE, "paid")]
    assert sends(db) == [(scene.bot, "welcome", "a")]
    assert counters(db) == {"starts": 1, "holds": 1, "confirms": 1, "unsubs": 1, "n_cancel": 1}
    assert rows(db, "SELECT * FROM inbox_event") == []


def test_what_comes_late_changes_what_was_written(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    for event in (watch.leave(4), watch.join(3), watch.start(1, scene.payload()), watch.kick(2), watch.request(2)):
        arrive(db, [event])
        clear(db)

    assert leads(db) == [(CANCEL, "a")]
    assert [entry[1:] for entry in journal(db)] == [
        (Action.KICK, "paid"),
        (Action.REQUEST, "paid"),
        (Action.JOIN, "paid"),
        (Action.LEAVE, "paid"),
    ]
    assert counters(db) == {"starts": 1, "holds": 1, "confirms": 1, "unsubs": 1, "n_cancel": 1}
    assert owed(db)[-1] == (CANCEL, "a")
    assert held(db) == [(HOLD, "superseded")]
    assert rows(db, "SELECT postbacks, max(number) FROM lead JOIN delivery ON lead_id = lead.id GROUP BY 1") == [(3, 3)]


def test_what_comes_twice_counts_once(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    life = [watch.start(1, scene.payload()), watch.request(2), watch.join(3)]
    for _ in range(2):
        arrive(db, life)
        clear(db)

    assert len(journal(db)) == 2
    assert len(owed(db)) == 3


def test_an_event_that_is_in_the_inbox_twice_counts_once(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    life = [watch.start(1, scene.payload()), watch.join(3)]
    for _ in range(3):
        db.execute("TRUNCATE seen")
        arrive(db, [life[0], life[1]])
        db.execute("TRUNCATE seen")
        arrive(db, life)
        clear(db)

    assert (len(journal(db)), len(owed(db)), len(sends(db))) == (1, 2, 1)


# What a start says


def test_a_start_without_a_code_of_ours_is_nothing(db: Raw, scene: Scene) -> None:
    payloads = ["", "nobody01", "nobody01-a", "-", "CODE-a", "code with space", "x" * 64, "{}", '"', "\\"]
    arrive(db, [scene.watch.start(1, payload, person=person) for person, payload in enumerate(payloads, 1)])

    assert clear(db) == len(payloads)

    assert (leads(db), owed(db), sends(db), rows(db, "SELECT * FROM fact")) == ([], [], [], [])


def test_a_code_counts_only_at_the_bot_that_holds_its_campaign(db: Raw, world: World, scene: Scene) -> None:
    other = world.bot(scene.owner, scene.chat)
    arrive(db, [scene.watch.of(other).start(1, scene.payload())])
    clear(db)

    assert (leads(db), sends(db)) == ([], [])


def test_all_64_characters_of_a_payload_are_kept(db: Raw, scene: Scene) -> None:
    click = ("-_aZ9" * 20)[: 64 - len(scene.code) - 1]
    arrive(db, [scene.watch.start(1, scene.payload(click))])
    clear(db)

    assert leads(db) == [(WAIT, click)]
    assert rows(db, "SELECT url FROM delivery") == [(f"https://track.example/WAIT?c={click}",)]


def test_an_empty_click_replaces_none_and_is_owed_as_it_is(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    arrive(db, [watch.start(1, scene.code), watch.start(2, scene.payload("b")), watch.start(3, scene.code)])
    clear(db)

    assert leads(db) == [(WAIT, "b")]
    assert owed(db) == [(WAIT, ""), (WAIT, "b")]
    assert [click for _, _, click in sends(db)] == ["", "b", "b"]


HOSTILE: Final = (
    "'; DROP TABLE lead; --",
    "{click}",
    'back\\slash"quote"',
    "NULL",
    "{}",
    ",",
    "a\nb",
    "\U0001f600" * 40,
    "",
    "%00",
    "{a,b}",
    "&c=x#",
)


def test_a_hostile_name_is_a_name(db: Raw, world: World) -> None:
    scene = make(db, world, pb_wait="https://track.example/?u={username}&c={click}")
    people = dict(enumerate(HOSTILE, 1))
    arrive(db, [scene.watch.start(1, scene.payload(), person=person, username=name) for person, name in people.items()])
    arrive(db, [replace(scene.watch.join(2, person=person), username=name) for person, name in people.items()])
    clear(db)

    for table in ("lead", "journal", "send"):
        assert dict(rows(db, f"SELECT subscriber, username FROM {table}")) == people
    urls = rows(db, "SELECT url FROM delivery JOIN lead ON lead.id = lead_id WHERE delivery.status = 0 ORDER BY subscriber")
    assert [url for (url,) in urls] == [f"https://track.example/?u={quote(name, safe='')}&c=a" for name in HOSTILE]


def test_a_lead_has_the_name_that_was_seen_last(db: Raw, scene: Scene) -> None:
    for second, name in ((5, "second"), (2, "first"), (9, ""), (12, "third")):
        arrive(db, [scene.watch.start(second, scene.payload(), username=name)])
        clear(db)
        assert rows(db, "SELECT username FROM lead") == [(name if name not in {"", "first"} else "second",)]


# Campaigns that were paused, deleted, moved


def test_a_start_while_paused_does_nothing_and_changes_are_silent(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    db.execute("INSERT INTO campaign_pause VALUES (%s, %s, %s)", [scene.campaign, watch.at(10), watch.at(20)])
    arrive(
        db,
        [watch.start(1, scene.payload()), watch.start(15, scene.payload("b")), watch.join(16), watch.start(15, scene.payload(), person=7)],
    )
    clear(db)

    assert leads(db) == [(APPROVE, "a")]
    assert (owed(db), held(db)) == ([(WAIT, "a")], [(APPROVE, "campaign paused")])
    assert len(sends(db)) == 1


def test_a_deleted_campaign_counts_nothing_and_its_chat_is_the_bots_own(db: Raw, world: World, scene: Scene) -> None:
    watch = scene.watch
    world.set("campaign", scene.campaign, status=2, deleted=watch.at(10))
    arrive(db, [watch.start(1, scene.payload()), watch.start(11, scene.payload("b")), watch.join(12)])
    clear(db)

    assert leads(db) == [(WAIT, "a")]
    assert journal(db) == [(scene.bot, Action.JOIN, "organic")]


def moved(db: Raw, world: World, scene: Scene, second: float) -> int:
    """The campaign goes to another bot of the same owner, as a transfer leaves it; the bot."""
    new = world.bot(scene.owner, scene.chat)
    at = scene.watch.at(second)
    db.execute("UPDATE campaign_bot SET to_date = %s WHERE campaign_id = %s", [at, scene.campaign])
    db.execute("INSERT INTO campaign_bot (campaign_id, bot_id, from_date) VALUES (%s, %s, %s)", [scene.campaign, new, at])
    world.set("campaign", scene.campaign, bot_id=new)
    return new


def test_the_old_bot_answers_a_moved_code_for_thirty_days(db: Raw, world: World, scene: Scene) -> None:
    new = moved(db, world, scene, 10)
    last = 10 + MOVED_ANSWER / SECOND - 1
    arrive(
        db,
        [
            scene.watch.start(11, scene.payload("b")),
            scene.watch.start(last, scene.payload("c")),
            scene.watch.start(last + 1, scene.payload("d")),
        ],
    )
    arrive(db, [scene.watch.start(9, scene.payload("a")), scene.watch.of(new).start(11, scene.payload("n"))])
    clear(db)

    assert sorted(sends(db)) == [(scene.bot, "moved", "b"), (scene.bot, "moved", "c"), (scene.bot, "welcome", "a"), (new, "welcome", "n")]
    assert leads(db) == [(WAIT, "n")]


def test_an_old_bot_that_may_not_or_cannot_says_nothing(db: Raw, world: World, scene: Scene) -> None:
    moved(db, world, scene, 10)
    world.set("bot", scene.bot, answers_moved=False)
    arrive(db, [scene.watch.start(11, scene.payload()), scene.watch.start(9, scene.payload("b"))])
    clear(db)
    assert sends(db) == [(scene.bot, "welcome", "b")]

    world.set("bot", scene.bot, answers_moved=True, disconnected=scene.watch.at(0))
    arrive(db, [scene.watch.start(12, scene.payload()), scene.watch.start(8, scene.payload("c"))])
    clear(db)
    assert sends(db) == [(scene.bot, "welcome", "b")]
    assert leads(db) == [(WAIT, "b")]


def test_each_change_counts_once_whichever_bot_saw_it_and_the_other_keeps_its_own_entry(db: Raw, world: World, scene: Scene) -> None:
    new = scene.watch.of(moved(db, world, scene, 100))
    arrive(db, [scene.watch.start(1, scene.payload()), new.join(41), new.leave(39), scene.watch.leave(161)])
    clear(db)
    arrive(db, [scene.watch.join(41), scene.watch.leave(50), new.leave(50)])
    clear(db)
    for same in (scene.watch.kick(160), new.kick(160)):
        arrive(db, [same])
        clear(db)

    assert [(second, *entry) for second, entry in zip((39, 41, 41, 50, 50, 160, 160, 161), journal(db), strict=True)] == [
        (39, new.bot, Action.LEAVE, "organic"),
        (41, scene.bot, Action.JOIN, "organic"),
        (41, new.bot, Action.JOIN, "paid"),
        (50, scene.bot, Action.LEAVE, "paid"),
        (50, new.bot, Action.LEAVE, "organic"),
        (160, scene.bot, Action.KICK, "paid"),
        (160, new.bot, Action.KICK, "organic"),
        (161, scene.bot, Action.LEAVE, "organic"),
    ]
    assert leads(db) == [(CANCEL, "a")]


def test_what_is_dated_before_the_epoch_is_only_journalled(db: Raw, world: World, scene: Scene) -> None:
    watch = scene.watch
    arrive(db, [watch.start(1, scene.payload("old"))])
    clear(db)
    world.set("campaign", scene.campaign, lead_epoch=1, epoch_since=watch.at(10))
    arrive(db, [watch.start(9, scene.payload()), watch.join(9), watch.start(10, scene.payload("b"), person=8)])
    clear(db)

    assert leads(db) == [(WAIT, "b")]
    assert journal(db) == [(scene.bot, Action.JOIN, "organic")]
    assert counters(db) == {"starts": 1, "n_wait": 1}
    assert rows(db, "SELECT epoch, starts FROM lead_counter ORDER BY epoch") == [(0, 1), (1, 1)]


def test_of_two_campaigns_of_a_bot_in_a_chat_that_counts_which_had_the_bot_at_the_time(db: Raw, world: World, scene: Scene) -> None:
    watch = scene.watch
    moved(db, world, scene, 10)
    second = world.campaign(scene.owner, scene.bot, scene.chat, **TEMPLATES)
    db.execute("UPDATE campaign_bot SET from_date = %s WHERE campaign_id = %s", [watch.at(20), second])
    ((code,),) = rows(db, "SELECT code FROM campaign WHERE id = %s", second)
    arrive(db, [watch.start(1, scene.payload()), watch.start(21, f"{code}-b"), watch.join(5), watch.leave(25)])
    clear(db)

    assert leads(db) == [(APPROVE, "a"), (WAIT, "b")]
    assert [entry[1:] for entry in journal(db)] == [(Action.JOIN, "paid"), (Action.LEAVE, "paid")]
    assert len(rows(db, "SELECT * FROM journal")) == 2


# Chats without a campaign


def test_a_bot_without_a_campaign_keeps_its_own_journal(db: Raw, world: World, scene: Scene) -> None:
    plain = scene.watch.of(world.bot(scene.owner, scene.chat))
    arrive(db, [plain.request(1), plain.join(2), plain.leave(3), plain.kick(4), plain.change(5, "banned", "out", own=False)])
    clear(db)

    assert [(action, kind) for _, action, kind in journal(db)] == [
        (Action.REQUEST, "organic"),
        (Action.JOIN, "organic"),
        (Action.LEAVE, "organic"),
        (Action.KICK, "organic"),
    ]
    assert rows(db, "SELECT * FROM fact") == []


def test_a_chat_that_nobody_knew_is_made(db: Raw, scene: Scene) -> None:
    arrive(db, [Watch(scene.bot, tg_id, dawn=scene.watch.dawn).join(1) for tg_id in (-1_009_999_999_999, -4242)])
    clear(db)

    made = rows(db, "SELECT tg_id, type, title FROM chat JOIN journal ON chat_id = chat.id ORDER BY tg_id")
    assert made == [(-1_009_999_999_999, "channel", ""), (-4242, "group", "")]


# Postbacks


def test_a_postback_is_rendered_by_the_owner_and_the_templates_of_its_commit(db: Raw, world: World, scene: Scene) -> None:
    watch, ben = scene.watch, world.account()
    macros = "{click}/{status}/{campaign}/{user}/{lead}/{subscriber}/{username}/{chat}/{time}/{other}"
    world.set("account", scene.owner.id, pb_wait=f"http://global.example:8080/{macros}")
    world.set("campaign", scene.campaign, **dict.fromkeys(TEMPLATES, ""))
    arrive(db, [watch.start(1, scene.payload("c&1"), username="it is")])
    arrive(db, [watch.start(1, scene.payload("c_1"), username="it is")])
    clear(db)
    world.set("account", scene.owner.id, pb_wait="http://later.example/")
    world.set("campaign", scene.campaign, account_id=ben.id, pb_hold="https://own.example/hold")
    arrive(db, [watch.request(2), watch.join(3)])
    clear(db)

    ((lead,),) = rows(db, "SELECT id FROM lead")
    time = int(watch.at(1).timestamp())
    url = f"http://global.example:8080/c_1/wait/{scene.code}/{scene.owner.id}/{lead}/{PERSON}/it%20is/{watch.chat}/{time}/{{other}}"
    assert rows(db, "SELECT account_id, state, rule, url, destination, number FROM delivery ORDER BY id") == [
        (scene.owner.id, "pending", "", url, "http://global.example:8080", 1),
        (ben.id, "pending", "", "https://own.example/hold", "https://own.example:443", 2),
        (ben.id, "held", "template empty", "", "", 3),
    ]
    assert rows(db, "SELECT destination, account_id, announced_at FROM lane ORDER BY 1") == [
        ("http://global.example:8080", scene.owner.id, None),
        ("https://own.example:443", ben.id, None),
    ]


def test_a_template_that_calls_nobody_is_held_back(db: Raw, world: World) -> None:
    scene = make(db, world, pb_wait="https://{click}.example/")
    arrive(db, [scene.watch.start(1, scene.payload())])
    clear(db)

    assert held(db) == [(WAIT, "template invalid")]


def test_a_leave_outside_the_window_is_held_back_by_it(db: Raw, world: World) -> None:
    scene = make(db, world, unsub_window=10)
    watch = scene.watch
    arrive(db, [watch.start(1, scene.payload()), watch.join(2), watch.leave(13)])
    arrive(db, [watch.start(1, scene.payload(), person=8), watch.join(2, person=8), watch.leave(12, person=8)])
    clear(db)

    assert held(db) == [(CANCEL, "window closed")]
    assert [status for status, _ in owed(db)].count(CANCEL) == 1


def test_a_lane_that_waits_for_a_later_retry_is_due_again(db: Raw, scene: Scene) -> None:
    arrive(db, [scene.watch.start(1, scene.payload())])
    clear(db)
    db.execute("UPDATE lane SET next_due = now() + interval '1 hour'")
    arrive(db, [scene.watch.request(2)])
    clear(db)

    assert rows(db, "SELECT next_due <= now() FROM lane") == [(True,)]


def test_a_lead_made_in_bulk_goes_on_from_where_it_stands(db: Raw, world: World, scene: Scene) -> None:
    (bot, (campaign,)) = world.bot_with_campaigns(scene.owner, 1, leads=10)
    ((tg_id,),) = rows(db, "SELECT tg_id FROM chat JOIN campaign c ON c.chat_id = chat.id WHERE c.id = %s", campaign)
    people = dict(rows(db, "SELECT subscriber, status FROM lead WHERE status IN (0, 2)"))
    watch = Watch(bot, tg_id)
    early = Watch(bot, tg_id, dawn=watch.dawn - timedelta(hours=6))
    db.execute("UPDATE campaign_bot SET from_date = from_date - interval '1 day'")
    db.execute("UPDATE campaign SET epoch_since = epoch_since - interval '1 day'")
    for event in (watch.join(4), early.leave(7)):
        arrive(db, [replace(event, subscriber=person) for person in people])
        clear(db)

    assert set(rows(db, "SELECT status FROM lead WHERE subscriber = ANY(%s)", list(people))) == {(CANCEL,)}


# Whom a bot can reach


def test_who_blocked_the_bot_is_noted_until_they_are_there_again(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    arrive(db, [watch.stopped(5), watch.stopped(5, person=8), watch.stopped(5, person=9), watch.stopped(7, blocked=False, person=9)])
    clear(db)
    assert rows(db, "SELECT subscriber, at FROM blocked ORDER BY 1") == [(8, watch.at(5)), (PERSON, watch.at(5))]

    arrive(db, [watch.start(4, ""), watch.start(6, "", person=8)])
    clear(db)
    assert rows(db, "SELECT subscriber FROM blocked") == [(PERSON,)]

    arrive(db, [watch.stopped(9), watch.start(8, ""), watch.stopped(3), watch.stopped(2, blocked=False)])
    clear(db)
    assert rows(db, "SELECT at FROM blocked") == [(watch.at(9),)]


# Fairness


def test_a_bot_with_a_great_many_events_has_its_share_like_any_other(db: Raw, world: World, scene: Scene) -> None:
    other = make(db, world)
    watch = scene.watch
    db.execute(
        """INSERT INTO inbox_event (bot_id, kind, at, subscriber, chat, before, after)
           SELECT %s, 'change', %s, i, %s, 'out', 'in' FROM generate_series(1, 2000) AS i""",
        [scene.bot, watch.at(1), watch.chat],
    )
    arrive(db, [other.watch.start(1, other.payload())])

    applied = apply.take_turn(db, [scene.bot, other.bot])

    assert applied == apply.share([scene.bot, other.bot]) + 1
    assert leads(db) == [(WAIT, "a")]
    assert rows(db, "SELECT bot_id, awake FROM bot_inbox WHERE bot_id > 0 ORDER BY 1") == [(scene.bot, True), (other.bot, False)]
    assert rows(db, "SELECT wake, key, swept FROM outbox") == [("apply_events", str(scene.bot), False)]
