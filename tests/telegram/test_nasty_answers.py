"""Each nastiness of keys, tokens and answers, alone, breaks a naive client in the way that is known of it."""

import asyncio
from typing import Any

import pytest
from telethon import TelegramClient, errors
from telethon.errors import AuthKeyNotFound
from telethon.sessions import MemorySession, StringSession

from tests.telegram.client import Address, address_of, connect, new_client
from tests.telegram.core import HOME_DC, OTHER_DC, Core
from tests.telegram.server import serve
from tests.telegram.watching import watching

BOT, TOKEN, ANN = 100, "100:secret", 7


def furnish(**switches: Any) -> Core:
    """A server with a bot that somebody has started."""
    core = Core()
    core.add_bot(TOKEN)
    core.people.start(ANN, BOT, "code")
    core.nasty.set(**switches)
    return core


async def logged_in(core: Core) -> Any:
    """A session that has logged in and stored its state, and is not connected now."""
    session: Any = MemorySession()
    async with watching(core, TOKEN, session) as watcher:
        await watcher.client.get_entity(ANN)
    return session


async def test_after_a_flood_wait_on_sending_the_client_refuses_everybody_by_itself() -> None:
    async with serve(furnish(flood_s={"SendMessage": 30})) as core, watching(core, TOKEN) as watcher:
        core.people.start(8, BOT, "code")
        with pytest.raises(errors.FloodWaitError) as flood:
            await watcher.client.send_message(ANN, "welcome")
        assert flood.value.seconds == 30
        core.nasty.set(flood_s={})
        with pytest.raises(errors.FloodWaitError):
            await watcher.client.send_message(8, "to somebody else")
        assert core.record.methods().count("SendMessage") == 1


async def test_a_flood_wait_ends_by_itself() -> None:
    async with serve(furnish(flood_s={"SendMessage": 1})) as core, watching(core, TOKEN) as watcher:
        entity = await watcher.client.get_input_entity(ANN)
        with pytest.raises(errors.FloodWaitError):
            await watcher.client.send_message(entity, "too early")
        watcher.client.flood_sleep_threshold = 10
        await watcher.client.send_message(entity, "in time")
        assert [sent.text for sent in core.record.sent] == ["in time"]


async def test_after_a_flood_wait_on_login_nobody_gets_in() -> None:
    async with serve(furnish(flood_s={"ImportBotAuthorization": 1_800})) as core:
        with pytest.raises(errors.FloodWaitError) as flood:
            async with watching(core, TOKEN):
                pass
        assert flood.value.seconds == 1_800


async def test_a_dead_key_cancels_the_task_that_connects() -> None:
    async with serve(furnish()) as core:
        session = await logged_in(core)
        core.kill_keys(BOT)
        client = new_client(session, catch_up=True)
        with pytest.raises(asyncio.CancelledError):
            await connect(client, address_of(core), token=TOKEN)
        assert isinstance(client._updates_error, errors.AuthKeyUnregisteredError)


async def test_a_key_that_dies_in_the_middle_leaves_the_client_deaf_until_it_asks() -> None:
    async with serve(furnish()) as core, watching(core, TOKEN) as watcher:
        core.kill_keys(BOT)
        core.people.start(ANN, BOT, "unheard")
        assert await watcher.client.get_me() is None
        assert watcher.client.is_connected()
        assert watcher.keys == []


async def test_an_unknown_key_ends_the_connection() -> None:
    async with serve(furnish()) as core:
        session = await logged_in(core)
        core.forget_keys(BOT)
        client = new_client(session, catch_up=True)
        with pytest.raises(AuthKeyNotFound):
            await connect(client, address_of(core))
        with pytest.raises(AuthKeyNotFound):
            await client.disconnected
        await client.disconnect()


async def test_a_key_used_from_two_addresses_is_destroyed_for_both() -> None:
    async with serve(furnish()) as core:
        session = await logged_in(core)
        key = StringSession.save(session)
        first = await connect(new_client(StringSession(key), local_addr="127.0.0.2"), address_of(core))
        assert (await first.get_me()).id == BOT
        second = new_client(StringSession(key), local_addr="127.0.0.3")
        with pytest.raises(errors.AuthKeyDuplicatedError):
            await connect(second, address_of(core))
        with pytest.raises(errors.AuthKeyDuplicatedError):
            await first.get_me()
        assert {opened.address for opened in core.record.connections[1:]} == {"127.0.0.2", "127.0.0.3"}
        for client in (first, second):
            await client.disconnect()
        third = new_client(StringSession(key))
        with pytest.raises(errors.AuthKeyDuplicatedError):
            await connect(third, address_of(core))
        await third.disconnect()


