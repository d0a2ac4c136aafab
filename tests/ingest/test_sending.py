"""What bots say, as Telegram takes it, and what becomes of the rows."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from services.ingest import sending, speaking
from shared.db.connect import Raw
from tests.db.support import scalar
from tests.ingest.mouth import WAIT_S, Mouth, mouth, until
from tests.world import World

ANN, BEN, CAT = 1_001, 1_002, 1_003

Opening = Callable[[], AbstractAsyncContextManager[Mouth]]


@pytest.fixture
def opened(database_url: str, db: Raw, world: World, tmp_path: Path) -> Opening:
    return partial(mouth, database_url, db, world, tmp_path)


# What is said


async def test_a_welcome_is_shown_as_its_author_meant_it(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="*Hello* 😀 _dear_ `x` [here](https://example.com) [you](tg://user?id=1001)")
        m.send(bot, ANN, campaign)
        await m.emptied()
        (sent,) = m.messages(ANN)
        assert (sent.text, sent.buttons, sent.media) == ("Hello 😀 dear x here you", [], None)
        assert [(e["_"], e["offset"], e["length"]) for e in sent.entities] == [
            ("MessageEntityBold", 0, 5),
            ("MessageEntityItalic", 9, 4),
            ("MessageEntityCode", 14, 1),
            ("MessageEntityTextUrl", 16, 4),
            ("InputMessageEntityMentionName", 21, 3),
        ]


async def test_a_button_leads_to_its_address_with_the_macros_filled_in(opened: Opening) -> None:
    async with opened() as m:
        owner = m.world.account()
        url = "https://example.com/{campaign}?c={click}&u={username}&s={subscriber}&l={lead}&a={user}&x={status}&{other}"
        bot, campaign = await m.bot(owner, welcome="Hi", button_text="Go", button_url=url)
        m.send(bot, ANN, campaign, click="a-b_c", username="{click}&ä")
        await m.emptied()
        (sent,) = m.messages(ANN)
        code = scalar(m.db, "SELECT code FROM campaign")
        (button,) = sent.buttons
        assert (button["text"], button["type"]["url"]) == (
            "Go",
            f"https://example.com/{code}?c=a-b_c&u=%7Bclick%7D%26%C3%A4&s={ANN}&l=77&a={owner.id}&x=wait&{{other}}",
        )


async def test_a_mention_that_telegram_refuses_is_left_out(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="[you](tg://user?id=5) *there*")
        m.send(bot, ANN, campaign)
        await m.emptied()
        (sent,) = m.messages(ANN)
        assert (sent.text, [e["_"] for e in sent.entities]) == ("you there", ["MessageEntityBold"])


async def test_a_start_of_a_moved_campaign_is_answered_with_the_way_to_it(opened: Opening) -> None:
    async with opened() as m:
        old, _ = await m.bot(m.world.account(), welcome="Old")
        _, campaign = await m.bot(m.world.account(), welcome="New")
        m.db.execute("UPDATE account SET lang = 'ru' WHERE id = (SELECT account_id FROM bot WHERE id = %s)", [old])
        m.send(old, ANN, campaign, kind="moved", click="a-b")
        m.send(old, BEN, campaign, click="c")  # its welcome was still to be sent when it moved
        await m.emptied()
        code, username = (
            m.db.execute("SELECT code, username FROM campaign c JOIN bot b ON b.id = bot_id WHERE c.id = %s", [campaign]).fetchone() or ()
        )
        for person, click in ((ANN, "a-b"), (BEN, "c")):
            (sent,) = m.messages(person)
            assert (sent.bot_id, sent.text) == (m.tg[old], "Теперь это продолжается в другом боте.")
            assert sent.buttons[0]["type"]["url"] == f"https://t.me/{username}?start={code}-{click}"


@pytest.mark.parametrize(
    "gone",
    [
        "UPDATE campaign SET status = 2, deleted = now()",
        "UPDATE bot SET disconnected = now() WHERE id = (SELECT bot_id FROM campaign ORDER BY id DESC LIMIT 1)",
        "UPDATE bot SET answers_moved = false",
        "DELETE FROM campaign_bot; DELETE FROM campaign",
    ],
)
async def test_nothing_is_said_where_there_is_nothing_to_say(opened: Opening, gone: str) -> None:
    async with opened() as m:
        old, _ = await m.bot(m.world.account())
        _, campaign = await m.bot(m.world.account())
        m.db.execute("\n".join(gone.split(";")) if ";" not in gone else gone)
        m.send(old, ANN, campaign, kind="moved")
        await m.emptied()
        assert m.core.record.sent == []


# What cannot be said


@pytest.mark.parametrize("error", ["USER_IS_BLOCKED", "INPUT_USER_DEACTIVATED", "PEER_ID_INVALID"])
async def test_who_cannot_be_reached_is_written_down_and_not_tried_again(opened: Opening, error: str) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.core.nasty.set(errors={"SendMessage": (400, error)})
        m.send(bot, ANN, campaign)
        await m.emptied()
        assert m.db.execute("SELECT bot_id, subscriber FROM blocked").fetchall() == [(bot, ANN)]


async def test_who_is_reached_again_is_no_longer_marked(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.db.execute("INSERT INTO blocked (bot_id, subscriber) VALUES (%s, %s), (%s, %s)", [bot, ANN, bot, BEN])
        m.send(bot, ANN, campaign)
        await m.emptied()
        assert m.db.execute("SELECT subscriber FROM blocked").fetchall() == [(BEN,)]


async def test_a_refusal_for_ever_is_not_tried_again(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.core.nasty.set(errors={"SendMessage": (403, "CHAT_WRITE_FORBIDDEN")})
        m.send(bot, ANN, campaign)
        await m.emptied()
        assert scalar(m.db, "SELECT count(*) FROM blocked") == 0
        assert m.core.record.sent == []


async def test_an_error_of_the_server_is_tried_again(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.core.nasty.set(errors={"SendMessage": (500, "INTERNAL")})
        m.send(bot, ANN, campaign)
        async with m.sending():
            await until(lambda: scalar(m.db, "SELECT attempts FROM send") == 1, "it was put off")
            assert scalar(m.db, "SELECT trouble FROM send") == "INTERNAL"
            m.core.nasty.set(errors={})
            m.db.execute("UPDATE send SET due = now()")
            await until(lambda: m.waiting() == 0, "it was sent")
        assert len(m.messages(ANN)) == 1


async def test_what_is_too_old_is_not_sent(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        row = m.send(bot, ANN, campaign)
        m.db.execute("UPDATE send SET at = now() - make_interval(secs => %s) WHERE id = %s", [speaking.AGE_S_MAX + 1, row])
        await m.emptied()
        assert m.core.record.sent == []


async def test_a_lost_connection_puts_a_message_off_and_loses_nothing(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        await m.live[bot].client.disconnect()
        m.send(bot, ANN, campaign)
        async with m.sending():
            await until(lambda: scalar(m.db, "SELECT attempts FROM send") == 1, "it was put off")
            await m.lease(bot, m.tg[bot])
            m.db.execute("UPDATE send SET due = now()")
            await until(lambda: m.waiting() == 0, "it was sent")
        assert len(m.messages(ANN)) == 1


async def test_an_answer_that_never_comes_because_the_client_went_puts_the_message_off(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.core.nasty.set(slow_s={"SendMessage": 60})
        m.send(bot, ANN, campaign)
        async with m.sending():
            await until(lambda: m.messages(ANN), "the server has it")
            await m.live[bot].client.disconnect()
            await until(lambda: scalar(m.db, "SELECT attempts FROM send") == 1, "it was put off")
            m.core.nasty.set(slow_s={})
            await m.lease(bot, m.tg[bot])
            m.db.execute("UPDATE send SET due = now()")
            await until(lambda: m.waiting() == 0, "it is settled")
        assert len(m.messages(ANN)) == 1


# Fairness


async def test_one_bots_flood_wait_stops_no_other(opened: Opening) -> None:
    async with opened() as m:
        owner = m.world.account()
        flooding, first = await m.bot(owner, welcome="One")
        other, second = await m.bot(owner, welcome="Two")
        m.core.nasty.set(flood_s={"SendMessage": 600})
        m.send(flooding, ANN, first)
        async with m.sending() as (sender, _):
            await until(
                lambda: scalar(m.db, "SELECT send_after > now() + interval '500 s' FROM bot_session WHERE bot_id = %s", flooding),
                "it pauses",
            )
            asked = m.core.record.methods(m.tg[flooding]).count("SendMessage")
            m.core.nasty.set(flood_s={})
            m.send(flooding, BEN, first)
            m.send(other, CAT, second)
            sender.poke([flooding, other])
            await until(lambda: m.waiting() == 2, "the other bot has spoken")
        assert m.core.record.methods(m.tg[flooding]).count("SendMessage") == asked
        assert [sent.text for sent in m.core.record.sent] == ["Two"]
        assert scalar(m.db, "SELECT sum(attempts) FROM send") == 0
        m.db.execute("UPDATE bot_session SET send_after = now()")
        await m.emptied()
        assert len(m.messages(ANN)) == len(m.messages(BEN)) == 1


async def test_slow_mode_puts_off_one_person_only(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.core.nasty.set(errors={"SendMessage": (420, "SLOWMODE_WAIT_600")})
        m.send(bot, ANN, campaign)
        async with m.sending() as (sender, _):
            await until(lambda: scalar(m.db, "SELECT due > now() + interval '500 s' FROM send"), "it was put off")
            m.core.nasty.set(errors={})
            m.send(bot, BEN, campaign)
            sender.poke([bot])
            await until(lambda: m.waiting() == 1, "the other person has it")
        assert len(m.messages(BEN)) == 1


async def test_a_backlog_of_one_bot_is_sent_few_at_a_time_and_delays_no_other(opened: Opening) -> None:
    async with opened() as m:
        owner = m.world.account()
        busy, first = await m.bot(owner, welcome="One")
        other, second = await m.bot(owner, welcome="Two")
        m.core.nasty.set(slow_s={"SendMessage": 0.02})
        for person in range(5_000, 5_060):
            m.send(busy, person, first)
        m.send(other, ANN, second)
        async with m.sending():
            await until(lambda: m.waiting() == 0, "all is sent")
        assert [sent.peer_id for sent in m.core.record.sent].index(ANN) <= 2 * sending.PER_BOT
        assert m.core.record.methods().count("SendMessage") == 61
        assert len({sent.peer_id for sent in m.core.record.sent}) == len(m.core.record.sent) == 61


# Fencing


@pytest.mark.parametrize("change", ["epoch = 2", "listener_id = gen_random_uuid()"])
async def test_a_bot_that_has_another_listener_now_is_left_alone(opened: Opening, change: str) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        other, second = await m.bot(m.world.account(), welcome="Hi")
        m.db.execute(f"UPDATE bot_session SET {change} WHERE bot_id = %s", [bot])
        m.send(bot, ANN, campaign)
        m.send(other, BEN, second)
        async with m.sending() as (sender, _):
            sender.poke([bot, other])
            await until(lambda: m.waiting() == 1, "the bot that is ours has spoken")
        assert [sent.peer_id for sent in m.core.record.sent] == [BEN]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE bot_session SET epoch = 2",
        """
        WITH other AS (
            INSERT INTO listener (id, name, capacity, expires_at)
            VALUES (gen_random_uuid(), 'other', 1, now() + interval '1 hour') RETURNING id
        )
        UPDATE bot_session SET listener_id = other.id FROM other
        """,
        "UPDATE listener SET expires_at = now() - interval '1 s'",
    ],
    ids=["epoch", "listener", "lease"],
)
async def test_who_lost_the_lease_while_sending_writes_nothing(opened: Opening, change: str) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.core.nasty.set(slow_s={"SendMessage": 0.2})
        m.send(bot, ANN, campaign)
        async with m.sending() as (sender, _):
            await until(lambda: m.messages(ANN), "the server has it")
            m.db.execute(change)
            await until(lambda: not sender._busy[bot] and not sender._tasks, "the answer has come")
        assert m.waiting() == 1
        m.db.execute("UPDATE listener SET expires_at = now() + interval '1 hour'")
        await m.lease(bot, m.tg[bot], epoch=3)
        await m.emptied()
        assert len(m.messages(ANN)) == 1


async def test_a_database_that_goes_away_loses_nothing_and_doubles_nothing(opened: Opening) -> None:
    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        m.core.nasty.set(slow_s={"SendMessage": 0.05})
        for person in (ANN, BEN, CAT):
            m.send(bot, person, campaign)
        async with m.sending():
            await until(lambda: len(m.core.record.sent) == 3, "the server has them")
            m.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatepost sender'")
            await until(lambda: m.waiting() == 0, "they are recorded")
        assert len(m.core.record.sent) == 3
        assert m.core.record.methods().count("SendMessage") == 3


# Crashes


async def test_a_hundred_deaths_between_acceptance_and_record_double_nothing(opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    people = range(2_000, 2_100)
    dying: list[asyncio.Task[None]] = []
    deaths = 0

    def die(_point: str) -> None:
        nonlocal deaths
        deaths += 1
        dying[-1].cancel()
        raise asyncio.CancelledError

    async with opened() as m:
        bot, campaign = await m.bot(m.world.account(), welcome="Hi")
        for person in people:
            m.send(bot, person, campaign)
        monkeypatch.setattr(sending, "PER_BOT", 1)
        monkeypatch.setattr(speaking, "failpoint", die)
        while deaths < len(people):
            async with m.sending() as (_, task):
                dying.append(task)
                await asyncio.wait([task], timeout=WAIT_S)
        assert m.waiting() >= 1
        monkeypatch.undo()
        await m.emptied()
        assert sorted(sent.peer_id for sent in m.core.record.sent) == list(people)
        refused = [call.refused for call in m.core.record.calls if call.method == "SendMessage"]
        assert refused.count("RANDOM_ID_DUPLICATE") == len(people)
        assert scalar(m.db, "SELECT count(*) FROM blocked") == 0
