"""A real client reaches the server, agrees on a key, logs in and out, by each transport."""

import asyncio
from typing import Any

import pytest
from telethon import errors
from telethon.network.connection import (
    ConnectionTcpAbridged,
    ConnectionTcpFull,
    ConnectionTcpIntermediate,
    ConnectionTcpObfuscated,
)
from telethon.sessions import StringSession
from telethon.tl import functions

from tests.telegram.client import address_of, connect, new_client
from tests.telegram.server import serve

TOKEN = "100:secret"


@pytest.mark.parametrize("transport", [ConnectionTcpFull, ConnectionTcpAbridged, ConnectionTcpIntermediate, ConnectionTcpObfuscated])
async def test_a_client_logs_in_by_each_transport(transport: Any) -> None:
    async with serve() as core:
        core.add_bot(TOKEN, "hundred_bot")
        client = await connect(new_client(connection=transport), address_of(core), token=TOKEN)
        me = await client.get_me()
        assert (me.id, me.username, me.bot) == (100, "hundred_bot", True)
        assert core.record.methods()[:5] == ["GetConfig", "GetUsers", "GetUsers", "ImportBotAuthorization", "GetState"]
        await client.disconnect()
        await core.record.until(lambda: core.record.connections[0].closed_at, "the connection is seen closed")


async def test_a_stored_key_needs_neither_handshake_nor_login_again() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        session = StringSession()
        client = await connect(new_client(session), address_of(core), token=TOKEN)
        await client.disconnect()
        again = await connect(new_client(StringSession(session.save())), address_of(core))
        assert (await again.get_me()).id == 100
        assert core.record.methods().count("ImportBotAuthorization") == 1
        await again.disconnect()


@pytest.mark.parametrize("token", ["100:another", "7:nobody", "no number"])
async def test_an_unknown_token_is_refused(token: str) -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        client = await connect(new_client(), address_of(core))
        with pytest.raises(errors.AccessTokenInvalidError):
            await client.sign_in(bot_token=token)
        await client.disconnect()


async def test_whoever_has_not_logged_in_may_do_nothing() -> None:
    async with serve() as core:
        client = await connect(new_client(), address_of(core))
        with pytest.raises(errors.AuthKeyUnregisteredError):
            await client(functions.updates.GetStateRequest())
        await client.disconnect()


async def test_after_logging_out_the_key_is_worth_nothing() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        session = StringSession()
        client = await connect(new_client(session), address_of(core), token=TOKEN)
        key = session.save()
        assert await client.log_out()
        again = await connect(new_client(StringSession(key)), address_of(core))
        assert await again.get_me() is None
        await again.disconnect()


async def test_a_client_learns_a_new_salt_in_the_middle() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        client = await connect(new_client(), address_of(core), token=TOKEN)
        core.renew_salt()
        assert (await client.get_me()).id == 100
        await client.disconnect()


async def test_a_key_can_be_known_without_any_login() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        session = StringSession()
        await (await connect(new_client(session), address_of(core), token=TOKEN)).disconnect()
        key = bytes(range(256))
        core.log_in(100, key)
        session.auth_key.key = key
        client = await connect(new_client(session), address_of(core))
        assert (await client.get_me()).id == 100
        await client.disconnect()


async def test_who_asks_for_it_is_disconnected_after_the_delay() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        client = await connect(new_client(auto_reconnect=False), address_of(core), token=TOKEN)
        await client(functions.PingDelayDisconnectRequest(ping_id=1, disconnect_delay=1))
        await client(functions.PingDelayDisconnectRequest(ping_id=2, disconnect_delay=0))
        await core.record.until(lambda: core.record.connections[0].closed_at, "the server has hung up")
        await client.disconnect()


async def test_a_server_that_is_told_to_keeps_connections_of_those_who_asked_for_it() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        core.nasty.set(keeps_connections=True)
        client = await connect(new_client(auto_reconnect=False), address_of(core), token=TOKEN)
        await client(functions.PingDelayDisconnectRequest(ping_id=1, disconnect_delay=0))
        assert (await client.get_me()).id == 100
        await client.disconnect()


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64, b"\xef\x05" + b"\0" * 20, b"\xee\xee\xee\xee\xff\xff\xff\xff", b"\xef"]
)
async def test_who_speaks_another_language_is_hung_up_on_and_nobody_else_is_disturbed(sent: bytes) -> None:
    async with serve() as core:
        reader, writer = await asyncio.open_connection("127.0.0.1", core.ports[2])
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        core.add_bot(TOKEN)
        client = await connect(new_client(), address_of(core), token=TOKEN)
        await client.disconnect()
