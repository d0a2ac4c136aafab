"""Notices: brought by the service bot, once, in the owner's language, to owners who have linked it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.__main__ import app
from services.ingest import apply, sending, speaking
from shared.db.connect import Raw
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.notices import NoticeKind
from shared.domain.plans import PlanCode
from tests.db.support import scalar
from tests.ingest.mouth import WAIT_S, Mouth, mouth, until
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
