"""Connecting bots, with a real client at the fake Telegram: whose a bot becomes, with which session, and who wins."""

import asyncio
import io
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import Engine

from services.ingest import connecting
from services.ingest.connecting import ATTEMPTS_MAX, LOGINS_MAX, connect, log_in
from shared.db import bot_requests
from shared.db.bot_requests import UNFINISHED_MAX
from shared.db.connect import Raw, engine
from shared.db.connect import connect as connect_db
from shared.domain import bots
from shared.domain.campaigns import CampaignStatus
from shared.local import Services
from shared.messages import LISTENER_CHANNEL, OUTCOME_CHANNEL, State, decode_outcomes
from tests.conftest import new_database
from tests.db.support import wait_for_blocked
from tests.ingest.desk import BAD_TOKEN, DONE, EXISTS, SEALER, TG, TOKEN, WEBHOOK, Desk, beside, desk, until
from tests.telegram.core import HOME_DC, OTHER_DC
from tests.world import Account, World

RENEWED = f"{TG}:another-secret"


@pytest.fixture(scope="module")
def database_url(local: Services, template: str) -> Iterator[str]:
    """One database for all of them."""
    with new_database(local, template) as url:
        yield url


@pytest.fixture
def db(database_url: str) -> Iterator[Raw]:
    """A connection, and nothing left of the test before."""
    with connect_db(database_url, name="test") as connection:
        for table in ("bot_request", "campaign_bot", "lead_counter", "campaign", "bot_chat", "bot_session", "bot", "chat"):
            connection.execute(f"DELETE FROM {table}")
        yield connection


@pytest.fixture
def tables(database_url: str) -> Iterator[Engine]:
    pool = engine(database_url, name="test")
    yield pool
    pool.dispose()


@pytest.fixture
def world(db: Raw, tables: Engine) -> World:
    return World(tables)


