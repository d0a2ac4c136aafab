"""The listener takes in what happens at Telegram, once, through everything that goes wrong with a connection."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import pytest
import telethon
from structlog.testing import capture_logs

from services.ingest import client
from services.ingest.committer import Fenced
from services.ingest.session import token_place
from shared.db.connect import Raw
from shared.db.inbox import Checkpoint
from shared.domain.events import Event, EventKind
from shared.sealing import Sealer, new_key
from tests.ingest.listening import ANN, BOB, CHAT, OWNER, SEALER, Office, eventually, office
from tests.telegram.core import OTHER_DC
from tests.world import World

#: Telegram is asked this often what was missed, so that a test need not wait for it.
OFTEN: Final = {"catch_up_s": 0.2}

CHANNEL: Final = -1_000_000_005_000


@pytest.fixture
def at(database_url: str, db: Raw, world: World) -> tuple[str, Raw, World]:
    return database_url, db, world


At = tuple[str, Raw, World]


async def test_a_start_and_a_join_come_in_with_the_wake_up(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        await here.listening(bot)
        people, tg = here.core.people, here.tg(bot)
        people.open_chat(CHAT, OWNER)
        people.promote(tg, CHAT, OWNER)
        people.start(ANN, tg, "code12-click")
        people.join(ANN, CHAT)
        await eventually(lambda: len(here.inbox(bot)) == 3, "three events came in")
        assert sorted(here.inbox(bot)) == [
            ("change", CHANNEL, ANN, "out", "in", ""),
            ("seat", CHANNEL, 0, "out", "admin", ""),
            ("start", 0, ANN, "", "", "code12-click"),
        ]
        assert here.db.execute("SELECT wake, key FROM outbox").fetchall() == [("apply_events", str(bot))]
        assert {peer for (peer,) in here.db.execute("SELECT peer_id FROM peer WHERE bot_id = %s", [bot])} == {ANN, CHANNEL}


async def test_what_happens_while_no_listener_runs_comes_in_later(at: At) -> None:
    async with office(*at, difference_limit=2) as here:
        bot = here.bot()
        desk = await here.listening(bot)
        here.core.people.start(ANN, here.tg(bot), "first")
        await here.told(bot, "first")
        await desk.stop()
        assert here.session(bot)["listener_id"] is None
        for number in range(5):
            here.core.people.start(BOB, here.tg(bot), f"{number}")
        await here.listening(bot)
        await here.told(bot, "first", *map(str, range(5)))
        assert here.core.record.methods().count("ImportBotAuthorization") == 1


async def test_nothing_is_kept_in_the_clear(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        with capture_logs() as logs:
            await here.listening(bot)
        [agreed] = here.core.secrets.ring.of(here.tg(bot))
        row = here.db.execute("SELECT token, auth_key FROM bot_session").fetchone()
        assert row is not None
        assert b"secret" not in row[0]
        assert agreed.key.key not in row[1]
        assert "secret" not in repr(logs)


async def lose(here: Office, bot: int, how: str) -> None:
    """Make the bot's connection good for nothing."""
    core, tg = here.core, here.tg(bot)
    match how:
        case "dropped":
            core.drop(tg)
        case "silent":
            core.silence(tg)
        case "dead key":
            core.kill_keys(tg)
        case "unknown key":
            core.forget_keys(tg)
        case "duplicate key":
            for agreed in core.secrets.ring.of(tg):
                agreed.destroyed = True
            core.world.bots[tg].lines.clear()
        case _:
            core.nasty.set(withhold_percent=100)


@pytest.mark.parametrize(
    ("how", "reason", "logins"),
    [
        ("dropped", "", 0),
        ("silent", "TimeoutError", 0),
        ("withheld", "", 0),
        ("dead key", "AuthKeyUnregisteredError", 1),
        ("unknown key", "AuthKeyNotFound", 1),
        ("duplicate key", "AuthKeyDuplicatedError", 1),
    ],
)
@pytest.mark.parametrize("key", [True, False], ids=["stored key", "fresh login"])
async def test_nothing_is_lost_with_the_connection(at: At, how: str, reason: str, logins: int, key: bool) -> None:
    with capture_logs() as logs:
        await lose_and_come_back(at, how, logins, key)
    assert reason in {"", *[log["reason"] for log in logs if log["event"] == "bot_lost"][:1]}


