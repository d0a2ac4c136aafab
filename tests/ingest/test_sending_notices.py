"""Notices: brought by the service bot, once, in the owner's language, to owners who have linked it."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from services.__main__ import app
from services.ingest import apply, sending, speaking
from shared.db import sends
from shared.db.connect import BY_KEY, Raw, connect
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.notices import NoticeKind
from shared.domain.plans import PlanCode
from tests.db.support import scalar
from tests.ingest.mouth import WAIT_S, Mouth, mouth, until
from tests.stack import eventually
from tests.world import Account, World

OWNER, OTHER = 900_001, 900_002
LINKED = {"en": "From now on notices come here.", "ru": "Теперь уведомления будут приходить сюда."}


@pytest.fixture
def opened(database_url: str, db: Raw, world: World, tmp_path: Path) -> Any:
    return lambda: mouth(database_url, db, world, tmp_path)


def notify(db: Raw, account: Account, bot: str) -> int:
    sql = (
        "INSERT INTO notice (account_id, kind, params) VALUES (%s, 'bot_token_revoked', jsonb_build_object('title', %s::text)) RETURNING id"
    )
    return int(scalar(db, sql, account.id, bot))


def link(m: Mouth, account: Account, owner: int, code: str = "code") -> None:
    """The owner opens the operator's link, and the ingest applies that."""
    m.db.execute("UPDATE account SET link_code = %s WHERE id = %s", [code, account.id])
    start(m, owner, f"link-{code}")


def start(m: Mouth, person: int, payload: str) -> None:
    m.core.world.person(person)
    m.core.world.bots[m.tg[SERVICE_BOT]].met.add(person)
    m.db.execute("INSERT INTO bot_inbox (bot_id) VALUES (%s) ON CONFLICT DO NOTHING", [SERVICE_BOT])
    m.db.execute(
        "INSERT INTO inbox_event (bot_id, kind, at, subscriber, payload) VALUES (%s, 'start', now(), %s, %s)",
        [SERVICE_BOT, person, payload],
    )
    apply.take_turn(m.db, [SERVICE_BOT])
    assert scalar(m.db, "SELECT count(*) FROM inbox_event") == 0


def undelivered(m: Mouth) -> int:
    return int(scalar(m.db, "SELECT count(*) FROM notice WHERE delivered IS NULL"))


async def told(m: Mouth) -> None:
    async with m.sending():
        await until(lambda: undelivered(m) == 0 and m.waiting() == 0, "all notices are delivered")


@pytest.mark.parametrize("lang", ["en", "ru"])
async def test_an_owner_who_has_linked_is_told_in_the_owners_language(opened: Any, lang: str) -> None:
    async with opened() as m:
        await m.service_bot()
        account = m.world.account()
        m.world.set("account", account.id, lang=lang)
        link(m, account, OWNER)
        notify(m.db, account, "@some_bot")
        await told(m)
        first, second = sorted(m.messages(OWNER), key=lambda sent: "@some_bot" in sent.text)
        assert first.text == LINKED[lang]
        assert "@some_bot" in second.text
        assert second.text.isascii() == (lang == "en")


async def test_a_notice_that_is_on_its_way_is_not_queued_again(opened: Any) -> None:
    async with opened() as m:
        await m.service_bot()
        link(m, m.world.account(), OWNER)
        m.core.nasty.set(slow_s={"SendMessage": 0.2})
        async with m.sending() as (sender, _):
            await until(lambda: m.messages(OWNER), "the server has it")
            sender.poke([SERVICE_BOT])
            await until(lambda: undelivered(m) == 0 and m.waiting() == 0, "it is recorded")
        assert m.core.record.methods().count("SendMessage") == 1


async def test_what_was_before_the_link_and_what_is_of_others_stays_in_the_list(opened: Any) -> None:
    async with opened() as m:
        await m.service_bot()
        linked, other = m.world.account(), m.world.account(plan=PlanCode.KITTEN)
        before = notify(m.db, linked, "@before")
        link(m, linked, OWNER)
        others = notify(m.db, other, "@other")
        async with m.sending():
            await until(lambda: undelivered(m) == 2, "the link is answered")
            await until(lambda: m.waiting() == 0, "nothing else is queued")
        assert [sent.text for sent in m.core.record.sent] == [LINKED["en"]]
        rows = m.db.execute("SELECT id FROM notice WHERE delivered IS NULL ORDER BY id").fetchall()
        assert [row[0] for row in rows] == [before, others]


