"""Each nastiness of pushes and differences, alone, breaks a naive client in the way that is known of it."""

import asyncio
from typing import Any

import pytest
from telethon import errors, events
from telethon.sessions import MemorySession
from telethon.tl import types

from tests.telegram.core import Core
from tests.telegram.server import serve
from tests.telegram.watching import Watching, watching

BOT, TOKEN = 100, "100:secret"
OWNER, ANN, CHAT = 1, 7, 5_000


def furnish(kind: str = "channel", **switches: Any) -> Core:
    """A server with a bot that is admin in a chat."""
    core = Core()
    core.add_bot(TOKEN)
    core.people.open_chat(CHAT, OWNER, kind)
    core.people.promote(BOT, CHAT, OWNER)
    core.nasty.set(**switches)
    return core


def owed(core: Core) -> list[str]:
    """What the bot is owed besides being admin."""
    return core.record.keys(BOT, 1)


async def new_line(core: Core, before: int) -> None:
    """Wait until the client has come back by itself, and its connection is pushed to."""
    await core.record.until(lambda: len(core.record.connections) > before and core.world.bots[BOT].lines, "it has come back")


async def stay_away(core: Core, session: Any, *deeds: Any) -> None:
    """A client logs in and stores its state; then all this happens while it is away."""
    async with watching(core, TOKEN, session) as watcher:
        core.people.start(1_000, BOT, "stored")
        await watcher.has(owed(core)[-1:])
        before = len(core.record.owed)
    for deed in deeds:
        deed()
    del core.record.owed[:before]


async def test_a_withheld_push_is_not_missed_until_the_next_one() -> None:
    async with serve(furnish(withhold_percent=100)) as core, watching(core, TOKEN) as watcher:
        core.people.start(ANN, BOT, "code")
        await watcher.settle(core, BOT)
        assert watcher.keys == []
        core.nasty.set(withhold_percent=0)
        core.people.start(ANN, BOT, "another")
        await watcher.has(owed(core))


async def test_a_percentage_of_pushes_is_withheld() -> None:
    async with serve(furnish(withhold_percent=20)) as core, watching(core, TOKEN) as watcher:
        for person in range(200):
            core.people.start(1_000 + person, BOT, "code")
        assert 20 <= 200 - core.record.connections[0].pushes <= 60
        core.nasty.set(withhold_percent=0)
        core.people.start(ANN, BOT, "last")
        await watcher.has(owed(core))


def noting(taken: list[Any], watcher: Watching) -> Any:
    """Note what comes from the socket on its way into the client's queue."""
    queue = watcher.client._updates_queue
    put = queue.put_nowait

    def put_nowait(update: Any) -> None:
        taken.append(update)
        put(update)

    return put_nowait


async def test_a_duplicate_without_a_number_is_seen_twice_and_a_numbered_one_only_below_telethons_own_check() -> None:
    async with serve(furnish(duplicate_percent=100)) as core, watching(core, TOKEN) as watcher:
        taken: list[Any] = []
        watcher.client._updates_queue.put_nowait = noting(taken, watcher)
        core.people.promote(BOT, CHAT, OWNER, may_invite=False)
        await watcher.settle(core, BOT)
        assert watcher.kinds.count("UpdateChannel") == 2
        assert watcher.kinds.count("UpdateChannelParticipant") == 1
        assert [type(one.updates[0]).__name__ for one in taken].count("UpdateChannelParticipant") == 2


async def test_what_was_not_stored_in_time_comes_twice() -> None:
    session: Any = MemorySession()
    async with serve(furnish()) as core:
        await stay_away(core, session, lambda: core.people.start(ANN, BOT, "once"))
        stored = dict(session._update_states)
        seen = []
        for _ in range(2):
            async with watching(core, None, session, catch_up=True) as watcher:
                await watcher.until(lambda watcher=watcher: watcher.keys)  # type: ignore[misc]
                seen += watcher.keys
            session._update_states = dict(stored)
        assert seen == core.record.keys(BOT) * 2