async def lose_and_come_back(at: At, how: str, logins: int, key: bool) -> None:
    async with office(*at) as here:
        bot = here.bot(key=key)
        await here.listening(bot, **OFTEN)
        here.core.people.start(ANN, here.tg(bot), "before")
        await here.told(bot, "before")
        await lose(here, bot, how)
        here.core.people.start(BOB, here.tg(bot), "while away")
        await here.told(bot, "before", "while away")
        here.core.nasty.set(withhold_percent=0)
        await eventually(lambda: here.core.world.bots[here.tg(bot)].lines, "it listens again")
        here.core.people.start(ANN, here.tg(bot), "after")
        await here.told(bot, "before", "while away", "after")
        assert here.core.record.methods().count("ImportBotAuthorization") == logins + (not key)
        await eventually(lambda: not here.session(bot)["trouble"], "the trouble is over")


async def test_a_revoked_token_marks_the_bot_and_tells_its_owner_until_there_is_another(at: At) -> None:
    async with office(*at) as here:
        bot, other = here.bot(), here.bot()
        desk = await here.listening(bot, other, **OFTEN)
        here.core.revoke(here.tg(bot))
        revoked = lambda: here.db.execute("SELECT token_revoked FROM bot WHERE id = %s", [bot]).fetchone() == (True,)  # noqa: E731
        await eventually(revoked, "the bot is marked")
        name = here.db.execute("SELECT username FROM bot WHERE id = %s", [bot]).fetchone()
        notices = here.db.execute("SELECT account_id, kind, params FROM notice").fetchall()
        assert notices == [(here.owner.id, "bot_token_revoked", {"title": f"@{name and name[0]}"})]
        assert here.session(bot)["trouble"] == "AccessTokenExpiredError"
        assert here.session(bot)["listener_id"] is None
        assert other in desk.live

        here.core.people.start(ANN, here.tg(bot), "without a token")
        here.core.add_bot(f"{here.tg(bot)}:renewed")
        renewed = SEALER.seal(f"{here.tg(bot)}:renewed".encode(), token_place(bot))
        here.db.execute("UPDATE bot_session SET token = %s WHERE bot_id = %s", [renewed, bot])
        here.db.execute("UPDATE bot SET token_revoked = false WHERE id = %s", [bot])
        await here.told(bot, "without a token")