async def test_a_code_links_once(opened: Any) -> None:
    async with opened() as m:
        await m.service_bot()
        account = m.world.account()
        link(m, account, OWNER)
        for payload in ("link-code", "code", "link-", ""):
            start(m, OTHER, payload)
        assert scalar(m.db, "SELECT owner_tg_id FROM account WHERE id = %s", account.id) == OWNER
        assert scalar(m.db, "SELECT count(*) FROM notice WHERE kind = %s", NoticeKind.LINKED) == 1


async def test_an_owner_who_blocks_the_service_bot_is_unlinked_and_keeps_the_notices(opened: Any) -> None:
    async with opened() as m:
        await m.service_bot()
        account, other = m.world.account(), m.world.account()
        link(m, account, OWNER)
        link(m, other, OTHER)
        await told(m)
        m.core.people.block(OWNER, m.tg[SERVICE_BOT])
        mine = notify(m.db, account, "@mine")
        notify(m.db, other, "@other")
        async with m.sending():
            await until(lambda: undelivered(m) == 1 and m.waiting() == 0, "the other owner is told")
            await until(lambda: scalar(m.db, "SELECT owner_tg_id IS NULL FROM account WHERE id = %s", account.id), "it is unlinked")
            asked = m.core.record.methods().count("SendMessage")
            m.db.execute("UPDATE send SET due = now()")
        await m.emptied()
        assert m.core.record.methods().count("SendMessage") == asked
        assert scalar(m.db, "SELECT id FROM notice WHERE delivered IS NULL") == mine
        link(m, account, OWNER, "again")
        m.core.people.unblock(OWNER, m.tg[SERVICE_BOT])
        async with m.sending():
            await until(lambda: undelivered(m) == 1 and m.waiting() == 0, "the new link is answered")
        assert [sent.text for sent in m.messages(OWNER)] == [LINKED["en"], LINKED["en"]]


async def test_a_notice_that_comes_too_late_or_is_refused_is_given_up_and_its_owner_stays_linked(opened: Any) -> None:
    async with opened() as m:
        await m.service_bot()
        account = m.world.account()
        link(m, account, OWNER)
        await told(m)
        late = notify(m.db, account, "@late")
        m.db.execute("UPDATE bot_session SET send_after = 'infinity'")
        async with m.sending():
            await until(lambda: m.waiting() == 1, "it is queued")
        week = "make_interval(secs => %s)"
        m.db.execute(f"UPDATE send SET at = at - {week}", [speaking.NOTICE_AGE_S_MAX])
        m.db.execute("UPDATE bot_session SET send_after = now()")
        await m.emptied()
        m.core.nasty.set(errors={"SendMessage": (400, "MESSAGE_TOO_LONG")})
        refused = notify(m.db, account, "@refused")
        async with m.sending() as (sender, _):
            await until(lambda: given_up(m) == [late, refused], "both are given up")
            asked = m.core.record.methods().count("SendMessage")
            m.core.nasty.set(errors={})
            notify(m.db, account, "@next")
            sender.poke([SERVICE_BOT])
            await until(lambda: undelivered(m) == 2 and m.waiting() == 0, "the next one is delivered")
        assert m.core.record.methods().count("SendMessage") == asked + 1
        assert scalar(m.db, "SELECT owner_tg_id FROM account WHERE id = %s", account.id) == OWNER
        assert given_up(m) == [late, refused], "they are listed as not delivered"


def given_up(m: Mouth) -> list[int]:
    return [row[0] for row in m.db.execute("SELECT id FROM notice WHERE given_up AND delivered IS NULL ORDER BY id")]


@pytest.mark.parametrize("ill", ["RAISE 'broken'", "PERFORM pg_advisory_xact_lock(1)"], ids=["fails", "hangs"])
async def test_notices_that_cannot_be_queued_stop_no_welcome(opened: Any, ill: str) -> None:
    async with opened() as m:
        await m.service_bot()
        account = m.world.account()
        bot, campaign = await m.bot(account, welcome="Hi")
        link(m, account, OWNER)
        m.db.execute(
            f"""
            CREATE FUNCTION ill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {ill}; RETURN NEW; END $$;
            CREATE TRIGGER ill BEFORE INSERT ON send FOR EACH ROW WHEN (NEW.kind = 'notice') EXECUTE FUNCTION ill();
            SELECT pg_advisory_lock(1);
            """
        )
        async with m.sending() as (sender, _):
            for person in (OTHER, OTHER + 1, OTHER + 2):
                sender.poke([SERVICE_BOT])
                m.send(bot, person, campaign)
                await until(lambda: m.waiting() == 0, "the welcome is sent")
            assert undelivered(m) == 1
            m.db.execute("SELECT pg_advisory_unlock(1)")
            m.db.execute("DROP FUNCTION ill CASCADE")
            await until(lambda: undelivered(m) == 0, "notices go on when they can")