async def test_out_of_order_a_join_is_seen_before_the_start_that_led_to_it() -> None:
    async with serve(furnish(reorder_pushes=2)) as core, watching(core, TOKEN) as watcher:
        core.people.start(ANN, BOT, "code")
        core.people.join(ANN, CHAT)
        await watcher.has(owed(core))
        assert watcher.keys == owed(core)[::-1]


async def test_what_is_left_of_the_reordered_comes_a_little_later() -> None:
    async with serve(furnish(reorder_pushes=5, reorder_ms=1)) as core, watching(core, TOKEN) as watcher:
        core.people.start(ANN, BOT, "code")
        core.people.start(ANN, BOT, "another")
        await watcher.has(owed(core))


async def test_what_happens_while_the_connection_is_lost_is_not_asked_for() -> None:
    async with serve(furnish()) as core, watching(core, TOKEN) as watcher:
        core.drop(BOT)
        core.people.start(ANN, BOT, "while away")
        await new_line(core, 1)
        await watcher.settle(core, BOT)
        assert watcher.keys == []
        await watcher.client.catch_up()
        await watcher.has(owed(core))


async def test_connections_break_after_so_many_pushes() -> None:
    async with serve(furnish(drop_after_pushes=3)) as core, watching(core, TOKEN) as watcher:
        for number in range(5):
            core.people.start(ANN, BOT, f"{number}")
        await new_line(core, 1)
        await watcher.settle(core, BOT)
        assert watcher.keys == owed(core)[:3]


@pytest.mark.parametrize("by_switch", [True, False])
async def test_on_a_silent_connection_the_client_believes_itself_connected(by_switch: bool) -> None:
    async with serve(furnish()) as core, watching(core, TOKEN) as watcher:
        if by_switch:
            core.nasty.set(silent=True)
        else:
            assert core.silence(BOT) == 1
        core.people.start(ANN, BOT, "unheard")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.client.get_me(), 0.2)
        assert watcher.client.is_connected()
        assert watcher.keys == []


async def test_a_difference_comes_in_slices_without_qts_and_with_the_messages_last() -> None:
    session: Any = MemorySession()
    async with serve(furnish(difference_limit=4)) as core:
        await stay_away(
            core,
            session,
            lambda: core.people.start(ANN, BOT, "code"),
            lambda: core.people.join(ANN, CHAT),
            lambda: core.people.leave(ANN, CHAT),
            lambda: core.people.start(8, BOT, "code"),
            lambda: core.people.join(8, CHAT),
        )
        async with watching(core, None, session, catch_up=True) as watcher:
            await watcher.has(core.record.keys(BOT))
            start, join, leave, later, last = core.record.keys(BOT)
            assert watcher.keys == [join, leave, start, later, last]
            assert core.record.methods().count("GetDifference") >= 3
            by_qts = {update.qts for update in watcher.updates if hasattr(update, "qts")}
            assert by_qts == {0}, "whoever takes qts for a key takes all of them for one"


async def test_if_a_difference_had_numbers_telethon_would_drop_what_has_them() -> None:
    session: Any = MemorySession()
    async with serve(furnish(difference_zero_qts=False)) as core:
        await stay_away(core, session, lambda: core.people.join(ANN, CHAT), lambda: core.people.start(ANN, BOT, "code"))
        async with watching(core, None, session, catch_up=True) as watcher:
            _, start = core.record.keys(BOT)
            await watcher.has([start])
            await watcher.settle(core, BOT)
            assert watcher.keys == [start]


async def test_a_difference_that_is_too_long_is_lost() -> None:
    session: Any = MemorySession()
    async with serve(furnish(difference_too_long=True)) as core:
        await stay_away(core, session, lambda: core.people.start(ANN, BOT, "code"))
        async with watching(core, None, session, catch_up=True) as watcher:
            await core.record.until(lambda: core.record.methods()[-1] == "GetDifference", "it has asked")
            core.nasty.set(difference_too_long=False)
            await watcher.settle(core, BOT)
            await watcher.client.catch_up()
            await watcher.settle(core, BOT)
            assert watcher.keys == []