async def test_a_token_that_was_replaced_meanwhile_is_not_marked(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        here.core.revoke(here.tg(bot))
        here.core.nasty.set(slow_s={"GetUsers": 0.5})
        here.open_desk(**OFTEN)
        await eventually(lambda: here.session(bot)["has_key"], "it is at its login")
        here.core.add_bot(f"{here.tg(bot)}:renewed")
        renewed = SEALER.seal(f"{here.tg(bot)}:renewed".encode(), token_place(bot))
        here.db.execute("UPDATE bot_session SET token = %s WHERE bot_id = %s", [renewed, bot])
        here.core.people.start(ANN, here.tg(bot), "after all")
        await eventually(lambda: here.session(bot)["pts"], "it is logged in with the new one")
        assert here.db.execute("SELECT token_revoked FROM bot WHERE id = %s", [bot]).fetchone() == (False,)
        assert here.db.execute("SELECT count(*) FROM notice").fetchone() == (0,)


async def test_a_flood_wait_puts_the_login_off_and_holds_up_nobody_else(at: At) -> None:
    async with office(*at, flood_s={"ImportBotAuthorization": 60}) as here:
        bot, other = here.bot(), here.bot(key=True)
        desk = await here.listening(other)
        await eventually(lambda: here.session(bot)["put_off"], "the login is put off")
        assert here.session(bot)["trouble"] == "flood wait of 60 s"
        assert here.session(bot)["listener_id"] is None
        here.core.nasty.set(flood_s={})
        here.db.execute("UPDATE bot_session SET retry_at = now() WHERE bot_id = %s", [bot])
        await eventually(lambda: bot in desk.live, "it is logged in")


async def test_a_handshake_that_breaks_off_is_begun_again(at: At) -> None:
    async with office(*at, close_in_handshake=2) as here:
        await here.listening(here.bot())


async def test_a_bot_of_another_data_centre_is_found_there_and_not_looked_for_again(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        here.core.world.bots[here.tg(bot)].dc = OTHER_DC
        desk = await here.listening(bot)
        assert here.session(bot)["dc"] == OTHER_DC
        await desk.stop()
        await here.listening(bot)
        assert here.core.record.methods().count("ImportBotAuthorization") == 2


async def test_a_difference_that_is_too_long_is_no_secret(at: At) -> None:
    async with office(*at, difference_too_long=True) as here:
        with capture_logs() as logs:
            await here.listening(here.bot(key=True))
        assert [log["event"] for log in logs if log["log_level"] == "error"] == ["difference_too_long"]


async def test_where_telegram_begins_to_count_anew_so_do_we(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        here.db.execute("UPDATE bot_session SET pts = 900, qts = 900, seq = 0, date = now() WHERE bot_id = %s", [bot])
        await here.listening(bot)
        here.core.people.start(ANN, here.tg(bot), "counted")
        await here.told(bot, "counted")


async def test_a_session_that_our_keys_do_not_open_is_put_off(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        here.open_desk(sealer=Sealer.read(new_key()))
        await eventually(lambda: here.session(bot)["put_off"], "it is put off")
        assert "key" in here.session(bot)["trouble"]


async def test_a_disconnected_bot_is_logged_out_and_forgotten(at: At) -> None:
    async with office(*at) as here:
        live, idle, keyless = here.bot(key=True), here.bot(key=True), here.bot()
        here.db.execute("UPDATE bot SET disconnected = now() WHERE id = ANY(%s)", [[idle, keyless]])
        desk = await here.listening(live)
        await eventually(lambda: not here.session(idle) and not here.session(keyless), "those without a listener are forgotten")
        here.db.execute("UPDATE bot SET disconnected = now() WHERE id = %s", [live])
        here.db.execute("NOTIFY gatepost_listener, '%s'" % live)  # noqa: UP031
        await eventually(lambda: not here.session(live), "the live one is forgotten")
        assert here.core.record.methods().count("LogOut") == 2
        assert not here.core.secrets.ring.of(here.tg(live))
        assert not desk.live


async def test_the_service_bot_has_the_token_of_the_settings(at: At) -> None:
    async with office(*at) as here:
        here.core.add_bot("77:first")
        desk = await here.listening(0, service_bot_token="77:first")
        here.core.people.start(ANN, 77, "link-code")
        await here.told(0, "link-code")
        await desk.stop()
        here.core.add_bot("78:second")
        desk = await here.listening(0, service_bot_token="78:second")
        here.core.people.start(BOB, 78, "another")
        await here.told(0, "link-code", "another")
        await desk.stop()
        epoch = here.session(0)["epoch"]
        await here.listening(0)
        assert here.session(0)["epoch"] == epoch + 1


@pytest.mark.parametrize("key", [True, False], ids=["stored key", "fresh login"])
async def test_the_very_first_in_a_chat_is_asked_for_when_the_second_comes(at: At, key: bool) -> None:
    async with office(*at) as here:
        bot = here.bot(key=key)
        people, tg = here.core.people, here.tg(bot)
        here.core.world.bots[tg].first_qts = 0
        here.db.execute("UPDATE bot_session SET qts = 0 WHERE qts IS NOT NULL")
        await here.listening(bot)
        assert here.session(bot)["qts"] == 0
        people.open_chat(CHAT, OWNER)
        here.core.nasty.set(withhold_percent=100)
        people.promote(tg, CHAT, OWNER)
        here.core.nasty.set(withhold_percent=0)
        people.join(ANN, CHAT)
        await eventually(lambda: len(here.inbox(bot)) == 2, "both came in")
        assert sorted(here.inbox(bot)) == [("change", CHANNEL, ANN, "out", "in", ""), ("seat", CHANNEL, 0, "out", "admin", "")]
        assert here.session(bot)["qts"] == 2


# Between Telegram and the database


async def test_a_bot_is_not_live_before_it_is_written_where_its_updates_begin(at: At) -> None:
    async with office(*at, slow_s={"GetState": 0.3}) as here:
        bot = here.bot()
        desk = here.open_desk()
        await eventually(lambda: here.session(bot)["has_key"], "it is logging in")
        with here.db.transaction():
            here.db.execute("SELECT FROM bot_session WHERE bot_id = %s FOR UPDATE", [bot])
            await eventually(lambda: waiting(here), "the first checkpoint waits")
            await asyncio.sleep(0.1)
            assert not desk.live
        await eventually(lambda: desk.live, "it is live")
        assert here.session(bot)["pts"] == 1


async def test_what_is_not_committed_is_told_again(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        desk = await here.listening(bot)
        here.core.people.start(ANN, here.tg(bot), "committed")
        await here.told(bot, "committed")
        with here.db.transaction():
            here.db.execute("SELECT FROM bot_session WHERE bot_id = %s FOR UPDATE", [bot])
            here.core.people.start(BOB, here.tg(bot), "waits")
            await eventually(lambda: waiting(here), "a checkpoint waits")
            here.db.execute("UPDATE bot_session SET epoch = epoch + 1, listener_id = NULL WHERE bot_id = %s", [bot])
            assert here.starts(bot) == ["committed"]
        await here.told(bot, "committed", "waits")
        assert bot in desk.live


def waiting(here: Office) -> bool:
    """Whether somebody waits for a lock. (Within a transaction pg_stat_activity would stand still.)"""
    return here.db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,)


async def test_more_than_a_client_can_hold_is_asked_for_later(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "QUEUE_MAX", 5)
    monkeypatch.setattr(client, "EVENTS_MAX", 7)
    async with office(*at) as here:
        bot = here.bot()
        desk = await here.listening(bot)
        with here.db.transaction():
            here.db.execute("SELECT FROM bot_session WHERE bot_id = %s FOR UPDATE", [bot])
            here.core.people.start(ANN, here.tg(bot), "first")
            await eventually(lambda: waiting(here), "a checkpoint waits")
            for number in range(60):
                here.core.people.start(BOB, here.tg(bot), f"{number}")
            here.core.people.open_chat(CHAT, OWNER)
            here.core.people.promote(here.tg(bot), CHAT, OWNER)
            await eventually(lambda: desk.live[bot].client._updates_queue.qsize() == 5, "the queue is full")
            await asyncio.sleep(0.2)
        await here.told(bot, "first", *map(str, range(60)))
        await eventually(lambda: ("seat", CHANNEL, 0, "out", "admin", "") in here.inbox(bot), "the other sequence came, too")


async def test_a_database_that_is_away_costs_nothing(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        await here.listening(bot)
        with capture_logs() as logs:
            here.db.execute("UPDATE pg_database SET datallowconn = false WHERE datname = current_database()")
            end_sessions(here)
            here.core.people.start(ANN, here.tg(bot), "while away")
            await eventually(lambda: sum(log["event"] == "checkpoint_waits" for log in logs) >= 2, "it has tried twice")
            here.db.execute("UPDATE pg_database SET datallowconn = true WHERE datname = current_database()")
            await here.told(bot, "while away")
        assert len(logs) < 30, "it does not go round and round"


async def test_a_database_that_is_away_longer_than_the_lease_is_begun_with_anew(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        desk = await here.listening(bot)
        with capture_logs() as logs:
            here.db.execute("UPDATE pg_database SET datallowconn = false WHERE datname = current_database()")
            end_sessions(here)
            here.core.people.start(ANN, here.tg(bot), "while away")
            await eventually(lambda: any(log["event"] == "lease_over" for log in logs), "the lease is over")
            await eventually(lambda: not desk.live and not here.core.lines, "nothing is connected")
            here.db.execute("UPDATE pg_database SET datallowconn = true WHERE datname = current_database()")
            await here.told(bot, "while away")
        assert bot in desk.live


async def test_what_cannot_be_committed_for_no_known_reason_ends_the_process(at: At) -> None:
    async with office(*at) as here:
        bot, other = here.bot(key=True), here.bot(key=True)
        desk = await here.listening(bot, other)
        unwritable = Event(bot=bot, kind=EventKind.START, at=datetime.now(UTC), payload="\ud800")
        taker = desk.live[other].client
        desk.live[bot].client._events[b"unwritable"] = unwritable
        here.core.people.start(ANN, here.tg(bot), "next to it")
        assert desk.task is not None
        task = desk.task
        await eventually(task.done, "it has ended, with nobody left waiting")
        assert isinstance(task.exception(), UnicodeEncodeError)
        assert [here.session(one)["listener_id"] for one in (bot, other)] == [None, None], "others may have the bots at once"
        with pytest.raises(Fenced):
            await taker._committer.commit(Checkpoint(bot=other, epoch=1, state=None))


def end_sessions(here: Office) -> None:
    here.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")


def test_another_telethon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client.check_telethon()
    monkeypatch.setattr(telethon, "__version__", "1.46.0")
    with pytest.raises(RuntimeError, match=r"1\.45\.0"):
        client.check_telethon()


async def test_noise_of_channels_is_not_asked_about(at: At) -> None:
    async with office(*at) as here:
        bot = here.bot()
        desk = await here.listening(bot)
        people, tg = here.core.people, here.tg(bot)
        people.open_chat(CHAT, OWNER)
        people.promote(tg, CHAT, OWNER)
        for number in range(3):
            people.post(CHAT, f"post {number}")
        here.core.world.chats[CHAT].messages += [object()] * 50
        people.post(CHAT, "after a gap")
        people.start(ANN, tg, "last")
        await here.told(bot, "last")
        box = desk.live[bot].client._message_box
        assert not [entry for entry in [*box.map, *box.possible_gaps] if isinstance(entry, int)]
        assert "GetChannelDifference" not in here.core.record.methods()
