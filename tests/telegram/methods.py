"""The methods a bot may call, in one table; those for messages and files are in `sending.py`."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from inspect import signature
from typing import Any, Final

from telethon.tl import functions, types

from tests.telegram import sending
from tests.telegram.call import Call, Refusal
from tests.telegram.core import HOST
from tests.telegram.difference import channel_difference, difference, state_of
from tests.telegram.state import OUTSIDE, Bot, Chat, Person, Standing
from tests.telegram.tl import channel_participant, chat_of, invite, me, now, peer_of, user

#: Numbers a client is told and never needs.
LIMITS: Final = {
    name: 1_000
    for name, parameter in signature(types.Config.__init__).parameters.items()
    if parameter.annotation is int and parameter.default is parameter.empty and name != "this_dc"
}


def get_config(call: Call) -> Any:
    return types.Config(
        date=now(),
        expires=now() + timedelta(hours=1),
        test_mode=True,
        this_dc=call.agreed.dc,
        dc_options=[types.DcOption(dc, HOST, port) for dc, port in call.core.ports.items()],
        dc_txt_domain_name="localhost",
        me_url_prefix="https://t.me/",
        **LIMITS,
    )


def get_nearest_dc(call: Call) -> Any:
    return types.NearestDc("XX", call.agreed.dc, call.agreed.dc)


def import_bot_authorization(call: Call) -> Any:
    """Log in by token. A bot that lives in another data centre is sent there."""
    bot = call.core.world.bot_by_token(call.request.bot_auth_token)
    if bot is None:
        raise Refusal(400, "ACCESS_TOKEN_INVALID")
    if bot.revoked:
        raise Refusal(400, "ACCESS_TOKEN_EXPIRED")
    if bot.dc != call.agreed.dc:
        raise Refusal(303, f"USER_MIGRATE_{bot.dc}")
    call.agreed.bot_id = bot.id
    return types.auth.Authorization(user=me(bot))


def log_out(call: Call) -> Any:
    for line in [line for line in call.core.lines if line.key_id == call.agreed.id]:
        line.leave_bot()
    call.agreed.bot_id = None
    return types.auth.LoggedOut()


def get_users(call: Call) -> Any:
    return [user(call.core.world, call.bot, sending.known_user(call, peer)) for peer in call.request.id]


def get_chats(call: Call) -> Any:
    chats = [call.core.world.chats[number] for number in call.request.id if number in call.core.world.chats]
    return types.messages.Chats([chat_of(call.bot, chat) for chat in chats])


def get_channels(call: Call) -> Any:
    return types.messages.Chats([chat_of(call.bot, sending.known_chat(call, peer)) for peer in call.request.id])


def get_participant(call: Call) -> Any:
    """How somebody stands to a supergroup or channel."""
    chat = sending.known_chat(call, call.request.channel)
    user_id = sending.known_user(call, call.request.participant)
    member = chat.members.get(user_id)
    if member is None:
        raise Refusal(400, "USER_NOT_PARTICIPANT")
    participant = channel_participant(user_id, member)
    return types.channels.ChannelParticipant(participant, [chat_of(call.bot, chat)], [user(call.core.world, call.bot, user_id)])


def resolve_username(call: Call) -> Any:
    match call.core.world.named(call.request.username):
        case Bot() | Person() as found:
            call.bot.met.add(found.id)
            return types.contacts.ResolvedPeer(types.PeerUser(found.id), [], [user(call.core.world, call.bot, found.id)])
        case Chat() as found:
            return types.contacts.ResolvedPeer(peer_of(found), [chat_of(call.bot, found)], [])
        case None:
            raise Refusal(400, "USERNAME_NOT_OCCUPIED")


def get_state(call: Call) -> Any:
    return state_of(call.bot)


def get_difference(call: Call) -> Any:
    return difference(call.core.world, call.bot, call.core.nasty, call.request)


def get_channel_difference(call: Call) -> Any:
    chat = sending.known_chat(call, call.request.channel)
    if chat.standing(call.bot.id) in OUTSIDE:
        raise Refusal(400, "CHANNEL_PRIVATE")
    return channel_difference(call.core.world, call.bot, chat, call.request)


def export_chat_invite(call: Call) -> Any:
    """A link of the bot's own, which it will always see whole."""
    chat = sending.known_chat(call, call.request.peer)
    require_inviting(call, chat)
    secret = f"{call.bot.id}x{len(chat.links)}x{chat.id}"
    needed = bool(call.request.request_needed)
    link = call.core.people.make_link(chat.id, call.bot.id, secret, title=call.request.title, request_needed=needed)
    return invite(call.bot, link, truncated=False)


def hide_chat_join_request(call: Call) -> Any:
    """Let somebody in who has asked, or not; the bots that watch are told just after the answer."""
    chat = sending.known_chat(call, call.request.peer)
    require_inviting(call, chat)
    person = sending.known_user(call, call.request.user_id)
    if person not in chat.asked:
        raise Refusal(400, "HIDE_REQUESTER_MISSING")
    people, by = call.core.people, call.bot.id
    if call.request.approved:
        asyncio.get_running_loop().call_soon(lambda: people.approve(person, chat.id, by))
    else:
        people.decline(person, chat.id)
    return types.Updates([], [], [], now(), 0)


def require_inviting(call: Call, chat: Chat) -> None:
    member = chat.members.get(call.bot.id)
    if member is None or member.standing is not Standing.ADMIN or not member.may_invite:
        raise Refusal(400, "CHAT_ADMIN_REQUIRED")


def set_bot_commands(call: Call) -> Any:
    call.bot.commands = [command.command for command in call.request.commands]
    return True


def get_bot_commands(call: Call) -> Any:
    return [types.BotCommand(command, command) for command in call.bot.commands]


def reset_bot_commands(call: Call) -> Any:
    call.bot.commands = []
    return True


METHODS: Final[dict[type[Any], Callable[[Call], Any]]] = {
    functions.help.GetConfigRequest: get_config,
    functions.help.GetNearestDcRequest: get_nearest_dc,
    functions.auth.ImportBotAuthorizationRequest: import_bot_authorization,
    functions.auth.LogOutRequest: log_out,
    functions.users.GetUsersRequest: get_users,
    functions.messages.GetChatsRequest: get_chats,
    functions.channels.GetChannelsRequest: get_channels,
    functions.channels.GetParticipantRequest: get_participant,
    functions.contacts.ResolveUsernameRequest: resolve_username,
    functions.updates.GetStateRequest: get_state,
    functions.updates.GetDifferenceRequest: get_difference,
    functions.updates.GetChannelDifferenceRequest: get_channel_difference,
    functions.messages.SendMessageRequest: sending.send_message,
    functions.messages.SendMediaRequest: sending.send_media,
    functions.messages.UploadMediaRequest: sending.upload_media,
    functions.upload.SaveFilePartRequest: sending.save_file_part,
    functions.upload.SaveBigFilePartRequest: sending.save_file_part,
    functions.messages.ExportChatInviteRequest: export_chat_invite,
    functions.messages.HideChatJoinRequestRequest: hide_chat_join_request,
    functions.bots.SetBotCommandsRequest: set_bot_commands,
    functions.bots.GetBotCommandsRequest: get_bot_commands,
    functions.bots.ResetBotCommandsRequest: reset_bot_commands,
}