async def test_a_short_message_has_no_message_inside() -> None:
    async with serve(furnish(short_messages=True)) as core, watching(core, TOKEN) as watcher:
        core.people.start(ANN, BOT, "code")
        await watcher.has(owed(core))
        update = watcher.updates[0]
        assert isinstance(update, types.UpdateShortMessage)
        assert isinstance(update.message, str), "whoever reads update.message.message fails"
        assert update._entities == {}, "whoever looks for the user in what came with it finds nobody"


async def test_a_join_in_a_group_is_announced_twice() -> None:
    async with serve(furnish("supergroup")) as core, watching(core, TOKEN) as watcher:
        actions: list[Any] = []
        watcher.client.add_event_handler(lambda event: keep(actions, event), events.ChatAction())
        core.people.join(ANN, CHAT)
        await watcher.settle(core, BOT)
        assert sorted((action.user_added, action.user_joined, action.user_id) for action in actions) == [
            (False, True, ANN),
            (True, False, ANN),
        ]
        core.nasty.set(service_messages=False)
        core.people.leave(ANN, CHAT)
        await watcher.settle(core, BOT)
        assert len(actions) == 3


async def test_who_explicitly_left_is_dropped_by_the_usual_event() -> None:
    async with serve(furnish(explicit_left=True)) as core, watching(core, TOKEN) as watcher:
        actions: list[Any] = []
        watcher.client.add_event_handler(lambda event: keep(actions, event), events.ChatAction())
        core.people.join(ANN, CHAT)
        core.people.leave(ANN, CHAT)
        await watcher.settle(core, BOT)
        assert watcher.keys == owed(core)
        assert actions == []


async def keep(actions: list[Any], event: Any) -> None:
    actions.append(event)
    await asyncio.sleep(0)


async def test_a_foreign_link_is_cut_short_and_equals_none() -> None:
    async with serve(furnish()) as core, watching(core, TOKEN) as watcher:
        own = core.people.make_link(CHAT, BOT, "AbCdEfGhIjKlMnOp", title="own").url
        foreign = core.people.make_link(CHAT, OWNER, "QrStUvWxYzAbCdEf", title="foreign").url
        core.people.join(ANN, CHAT, own)
        core.people.join(8, CHAT, foreign)
        core.nasty.set(truncated_links=False)
        core.people.join(9, CHAT, foreign)
        await watcher.has(owed(core))
        shown = [update.invite.link for update in watcher.updates]
        assert shown == [own, "https://t.me/+QrStUvW...", foreign]
        assert watcher.updates[1].invite.title == "foreign"


async def test_a_difference_that_is_refused_is_not_asked_for_again() -> None:
    session: Any = MemorySession()
    async with serve(furnish()) as core:
        await stay_away(core, session, lambda: core.people.start(ANN, BOT, "code"))
        core.nasty.set(errors={"GetDifference": (400, "PERSISTENT_TIMESTAMP_INVALID")})
        async with watching(core, None, session, catch_up=True) as watcher:
            await core.record.until(lambda: core.record.calls[-1].refused == "PERSISTENT_TIMESTAMP_INVALID", "it was refused")
            core.nasty.set(errors={})
            await watcher.client.get_me()
            await watcher.settle(core, BOT)
            assert watcher.keys == []


async def test_a_switch_that_does_not_exist_is_not_turned() -> None:
    with pytest.raises(KeyError, match="there is no switch gapps"):
        Core().nasty.set(gapps=1)


async def test_a_handshake_may_end_in_its_middle() -> None:
    async with serve(furnish(close_in_handshake=1)) as core:
        with pytest.raises(asyncio.IncompleteReadError):
            async with watching(core, TOKEN):
                pass
        with pytest.raises(errors.AccessTokenInvalidError):
            async with watching(core, "100:wrong"):
                pass
