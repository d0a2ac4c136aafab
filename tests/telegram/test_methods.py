"""Each method that a bot of ours calls, called through Telethon."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from telethon import Button, errors
from telethon.tl import functions, types

from tests.telegram.core import Core
from tests.telegram.server import serve
from tests.telegram.watching import Watching, watching

BOT, TOKEN = 100, "100:secret"
OWNER, ANN, CHAT, GROUP = 1, 7, 5_000, 6_000


@asynccontextmanager
async def client(kind: str = "supergroup") -> AsyncIterator[tuple[Core, Any, Watching]]:
    """A bot that Ann has started and that is admin in a chat."""
    core = Core()
    core.add_bot(TOKEN, "hundred_bot")
    core.people.open_chat(CHAT, OWNER, kind, username="our_chat")
    async with serve(core), watching(core, TOKEN) as watcher:
        core.people.promote(BOT, CHAT, OWNER)
        core.people.start(ANN, BOT, "code")
        await watcher.has(core.record.keys(BOT))
        yield core, watcher.client, watcher


async def test_a_text_is_sent_as_it_was_written() -> None:
    async with client() as (core, bot, _):
        await bot.send_message(ANN, "**hello** there", parse_mode="md")
        await bot.send_message(ANN, "press", buttons=[[Button.url("go", "https://example.com/?a=1")]])
        first, second = core.record.sent
        assert (first.peer_id, first.text, first.entities[0]["_"], first.buttons) == (ANN, "hello there", "MessageEntityBold", [])
        assert second.buttons[0]["text"] == "go"
        assert "https://example.com/?a=1" in str(second.buttons)


async def test_a_message_is_taken_once_for_each_random_id() -> None:
    async with client() as (core, bot, _):
        request = functions.messages.SendMessageRequest(await bot.get_input_entity(ANN), "hello", random_id=5)
        await bot(request)
        bot._request_retries, bot._raise_last_call_error = 0, True
        with pytest.raises(errors.RandomIdDuplicateError):
            await bot(request)
        assert len(core.record.sent) == 1


async def test_what_a_bot_sends_does_not_look_like_a_gap() -> None:
    async with client() as (core, bot, watcher):
        await bot.send_message(ANN, "one")
        await bot.send_message(ANN, "two", buttons=[[Button.url("go", "https://example.com")]])
        asked = core.record.methods().count("GetDifference")
        core.people.start(ANN, BOT, "again")
        await watcher.has(core.record.keys(BOT))
        assert core.record.methods().count("GetDifference") == asked


@pytest.mark.parametrize(
    ("name", "size", "media"),
    [
        ("picture.jpg", 2_000, "MessageMediaPhoto"),
        ("film.mp4", 1_000, "MessageMediaDocument"),
        ("film.mp4", 11_000_000, "MessageMediaDocument"),
    ],
)
async def test_a_file_is_uploaded_and_sent(name: str, size: int, media: str) -> None:
    async with client() as (core, bot, _):
        file = io.BytesIO(b"\0" * size)
        file.name = name
        await bot.send_file(ANN, file, caption="look")
        assert (core.record.sent[0].media, core.record.sent[0].text) == (media, "look")


@pytest.mark.parametrize("name", ["picture.jpg", "film.mp4"])
async def test_a_file_elsewhere_is_sent_by_its_address(name: str) -> None:
    async with client() as (core, bot, _):
        await bot.send_file(ANN, f"https://example.com/{name}")
        assert core.record.sent[0].media
        assert "SaveFilePart" not in core.record.methods()


async def test_a_file_is_uploaded_once_and_sent_again_by_its_reference_until_it_expires() -> None:
    async with client() as (core, bot, _):
        file = await bot.upload_file(b"\0" * 1_000, file_name="picture.jpg")
        uploaded = await bot(functions.messages.UploadMediaRequest(types.InputPeerSelf(), types.InputMediaUploadedPhoto(file)))
        again = types.InputPhoto(uploaded.photo.id, uploaded.photo.access_hash, uploaded.photo.file_reference)
        await bot.send_file(ANN, again)
        await bot.send_file(ANN, again)
        assert core.record.methods().count("SaveFilePart") == 1
        core.expire_media(BOT)
        with pytest.raises(errors.FileReferenceExpiredError):
            await bot.send_file(ANN, again)


async def test_a_file_with_a_part_missing_is_refused() -> None:
    async with client() as (_, bot, _watcher):
        file = types.InputFile(1, 2, "picture.jpg", "")
        await bot(functions.upload.SaveFilePartRequest(1, 0, b"half"))
        with pytest.raises(errors.FilePartMissingError):
            await bot.send_file(ANN, types.InputMediaUploadedPhoto(file))


async def test_nobody_is_written_to_who_has_blocked_the_bot_or_never_met_it() -> None:
    async with client() as (core, bot, _):
        core.world.person(8)
        peer = types.InputPeerUser(8, core.world.bots[BOT].access_hash(8))
        with pytest.raises(errors.PeerIdInvalidError):
            await bot.send_message(peer, "who are you?")
        core.people.block(ANN, BOT)
        with pytest.raises(errors.UserIsBlockedError):
            await bot.send_message(ANN, "hello?")
        with pytest.raises(errors.PeerIdInvalidError):
            await bot.send_message(types.InputPeerUser(ANN, 12345), "a guess")
        assert core.record.sent == []


async def test_who_has_asked_to_join_may_be_written_to() -> None:
    async with client() as (core, bot, watcher):
        core.people.ask(8, CHAT)
        await watcher.has(core.record.keys(BOT))
        await bot.send_message(8, "one moment")
        assert core.record.sent[0].peer_id == 8


async def test_a_request_is_approved_or_declined_once() -> None:
    async with client() as (core, bot, watcher):
        for person in (8, 9):
            core.people.ask(person, CHAT)
        await watcher.has(core.record.keys(BOT))
        await bot(functions.messages.HideChatJoinRequestRequest(chat_peer(core), await bot.get_input_entity(8), approved=True))
        await bot(functions.messages.HideChatJoinRequestRequest(chat_peer(core), await bot.get_input_entity(9)))
        await core.record.until(lambda: core.record.owed[-1].kind == "approve", "approved")
        await watcher.has(core.record.keys(BOT))
        assert core.record.owed[-1].facts["by"] == BOT
        with pytest.raises(errors.HideRequesterMissingError):
            await bot(functions.messages.HideChatJoinRequestRequest(chat_peer(core), await bot.get_input_entity(8), approved=True))


def chat_peer(core: Core) -> Any:
    return types.InputPeerChannel(CHAT, core.world.bots[BOT].access_hash(CHAT))


async def test_a_link_of_the_bots_own_is_whole_when_somebody_joins_by_it() -> None:
    async with client() as (core, bot, watcher):
        request = functions.messages.ExportChatInviteRequest(chat_peer(core), title="campaign", request_needed=True)
        link = await bot(request)
        assert (link.admin_id, link.title, link.request_needed) == (BOT, "campaign", True)
        core.people.ask(8, CHAT, link.link)
        await watcher.has(core.record.keys(BOT))
        assert watcher.updates[-1].invite.link == link.link
        core.people.promote(BOT, CHAT, OWNER, may_invite=False)
        with pytest.raises(errors.ChatAdminRequiredError):
            await bot(request)


async def test_chats_and_their_members_can_be_looked_up() -> None:
    async with client() as (core, bot, _):
        core.people.open_chat(GROUP, OWNER, "group")
        core.people.add(BOT, GROUP, OWNER)
        channel = (await bot(functions.channels.GetChannelsRequest([chat_peer(core)]))).chats[0]
        assert (channel.id, channel.megagroup, channel.admin_rights.invite_users) == (CHAT, True, True)
        assert (await bot(functions.messages.GetChatsRequest([GROUP]))).chats[0].id == GROUP
        me = await bot(functions.channels.GetParticipantRequest(chat_peer(core), types.InputPeerSelf()))
        assert isinstance(me.participant, types.ChannelParticipantAdmin)
        with pytest.raises(errors.UserNotParticipantError):
            await bot(functions.channels.GetParticipantRequest(chat_peer(core), await bot.get_input_entity(ANN)))
        with pytest.raises(errors.ChannelInvalidError):
            await bot(functions.channels.GetChannelsRequest([types.InputChannel(9, 9)]))


async def test_names_are_resolved() -> None:
    async with client() as (core, bot, _):
        core.world.person(8).username = "somebody"
        assert [(await bot.get_entity(name)).id for name in ("our_chat", "somebody", "hundred_bot")] == [CHAT, 8, BOT]
        with pytest.raises(ValueError, match="nobody_at_all"):
            await bot.get_entity("nobody_at_all")


async def test_commands_are_kept() -> None:
    async with client() as (core, bot, _):
        scope = types.BotCommandScopeDefault()
        await bot(functions.bots.SetBotCommandsRequest(scope, "", [types.BotCommand("start", "Begin")]))
        assert core.world.bots[BOT].commands == ["start"]
        assert [one.command for one in await bot(functions.bots.GetBotCommandsRequest(scope, ""))] == ["start"]
        assert await bot(functions.bots.ResetBotCommandsRequest(scope, ""))


async def test_a_method_that_is_not_there_says_so() -> None:
    async with client() as (_, bot, _watcher):
        with pytest.raises(errors.RPCError, match="METHOD_GetPassword_UNKNOWN_HERE"):
            await bot(functions.account.GetPasswordRequest())
        assert (await bot(functions.help.GetNearestDcRequest())).this_dc == 2
