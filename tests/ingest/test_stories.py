"""What the cells leave out: codes that lead nowhere or elsewhere, odd messages, odd names, groups, and what comes in a difference."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from shared.local import Services
from tests.chaos.telegram.evidence import CHANNEL_MARK, Watch
from tests.conftest import new_database, without_queues
from tests.ingest.town import ADMIN, Seen, Town, change, request, start, town
from tests.telegram.remote import started

ANN, BEN, COY, DOT, EVE = range(61_000_000, 61_000_005)

#: Names that Telegram would not give, and that a text column, a URL or a log might stumble over.
HOSTILE = (
    "a" * 500,
    "'; DROP TABLE lead; --",
    "{click}%00{user}",
    "x\u202egnp.exe\u200b",
    "nul\0inside",
    "\U0001f980" * 40,
    "../../etc",
    "<b>&amp;",
)


@dataclass(frozen=True)
class Scene:
    town: Town
    watch: Watch
    paused: Watch
    deleted: Watch
    moved: Watch
    old_tg: int
    group: Watch


@pytest.fixture(scope="module")
def scene(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One system for all stories; each has people of its own."""
    folder = tmp_path_factory.mktemp("stories")
    with (
        started() as server,
        new_database(local, template) as url,
        town(url, without_queues(local.amqp_url), folder, server) as here,
    ):
        watch = here.watch(welcome="Welcome", pb_wait="http://tracker.example/wait?u={username}&c={click}")
        paused, deleted, moved, group = here.watch(), here.watch(), here.watch(), here.watch(chat=here.chat("supergroup"))
        db = here.db
        db.execute("UPDATE campaign SET status = 1 WHERE id = %s", [paused.campaign])
        db.execute("INSERT INTO campaign_pause (campaign_id, since) VALUES (%s, now() - interval '1 day')", [paused.campaign])
        db.execute("UPDATE campaign SET status = 2, deleted = now() - interval '1 day' WHERE id = %s", [deleted.campaign])
        new_bot, old_tg = here.bot(moved.chat), moved.tg
        db.execute("UPDATE campaign SET bot_id = %s WHERE id = %s", [new_bot, moved.campaign])
        db.execute("UPDATE campaign_bot SET to_date = now() - interval '1 day' WHERE campaign_id = %s", [moved.campaign])
        db.execute(
            "INSERT INTO campaign_bot (campaign_id, bot_id, from_date) VALUES (%s, %s, now() - interval '1 day')", [moved.campaign, new_bot]
        )
        here.open("--catch-up", "1")
        yield Scene(here, watch, paused, deleted, moved, old_tg, group)


def seen(scene: Scene, watch: Watch, person: int) -> Seen:
    scene.town.settle()
    return scene.town.look(watch).get(person, Seen())


@pytest.mark.parametrize(
    "payload", ["", "nobody0", "nobody0-a", "-", "a-b", "CODE", "with space", "x" * 200, "code\u0660"], ids=lambda text: text[:12] or "none"
)
def test_a_start_without_a_code_of_ours_makes_nothing(scene: Scene, payload: str) -> None:
    person = 62_000_000 + len(payload) * 100 + ord((payload or "0")[-1]) % 100
    scene.town.do([start(scene.watch, person, 0, payload=payload)])
    assert seen(scene, scene.watch, person) == Seen()


def test_a_code_counts_only_on_the_bot_that_holds_its_campaign(scene: Scene) -> None:
    person = 62_100_000
    scene.town.do([start(scene.watch, person, 0, payload=f"{scene.group.code}-a")])
    assert seen(scene, scene.watch, person) == seen(scene, scene.group, person) == Seen()


def test_all_64_characters_of_a_payload_arrive(scene: Scene) -> None:
    person, click = 62_200_000, ("-_aZ9" * 20)[: 64 - len(scene.watch.code) - 1]
    scene.town.do([start(scene.watch, person, 0, click)])
    assert seen(scene, scene.watch, person).click == click


def test_a_paused_campaign_lets_starts_pass_and_moves_leads_silently(scene: Scene) -> None:
    person = 62_300_000
    scene.town.do([start(scene.paused, person, 0), change(scene.paused, person, 5, "out>member")])
    assert seen(scene, scene.paused, person) == Seen(journal=(("join", "organic"),))
    assert (scene.paused.tg, person) not in scene.town.welcomes()


def test_a_deleted_campaign_is_none(scene: Scene) -> None:
    person = 62_400_000
    scene.town.do([start(scene.deleted, person, 0), change(scene.deleted, person, 5, "out>member")])
    assert seen(scene, scene.deleted, person) == Seen(journal=(("join", "organic"),))


def test_the_old_bot_answers_a_moved_code_with_a_link_that_keeps_the_click(scene: Scene) -> None:
    person = 62_500_000
    scene.town.do([start(scene.moved, person, 0, "click-7")])
    assert seen(scene, scene.moved, person) == Seen()
    (message,) = [sent for sent in scene.town.server.everything("sent") if sent["peer_id"] == person]
    assert message["bot_id"] == scene.old_tg
    (button,) = message["buttons"]
    assert f"start={scene.moved.code}-click-7" in str(button)