async def test_a_key_used_on_two_connections_from_one_address_can_be_destroyed_too() -> None:
    async with serve(furnish(one_connection_per_key=True)) as core:
        key = StringSession.save(await logged_in(core))
        await core.record.until(lambda: not core.lines, "it has left")
        first = await connect(new_client(StringSession(key)), address_of(core))
        second = new_client(StringSession(key))
        with pytest.raises(errors.AuthKeyDuplicatedError):
            await connect(second, address_of(core))
        for client in (first, second):
            await client.disconnect()


@pytest.mark.parametrize("one_after_the_other", [True, False])
async def test_a_key_may_move_to_another_address_once_the_first_has_left(one_after_the_other: bool) -> None:
    async with serve(furnish(one_address_per_key=one_after_the_other)) as core:
        key = StringSession.save(await logged_in(core))
        first = await connect(new_client(StringSession(key), local_addr="127.0.0.2"), address_of(core))
        if one_after_the_other:
            await first.disconnect()
            await core.record.until(lambda: not core.lines, "it has left")
        second = await connect(new_client(StringSession(key), local_addr="127.0.0.3"), address_of(core))
        assert (await second.get_me()).id == BOT
        await first.disconnect()
        await second.disconnect()


async def test_a_bot_that_lives_elsewhere_is_sent_there_and_whoever_forgets_it_is_unknown() -> None:
    async with serve(furnish()) as core:
        core.world.bots[BOT].dc = OTHER_DC
        session = await logged_in(core)
        assert session.dc_id == OTHER_DC
        assert [call.refused for call in core.record.calls if call.method == "ImportBotAuthorization"] == ["USER_MIGRATE_4", None]
        async with watching(core, None, session) as watcher:
            assert (await watcher.client.get_me()).id == BOT
        session.set_dc(HOME_DC, "127.0.0.1", core.ports[HOME_DC])
        naive = TelegramClient(session, 1, "0", connection_retries=0)
        with pytest.raises(AuthKeyNotFound):
            await naive.connect()
        await naive.disconnect()


async def test_a_revoked_token_kills_the_key_and_is_refused() -> None:
    async with serve(furnish()) as core:
        key = StringSession.save(await logged_in(core))
        core.revoke(BOT)
        client = await connect(new_client(StringSession(key)), address_of(core))
        with pytest.raises(errors.AccessTokenExpiredError):
            await client.sign_in(bot_token=TOKEN)
        core.add_bot("100:renewed")
        await client.sign_in(bot_token="100:renewed")
        await client.disconnect()


async def test_whoever_gives_up_on_a_slow_answer_and_sends_again_sends_twice() -> None:
    async with serve(furnish(slow_s={"SendMessage": 0.5})) as core, watching(core, TOKEN) as watcher:
        entity = await watcher.client.get_input_entity(ANN)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.client.send_message(entity, "welcome"), 0.1)
        core.nasty.set(slow_s={})
        await watcher.client.send_message(entity, "welcome")
        assert [sent.text for sent in core.record.sent] == ["welcome", "welcome"]


async def test_every_answer_can_be_slow() -> None:
    async with serve(furnish()) as core, watching(core, TOKEN) as watcher:
        core.nasty.set(slow_s={"*": 0.2})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.client.get_me(), 0.05)


async def test_a_message_accepted_without_an_answer_looks_like_a_failure() -> None:
    async with serve(furnish(accept_then_drop=1)) as core, watching(core, TOKEN, request_retries=0, raise_last_call_error=True) as watcher:
        with pytest.raises(errors.RandomIdDuplicateError):
            await watcher.client.send_message(ANN, "welcome")
        assert [(sent.text, sent.answered) for sent in core.record.sent] == [("welcome", False)]
        await watcher.client.send_message(ANN, "welcome")
        assert len(core.record.sent) == 2, "whoever takes it for a failure sends twice"


async def test_one_server_after_another_is_found_by_its_own_port() -> None:
    async with serve(furnish()) as core:
        await logged_in(core)
    async with serve(furnish()) as core:
        core.world.bots[BOT].dc = OTHER_DC
        assert (await logged_in(core)).port == core.ports[OTHER_DC]
        assert address_of(core) == Address(core.ports[HOME_DC])