def test_what_is_too_old_is_not_even_looked_at(database_url: str, db: Raw, world: World) -> None:
    account, listener = world.account(), uuid4()
    db.execute("UPDATE account SET owner_tg_id = %s, owner_linked = now() - interval '1 year'", [OWNER])
    db.execute("INSERT INTO bot_session (bot_id, token, listener_id, epoch) VALUES (%s, '', %s, 1)", [SERVICE_BOT, listener])
    db.execute(
        "INSERT INTO notice (account_id, kind, params, created)"
        " SELECT %s, 'bot_token_revoked', '{}', now() - make_interval(days => %s, secs => n) FROM generate_series(1, 3000) AS n",
        [account.id, sends.NOTICE_DAYS_MAX],
    )
    fresh = notify(db, account, "@fresh")
    db.execute("VACUUM ANALYZE notice")

    def read() -> int:
        return int(scalar(db, "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'notice_undelivered'"))

    before = read()
    with connect(database_url, name="sender", limits=BY_KEY) as ours:
        sends.queue_notices(ours, listener, bot=SERVICE_BOT, epoch=1)
    eventually(lambda: read() > before, "the statistics are told")
    assert read() - before < 10
    assert db.execute("SELECT notice_id FROM send").fetchall() == [(fresh,)]


async def test_a_crash_before_the_record_tells_nobody_twice(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dying: list[asyncio.Task[None]] = []
    deaths = 0

    def die(_point: str) -> None:
        nonlocal deaths
        deaths += 1
        dying[-1].cancel()
        raise asyncio.CancelledError

    async with opened() as m:
        await m.service_bot()
        account = m.world.account()
        link(m, account, OWNER)
        for number in range(9):
            notify(m.db, account, f"@bot{number}")
        monkeypatch.setattr(sending, "PER_BOT", 1)
        monkeypatch.setattr(speaking, "failpoint", die)
        while deaths < 4:
            async with m.sending() as (_, task):
                dying.append(task)
                await asyncio.wait([task], timeout=WAIT_S)
            m.db.execute("DELETE FROM send")  # not even the queue is there afterwards
        monkeypatch.undo()
        await told(m)
        texts = [sent.text for sent in m.messages(OWNER)]
        assert len(texts) == len(set(texts)) == 10


async def test_without_a_service_bot_notices_wait(opened: Any) -> None:
    async with opened() as m:
        account = m.world.account()
        bot, campaign = await m.bot(account, welcome="Hi")
        m.db.execute("UPDATE account SET owner_tg_id = 1, owner_linked = now()")
        notify(m.db, account, "@some_bot")
        m.send(bot, OTHER, campaign)
        await m.emptied()
        assert [sent.text for sent in m.core.record.sent] == ["Hi"]
        assert undelivered(m) == 1


async def test_a_link_to_the_service_bot_has_its_name_and_a_new_code_each_time(opened: Any) -> None:
    async with opened() as m:
        account = m.world.account()

        def printed() -> str:
            result = CliRunner().invoke(app, ["account", "link", str(account.id)], env={"GATEPOST_DATABASE_URL": m.url})
            return result.output.splitlines()[0]

        assert printed().startswith("The service bot has not logged in yet")
        await m.service_bot()
        async with m.sending():
            await until(lambda: scalar(m.db, "SELECT username <> '' FROM bot_session"), "its name is known")
        first, second = printed(), printed()
        name, start_of = m.core.world.bots[m.tg[SERVICE_BOT]].username, "https://t.me/{}?start=link-"
        assert all(link.startswith(start_of.format(name)) for link in (first, second))
        assert first != second
        start(m, OTHER, first.partition("start=")[2])
        assert scalar(m.db, "SELECT owner_tg_id FROM account") is None
        start(m, OWNER, second.partition("start=")[2])
        assert scalar(m.db, "SELECT owner_tg_id FROM account") == OWNER
        result = CliRunner().invoke(app, ["account", "link", "999"], env={"GATEPOST_DATABASE_URL": m.url})
        assert (result.exit_code, result.output.startswith("There is no account 999")) == (1, True)