def test_a_short_message_is_a_start_like_any_other(scene: Scene) -> None:
    scene.town.server.nasty(short_messages=True)
    scene.town.do([start(scene.watch, ANN, 0, "whole")])
    scene.town.server.start(person=BEN, bot=scene.watch.tg, payload=f"{scene.watch.code}-short")
    scene.town.server.nasty(short_messages=False)
    assert seen(scene, scene.watch, BEN).click == "short"
    assert seen(scene, scene.watch, ANN).click == "whole"


def test_messages_and_membership_in_one_difference_are_put_in_order(scene: Scene) -> None:
    """A difference has the membership before the messages; the start is older all the same."""
    server = scene.town.server
    server.nasty(withhold_percent=100)
    scene.town.do(
        [start(scene.watch, COY, 0, "late"), change(scene.watch, COY, 5, "out>member"), change(scene.watch, COY, 9, "member>out")]
    )
    server.nasty(withhold_percent=0)
    server.drop(bot_id=scene.watch.tg)
    assert seen(scene, scene.watch, COY).status == "cancel"
    assert seen(scene, scene.watch, COY).journal == (("join", "paid"), ("leave", "paid"))


def test_who_left_is_out_whether_telegram_says_so_or_says_nothing(scene: Scene) -> None:
    person = 62_600_000
    scene.town.do(
        [
            start(scene.watch, person, 0),
            change(scene.watch, person, 5, "out>member", explicit=True),
            change(scene.watch, person, 9, "member>out", explicit=True),
        ]
    )
    assert seen(scene, scene.watch, person).status == "cancel"


def test_in_a_group_the_announcement_of_a_join_is_no_second_join(scene: Scene) -> None:
    server, chat = scene.town.server, scene.group.chat_tg
    scene.town.do([start(scene.group, DOT, -100)])
    server.join(person=DOT, chat=chat)
    server.leave(person=DOT, chat=chat)
    found = seen(scene, scene.group, DOT)
    assert (found.status, found.journal) == ("cancel", (("join", "paid"), ("leave", "paid")))


def test_an_approved_request_is_a_join(scene: Scene) -> None:
    server, chat = scene.town.server, scene.group.chat_tg
    link = server.make_link(chat=chat, admin=ADMIN, secret="Request0Link", request_needed=True)
    scene.town.do([start(scene.group, EVE, -100)])
    server.ask("ask", person=EVE, chat=chat, link=link)
    server.approve(person=EVE, chat=chat, by=ADMIN)
    found = seen(scene, scene.group, EVE)
    assert (found.status, found.journal) == ("approve", (("join", "paid"), ("request", "paid")))


def test_a_person_of_a_restricted_past_leaves_and_comes_back(scene: Scene) -> None:
    """Restricting moves nobody; a restricted member who leaves has left, and is back with a restriction."""
    person, words = 62_700_000, ("out>member", "member>restricted", "restricted>restricted_out", "restricted_out>restricted")
    by = {"member>restricted": ADMIN}
    scene.town.do(
        [start(scene.watch, person, 0), *(change(scene.watch, person, 10 + n, word, by=by.get(word)) for n, word in enumerate(words))]
    )
    found = seen(scene, scene.watch, person)
    assert (found.status, found.journal) == ("approve", (("join", "paid"), ("join", "paid"), ("leave", "paid")))


def test_a_request_seen_twice_by_one_bot_is_one(scene: Scene) -> None:
    person = 62_800_000
    scene.town.do([start(scene.watch, person, 0), request(scene.watch, person, 5), request(scene.watch, person, 5)])
    assert seen(scene, scene.watch, person).journal == (("request", "paid"),)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_name_is_a_name(scene: Scene, number: int) -> None:
    person, username = 62_900_000 + number, HOSTILE[number]
    scene.town.server.call(person=person, username=username)
    scene.town.do([start(scene.watch, person, 0, "c"), change(scene.watch, person, 5, "out>member")])
    found = seen(scene, scene.watch, person)
    assert found.status == "approve"
    assert found.username == username.replace("\0", "")[: len(found.username)]
    assert found.username or username == ""
    (url, _) = found.urls
    assert url.isascii()
    assert not set(url) & set(" <>\"'{}\\\0")
    assert url.endswith("&c=c")


def test_what_a_name_was_when_the_lead_last_acted_is_its_name(scene: Scene) -> None:
    person, server = 63_000_000, scene.town.server
    server.call(person=person, username="before")
    scene.town.do([start(scene.watch, person, 0)])
    server.call(person=person, username="after")
    scene.town.do([start(scene.watch, person, 5, "b")])
    assert seen(scene, scene.watch, person).username == "after"


def test_a_chat_of_nobodys_is_journalled_for_its_bot(scene: Scene) -> None:
    """A bot may be an administrator where it has no campaign: what it sees there is organic."""
    town, person = scene.town, 63_100_000
    elsewhere = 777_000
    town.server.open_chat(chat=elsewhere, owner=ADMIN)
    town.server.promote(who=scene.watch.tg, chat=elsewhere, by=ADMIN)
    town.server.join(person=person, chat=elsewhere)
    town.settle()
    rows = town.db.execute(
        "SELECT bot_id, campaign_id, action FROM journal JOIN chat ON chat.id = chat_id WHERE subscriber = %s AND tg_id = %s",
        [person, CHANNEL_MARK - elsewhere],
    ).fetchall()
    assert rows == [(scene.watch.bot, None, 0)]