async def test_a_new_bot_gets_its_row_its_session_and_its_inbox(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    db.execute(f"LISTEN {LISTENER_CHANNEL}")
    db.execute(f"LISTEN {OUTCOME_CHANNEL}")
    async with desk(database_url, db) as here:
        here.core.world.bots[TG].username = "fresh_bot"
        request = here.ask(ann)
        assert await here.answer(request) == DONE

        bot = here.bot_of(ann)
        row = here.row("SELECT tg_id, username, created_by, disconnected, token_revoked FROM bot WHERE id = %s", bot)
        assert row == (TG, "fresh_bot", ann.id, None, False)
        assert here.one("SELECT name FROM bot WHERE id = %s", bot) != ""
        session = here.session(bot)
        assert (session["token"], session["dc"], session["username"]) == (TOKEN, HOME_DC, "fresh_bot")
        assert (session["pts"], session["qts"]) == (here.core.world.bots[TG].pts, here.core.world.bots[TG].qts)
        assert (session["listener_id"], session["epoch"]) == (None, 0)
        assert here.row("SELECT awake FROM bot_inbox WHERE bot_id = %s", bot) == (False,)
        assert here.one("SELECT bot_id FROM bot_request WHERE id = %s", request) == bot
        told = {note.channel: note.payload for note in db.notifies(timeout=0.5, stop_after=2)}
        assert told[LISTENER_CHANNEL] == str(bot)
        assert [(r, outcome.state) for r, outcome in decode_outcomes(told[OUTCOME_CHANNEL])] == [(request, State.DONE)]
        await here.only_key(session["auth_key"])
        assert TOKEN.encode() not in bytes(here.one("SELECT token FROM bot_session WHERE bot_id = %s", bot))


async def test_the_login_is_offline_before_anybody_else_can_use_its_key(database_url: str, db: Raw, world: World) -> None:
    """One key from two places is destroyed: the client must have left when the session is there to be taken."""
    ann = world.account()
    async with desk(database_url, db) as here:
        with connect_db(database_url, name="holder") as holder, holder.transaction():
            holder.execute("SELECT 1 FROM account WHERE id = %s FOR NO KEY UPDATE", [ann.id])
            request = here.ask(ann)
            await beside(wait_for_blocked, db, 1)
            await here.offline()
        assert await here.answer(request) == DONE


async def test_a_bot_of_another_data_centre_is_followed_there(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    async with desk(database_url, db) as here:
        here.core.add_bot("800:far", dc=OTHER_DC)
        assert await here.connect(ann, "800:far") == DONE
        session = here.session(here.bot_of(ann))
        assert (session["dc"], session["port"]) == (OTHER_DC, here.core.ports[OTHER_DC])
        await here.only_key(session["auth_key"], 800)


async def connected(here: Desk, account: Account) -> tuple[int, dict[str, Any]]:
    """A bot of the account's as some listener has it by now: leased, and further on."""
    assert await here.connect(account) == DONE
    bot = here.bot_of(account)
    here.db.execute("UPDATE bot_session SET listener_id = %s, epoch = 7, pts = 4000, qts = 5000 WHERE bot_id = %s", [UUID(int=1), bot])
    return bot, here.session(bot)


async def test_an_unchanged_token_that_works_is_ok_and_leaves_the_session_alone(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    async with desk(database_url, db) as here:
        bot, session = await connected(here, ann)
        here.core.world.bots[TG].username = "renamed_bot"

        assert await here.connect(ann) == DONE

        assert here.row("SELECT id, username FROM bot") == (bot, "renamed_bot")
        assert here.session(bot) == session
        await here.only_key(session["auth_key"])


async def test_a_new_token_replaces_the_old_one_and_goes_on_from_where_it_was(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    async with desk(database_url, db) as here:
        bot, old = await connected(here, ann)
        here.core.revoke(TG)
        here.core.add_bot(RENEWED)
        db.execute("UPDATE bot SET token_revoked = true")
        db.execute("UPDATE bot_session SET trouble = 'revoked', retry_at = 'infinity'")

        assert await here.connect(ann, RENEWED) == DONE

        assert here.row("SELECT id, token_revoked, disconnected FROM bot") == (bot, False, None)
        new = here.session(bot)
        assert (new["token"], new["pts"], new["qts"]) == (RENEWED, 4000, 5000)
        assert (new["listener_id"], new["epoch"], new["trouble"]) == (None, 8, "")
        assert here.one("SELECT retry_at < now() FROM bot_session")
        assert new["auth_key"] != old["auth_key"]
        await here.only_key(new["auth_key"])


@pytest.mark.parametrize(
    "ill",
    [
        "UPDATE bot SET token_revoked = true",
        "UPDATE bot_session SET auth_key = NULL",
        "UPDATE bot_session SET token = 'sealed by nobody'",
        "DELETE FROM bot_session",
    ],
)
async def test_an_unchanged_token_mends_a_session_that_is_not_well(database_url: str, db: Raw, world: World, ill: str) -> None:
    ann = world.account()
    async with desk(database_url, db) as here:
        bot, _ = await connected(here, ann)
        here.core.kill_keys(TG)
        db.execute(ill)

        assert await here.connect(ann) == DONE

        assert here.row("SELECT id, token_revoked FROM bot") == (bot, False)
        session = here.session(bot)
        assert (session["token"], session["listener_id"]) == (TOKEN, None)
        await here.only_key(session["auth_key"])


async def test_updates_begin_with_the_login_when_there_never_was_one(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    async with desk(database_url, db) as here:
        bot, _ = await connected(here, ann)
        db.execute("UPDATE bot_session SET auth_key = NULL, pts = NULL, qts = NULL, seq = NULL, date = NULL")
        assert await here.connect(ann) == DONE
        assert here.session(bot)["pts"] == here.core.world.bots[TG].pts


async def test_a_bot_connected_in_another_account_exists(database_url: str, db: Raw, world: World) -> None:
    ann, ben = world.account(), world.account()
    async with desk(database_url, db) as here:
        bot, session = await connected(here, ann)

        assert await here.connect(ben) == EXISTS

        assert here.row("SELECT id, account_id FROM bot") == (bot, ann.id)
        assert here.session(bot) == session
        await here.only_key(session["auth_key"])


async def test_a_bot_disconnected_here_is_revived_with_its_campaigns_and_begins_anew(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    async with desk(database_url, db) as here:
        bot, old = await connected(here, ann)
        chat = world.chat()
        campaign = world.campaign(ann, bot, chat)
        db.execute("UPDATE bot SET disconnected = now(), token_revoked = true, username = 'old_bot'")
        here.core.kill_keys(TG)

        assert await here.connect(ann) == DONE

        assert here.row("SELECT id, disconnected, token_revoked FROM bot") == (bot, None, False)
        assert here.one("SELECT username FROM bot") != "old_bot"
        assert here.row("SELECT bot_id, status FROM campaign WHERE id = %s", campaign) == (bot, CampaignStatus.ACTIVE)
        session = here.session(bot)
        assert session["pts"] == here.core.world.bots[TG].pts, "what happened while it was disconnected is nobody's"
        assert session["epoch"] == old["epoch"] + 1, "whoever still holds the old session is fenced"
        assert here.one("SELECT count(*) FROM bot_inbox WHERE bot_id = %s", bot) == 1


async def test_of_two_records_of_one_bot_the_latter_is_revived(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    first, second, third = (world.bot(ann) for _ in range(3))
    for bot, day in ((first, 2), (second, 3), (third, 1)):
        world.set("bot", bot, tg_id=TG, disconnected=datetime(2026, 1, day, tzinfo=UTC))
    async with desk(database_url, db) as here:
        assert await here.connect(ann) == DONE
        assert here.row("SELECT id FROM bot WHERE disconnected IS NULL") == (second,)


async def test_a_bot_disconnected_elsewhere_is_new_here(database_url: str, db: Raw, world: World) -> None:
    ann, ben = world.account(), world.account()
    async with desk(database_url, db) as here:
        bot, _ = await connected(here, ann)
        campaign = world.campaign(ann, bot, world.chat())
        db.execute("UPDATE bot SET disconnected = now()")

        assert await here.connect(ben) == DONE

        assert here.bot_of(ben) != bot
        assert here.row("SELECT account_id, bot_id FROM campaign WHERE id = %s", campaign) == (ann.id, bot)
        assert await here.connect(ann) == EXISTS


@pytest.mark.parametrize("first", [0, 1])
async def test_of_two_accounts_adding_one_token_exactly_one_wins_in_either_order(
    database_url: str, db: Raw, world: World, first: int
) -> None:
    accounts = [world.account(), world.account()]
    winner, loser = accounts[first], accounts[1 - first]
    async with desk(database_url, db, connectors=2) as here:
        with connect_db(database_url, name="holder") as holder, holder.transaction():
            holder.execute("SELECT 1 FROM account WHERE id = %s FOR NO KEY UPDATE", [loser.id])
            late = here.ask(loser)
            await beside(wait_for_blocked, db, 1)
            assert await here.connect(winner) == DONE
        assert await here.answer(late) == EXISTS
        assert here.row("SELECT account_id FROM bot") == (winner.id,)
        await here.only_key(here.session(here.bot_of(winner))["auth_key"])


async def test_two_accounts_that_both_saw_no_bot_are_told_apart_by_the_index(database_url: str, db: Raw, world: World) -> None:
    """Somebody else's uncommitted row holds both at their insert, after they have looked."""
    ann, ben, carl = world.account(), world.account(), world.account()
    async with desk(database_url, db, connectors=2) as here:
        with connect_db(database_url, name="holder") as holder, holder.transaction(force_rollback=True):
            holder.execute("INSERT INTO bot (account_id, created_by, tg_id) VALUES (%s, %s, %s)", [carl.id, carl.id, TG])
            requests = [here.ask(ann)]
            await beside(wait_for_blocked, db, 1)
            requests.append(here.ask(ben))
            await beside(wait_for_blocked, db, 2)
        answers = [await here.answer(request) for request in requests]
        assert sorted(answers) == [DONE, EXISTS]
        assert here.one("SELECT count(*) FROM bot") == 1
        winner = ann if answers[0] == DONE else ben
        await here.only_key(here.session(here.bot_of(winner))["auth_key"])


async def test_a_bot_that_leaves_by_a_transfer_first_exists_elsewhere(database_url: str, db: Raw, world: World) -> None:
    ann, ben = world.account(), world.account()
    async with desk(database_url, db) as here:
        bot, _ = await connected(here, ann)
        with connect_db(database_url, name="holder") as holder, holder.transaction():
            holder.execute("SELECT 1 FROM account WHERE id = %s FOR NO KEY UPDATE", [ann.id])
            request = here.ask(ann)
            await beside(wait_for_blocked, db, 1)
            holder.execute("UPDATE bot SET account_id = %s WHERE id = %s", [ben.id, bot])
        assert await here.answer(request) == EXISTS


@pytest.mark.parametrize("token", ["700:wrong", "701:nobody"])
async def test_telegram_knows_no_such_token(database_url: str, db: Raw, world: World, token: str) -> None:
    async with desk(database_url, db) as here:
        assert await here.connect(world.account(), token) == BAD_TOKEN
        assert here.one("SELECT count(*) FROM bot") == 0


async def test_a_revoked_token_is_refused(database_url: str, db: Raw, world: World) -> None:
    async with desk(database_url, db) as here:
        here.core.revoke(TG)
        assert await here.connect(world.account()) == BAD_TOKEN


async def test_a_flood_wait_is_told_in_seconds(database_url: str, db: Raw, world: World) -> None:
    async with desk(database_url, db) as here:
        here.core.nasty.set(flood_s={"ImportBotAuthorization": 1800})
        request = here.ask(world.account())
        assert await here.answer(request) == WEBHOOK
        assert "1800 seconds" in here.one("SELECT message FROM bot_request WHERE id = %s", request)


@pytest.mark.parametrize(
    "nasty",
    [
        {"errors": {"ImportBotAuthorization": (400, "API_ID_INVALID")}},
        {"errors": {"GetState": (403, "SOMETHING_NEW")}},
        {"close_in_handshake": 100},
        {"silent": True},
        {"slow_s": {"ImportBotAuthorization": 30}},
    ],
    ids=str,
)
async def test_a_telegram_that_refuses_or_does_not_answer_is_webhook(
    database_url: str, db: Raw, world: World, nasty: dict[str, object]
) -> None:
    async with desk(database_url, db, login_s=0.8) as here:
        here.core.nasty.set(**nasty)
        assert await here.connect(world.account()) == WEBHOOK
        assert here.one("SELECT count(*) FROM bot") == 0
        here.core.nasty.set(errors={}, close_in_handshake=0, silent=False, slow_s={})
        assert await here.connect(world.account()) == DONE, "the next one is none the worse"


async def test_nobody_at_telegrams_address_is_webhook(database_url: str, db: Raw, world: World) -> None:
    async with desk(database_url, db, connectors=0) as here:
        object.__setattr__(here.telegram, "server", (HOME_DC, "127.0.0.1", 1))
        here.start(login_s=1.0)
        assert await here.connect(world.account()) == WEBHOOK


async def test_a_request_whose_listener_died_is_taken_after_its_lease(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    async with desk(database_url, db, connectors=0) as here:
        request = here.ask(ann)
        (taken,) = bot_requests.take(db, limit=8, per_account=8, lease_s=0.6)
        assert bot_requests.take(db, limit=8, per_account=8, lease_s=0.6) == [], "it is the first one's for so long"
        assert not bot_requests.withdraw(db, request, left=True), "nor is it withdrawn under the lease"
        here.start()
        assert await here.answer(request) == DONE
        assert here.one("SELECT attempts FROM bot_request") == 2
        assert taken.attempt == 1


async def test_who_lost_the_lease_writes_nothing_and_leaves_no_login(database_url: str, db: Raw, world: World) -> None:
    """The first login is slow; the lease runs out, another listener connects the bot, and the first comes back."""
    ann = world.account()
    async with desk(database_url, db, connectors=0) as here:
        here.ask(ann)
        (late,) = bot_requests.take(db, limit=1, per_account=8, lease_s=0)
        late_login = await log_in(here.telegram, TOKEN)
        (taken,) = bot_requests.take(db, limit=1, per_account=8, lease_s=60)
        login = await log_in(here.telegram, TOKEN)

        before = await beside(connect, db, SEALER, late, late_login)
        assert (before.refusal, before.used, here.one("SELECT count(*) FROM bot")) == (None, False, 0)
        assert not bot_requests.refuse(db, late, bots.BAD_TOKEN)
        assert (await beside(connect, db, SEALER, taken, login)).used
        after = await beside(connect, db, SEALER, late, late_login)
        assert (after.refusal, after.used) == (None, False)
        assert here.session(here.bot_of(ann))["auth_key"] == login.session.auth_key.key


async def test_a_request_withdrawn_during_the_login_connects_nothing(database_url: str, db: Raw, world: World) -> None:
    async with desk(database_url, db, lease_s=0) as here:
        here.core.nasty.set(slow_s={"GetState": 0.5})
        request = here.ask(world.account())
        await here.core.record.until(lambda: "GetState" in here.core.record.methods(TG), "the bot is logging in")
        here.connectors.clear()
        assert bot_requests.withdraw(db, request, left=True)
        await until(lambda: not here.keys(), "the login is ended")
        assert here.one("SELECT count(*) FROM bot") == 0
        assert here.one("SELECT state FROM bot_request") == "withdrawn"


async def test_a_request_that_kills_its_listeners_is_refused_in_the_end(database_url: str, db: Raw, world: World) -> None:
    async with desk(database_url, db, connectors=0) as here:
        request = here.ask(world.account())
        for _ in range(ATTEMPTS_MAX):
            assert len(bot_requests.take(db, limit=1, per_account=8, lease_s=0)) == 1
        here.start()
        assert await here.answer(request) == WEBHOOK
        assert here.core.record.methods() == [], "nobody tries again"


async def test_a_token_that_no_key_of_ours_opens_is_refused(database_url: str, db: Raw, world: World) -> None:
    async with desk(database_url, db, connectors=0) as here:
        request = here.ask(world.account())
        db.execute("UPDATE bot_request SET token = token || '\\x00'")
        here.start()
        assert await here.answer(request) == WEBHOOK


async def test_a_request_nobody_waits_for_any_more_is_withdrawn(database_url: str, db: Raw, world: World) -> None:
    async with desk(database_url, db, connectors=0) as here:
        request = here.ask(world.account())
        db.execute("UPDATE bot_request SET created = now() - interval '11 minutes'")
        here.start()
        assert await here.answer(request) == ("withdrawn", "", "")
        assert here.core.record.methods() == []


async def test_no_more_bots_log_in_at_once_than_agreed(database_url: str, db: Raw, world: World) -> None:
    accounts = [world.account() for _ in range(4)]
    tokens = [f"{900 + n}:secret" for n in range(LOGINS_MAX + 2)]
    async with desk(database_url, db, tokens=tokens, connectors=0) as here:
        here.core.nasty.set(slow_s={"ImportBotAuthorization": 0.3})
        requests = [here.ask(accounts[n % 4], token) for n, token in enumerate(tokens)]
        here.start()
        most = 0
        while here.one("SELECT count(*) FROM bot_request WHERE state = 'pending'"):
            most = max(most, sum(line.closed_at is None for line in here.core.record.connections))
            await asyncio.sleep(0.02)
        assert [await here.answer(request) for request in requests] == [DONE] * len(tokens)
        assert 1 < most <= LOGINS_MAX


async def test_one_account_with_many_bots_holds_nobody_up(database_url: str, db: Raw, world: World) -> None:
    ann, ben = world.account(), world.account()
    async with desk(database_url, db, connectors=0) as here:
        crowd = [here.ask(ann, f"{900 + n}:secret") for n in range(20)]
        one = here.ask(ben)
        taken = bot_requests.take(db, limit=LOGINS_MAX, per_account=4, lease_s=60)
        assert sorted(request.id for request in taken) == [*crowd[:4], one]
        assert bot_requests.take(db, limit=LOGINS_MAX, per_account=4, lease_s=60) == [], "no more until one of hers is answered"
        bot_requests.refuse(db, taken[0], bots.BAD_TOKEN)
        assert len(bot_requests.take(db, limit=LOGINS_MAX, per_account=4, lease_s=60)) == int(taken[0].id != one)


def test_thousands_of_one_account_keep_no_other_from_being_taken(db: Raw, world: World) -> None:
    """However many are pending, each is read once: all this is a small part of what the statement limit allows."""
    ann, ben, carl = (world.account() for _ in range(3))
    crowd = "INSERT INTO bot_request (id, account_id, token) SELECT gen_random_uuid(), %s, '' FROM generate_series(1, %s)"
    for account, number in ((ann, 10_000), (ben, 5), (carl, 1)):
        db.execute(crowd, [account.id, number])
    db.execute("SET statement_timeout = 1000")

    taken = [request.account for _ in range(3) for request in bot_requests.take(db, limit=4, per_account=4, lease_s=60)]

    assert Counter(taken) == {ann.id: 4, ben.id: 4, carl.id: 1}
    assert set(taken[:4]) == {ann.id, ben.id, carl.id}


def test_an_account_has_so_many_unfinished_requests_and_no_more(db: Raw, world: World) -> None:
    ann, ben = world.account(), world.account()

    def added(account: Account) -> bool:
        return bot_requests.add(db, uuid4(), account.id, b"")

    assert [added(ann) for _ in range(UNFINISHED_MAX + 1)] == [True] * UNFINISHED_MAX + [False]
    assert added(ben), "it is each account's own number"
    assert bot_requests.refuse(db, bot_requests.take(db, limit=1, per_account=4, lease_s=60)[0], bots.BAD_TOKEN)
    assert [added(ann), added(ann)] == [True, False]


async def test_a_lost_database_connection_leaves_the_request_to_the_next_try(database_url: str, db: Raw, world: World) -> None:
    ann = world.account()
    async with desk(database_url, db, lease_s=0.6) as here:
        with connect_db(database_url, name="holder") as holder, holder.transaction():
            holder.execute("SELECT 1 FROM account WHERE id = %s FOR NO KEY UPDATE", [ann.id])
            request = here.ask(ann)
            await beside(wait_for_blocked, db, 1)
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatepost listener connecting'")
        assert await here.answer(request) == DONE
        await here.only_key(here.session(here.bot_of(ann))["auth_key"])


async def test_no_token_and_no_key_is_in_a_log(database_url: str, db: Raw, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(connecting, "log", structlog.wrap_logger(structlog.PrintLogger(log)))
    async with desk(database_url, db, lease_s=0.2) as here:
        db.execute("ALTER TABLE bot ADD CONSTRAINT broken CHECK (username <> 'bad_bot')")
        here.core.world.bots[TG].username = "bad_bot"
        try:
            assert await here.connect(world.account()) == WEBHOOK
        finally:
            db.execute("ALTER TABLE bot DROP CONSTRAINT broken")
        await until(lambda: not here.keys(), "every login is ended")
        assert "bot_request_failed" in log.getvalue()
        assert TOKEN not in log.getvalue()
        assert "secret" not in log.getvalue()
