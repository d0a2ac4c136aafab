"""The listener takes in what happens at Telegram, once, through everything that goes wrong with a connection."""

from shared.db.connect import Raw
from tests.ingest.listening import ANN, BOB, CHAT, OWNER, eventually, office
from tests.world import World


async def test_a_start_and_a_join_come_in_with_the_wake_up(database_url: str, db: Raw, world: World) -> None:
    async with office(database_url, db, world) as here:
        bot = here.bot()
        await here.listening(bot)
        people, tg = here.core.people, here.tg(bot)
        people.open_chat(CHAT, OWNER)
        people.promote(tg, CHAT, OWNER)
        people.start(ANN, tg, "code12-click")
        people.join(ANN, CHAT)
        await eventually(lambda: len(here.inbox(bot)) == 3, "three events came in")
        assert sorted(here.inbox(bot)) == [
            ("change", -1_000_000_005_000, ANN, "out", "in", ""),
            ("seat", -1_000_000_005_000, 0, "out", "admin", ""),
            ("start", 0, ANN, "", "", "code12-click"),
        ]
        assert db.execute("SELECT wake, key FROM outbox").fetchall() == [("apply_events", str(bot))]
        assert {peer for (peer,) in db.execute("SELECT peer_id FROM peer WHERE bot_id = %s", [bot])} == {ANN, -1_000_000_005_000}


async def test_what_happens_while_no_listener_runs_comes_in_later(database_url: str, db: Raw, world: World) -> None:
    async with office(database_url, db, world) as here:
        bot = here.bot()
        desk = await here.listening(bot)
        here.core.people.start(ANN, here.tg(bot), "first")
        await here.told(bot, "first")
        await desk.stop()
        assert here.session(bot)["listener_id"] is None
        here.core.people.start(BOB, here.tg(bot), "second")
        await here.listening(bot)
        await here.told(bot, "first", "second")
        assert here.core.record.methods().count("ImportBotAuthorization") == 1
