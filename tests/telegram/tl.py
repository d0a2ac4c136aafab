"""Our facts as Telegram's objects, as one bot is shown them."""

from datetime import UTC, datetime
from typing import Any

from telethon.tl import types

from tests.telegram.naming import peer_number
from tests.telegram.state import OUTSIDE, Bot, Chat, Kind, Link, Member, Person, Standing, World

#: Shown of a foreign link's secret.
SHOWN_CHARACTERS = 8

EPOCH = datetime.fromtimestamp(0, UTC)


def now() -> datetime:
    """Telegram's dates have whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def me(bot: Bot) -> Any:
    return types.User(
        id=bot.id,
        is_self=True,
        bot=True,
        access_hash=bot.access_hash(bot.id),
        first_name=bot.username,
        username=bot.username,
        bot_info_version=1,
    )


def user(world: World, bot: Bot, user_id: int) -> Any:
    """A person or another bot, in this bot's eyes."""
    if user_id == bot.id:
        return me(bot)
    access_hash = bot.access_hash(user_id)
    if user_id in world.bots:
        other = world.bots[user_id]
        return types.User(
            id=user_id, bot=True, bot_info_version=1, access_hash=access_hash, first_name=other.username, username=other.username
        )
    person: Person = world.person(user_id)
    return types.User(id=user_id, access_hash=access_hash, first_name=person.name, username=person.username)


def chat_of(bot: Bot, chat: Chat) -> Any:
    member = chat.members.get(bot.id)
    admin = member is not None and member.standing is Standing.ADMIN
    rights = admin_rights(member.may_invite) if admin and member else None
    if chat.basic:
        moved = types.InputChannel(chat.moved_to, bot.access_hash(chat.moved_to)) if chat.moved_to else None
        return types.Chat(
            id=chat.id,
            title=chat.title,
            photo=types.ChatPhotoEmpty(),
            participants_count=len(chat.members),
            date=chat.since,
            version=1,
            left=member is None,
            deactivated=moved is not None,
            migrated_to=moved,
            admin_rights=rights,
        )
    return types.Channel(
        id=chat.id,
        title=chat.title,
        photo=types.ChatPhotoEmpty(),
        date=chat.since,
        broadcast=chat.kind is Kind.CHANNEL,
        megagroup=chat.kind is Kind.SUPERGROUP,
        left=member is None,
        username=chat.username,
        access_hash=bot.access_hash(chat.id),
        admin_rights=rights,
    )


def peer_of(chat: Chat) -> Any:
    return types.PeerChat(chat.id) if chat.basic else types.PeerChannel(chat.id)


def admin_rights(may_invite: bool) -> Any:
    return types.ChatAdminRights(change_info=True, delete_messages=True, ban_users=True, invite_users=may_invite or None, other=True)


def channel_participant(user_id: int, member: Member | None, *, explicit_left: bool = False) -> Any:
    """How somebody stands to a supergroup or channel; who is out is nothing at all, or said to have left."""
    if member is None or member.standing is Standing.OUT:
        return types.ChannelParticipantLeft(types.PeerUser(user_id)) if explicit_left else None
    match member.standing:
        case Standing.ADMIN:
            return types.ChannelParticipantAdmin(
                user_id=user_id, promoted_by=member.by, date=member.since, admin_rights=admin_rights(member.may_invite)
            )
        case Standing.CREATOR:
            return types.ChannelParticipantCreator(user_id, admin_rights(may_invite=True))
        case Standing.BANNED:
            rights = types.ChatBannedRights(until_date=EPOCH, view_messages=True, send_messages=True)
            return types.ChannelParticipantBanned(types.PeerUser(user_id), member.by, member.since, rights, left=True)
        case Standing.RESTRICTED | Standing.RESTRICTED_OUT:
            rights = types.ChatBannedRights(until_date=EPOCH, send_messages=True)
            left = member.standing is Standing.RESTRICTED_OUT or None
            return types.ChannelParticipantBanned(types.PeerUser(user_id), member.by, member.since, rights, left=left)
        case _:
            return types.ChannelParticipant(user_id, member.since)


def group_participant(user_id: int, member: Member | None) -> Any:
    """How somebody stands to a basic group, where nobody is banned or restricted."""
    if member is None or member.standing in OUTSIDE:
        return None
    match member.standing:
        case Standing.ADMIN:
            return types.ChatParticipantAdmin(user_id, member.by, member.since)
        case Standing.CREATOR:
            return types.ChatParticipantCreator(user_id)
        case _:
            return types.ChatParticipant(user_id, member.by, member.since)


def invite(bot: Bot, link: Link | None, *, truncated: bool) -> Any:
    """The link as this bot sees it: whole if it is its own, else cut short."""
    if link is None:
        return None
    url = link.url
    if truncated and link.admin_id != bot.id:
        start, slash, secret = url.rpartition("/")
        url = f"{start}{slash}{secret[:SHOWN_CHARACTERS]}..."
    return types.ChatInviteExported(
        link=url, admin_id=link.admin_id, date=link.date, title=link.title, request_needed=link.request_needed or None
    )


def named_in(world: World, bot: Bot, updates: list[Any]) -> tuple[list[Any], list[Any]]:
    """The users and chats whom these updates name, as they accompany them."""
    users: set[int] = set()
    chats: set[int] = set()
    for update in updates:
        collect(update, users, chats)
        for part in (getattr(update, "message", None), getattr(update, "invite", None)):
            if part is not None:
                collect(part, users, chats)
    shown = [user(world, bot, number) for number in sorted(users)]
    return shown, [chat_of(bot, world.chats[number]) for number in sorted(chats) if number in world.chats]


def collect(part: Any, users: set[int], chats: set[int]) -> None:
    """Add the ids that one object names."""
    users.update(number for name in ("user_id", "actor_id", "admin_id") if (number := getattr(part, name, None)))
    chats.update(number for name in ("chat_id", "channel_id") if (number := getattr(part, name, None)))
    for name in ("peer", "peer_id", "from_id"):
        peer = getattr(part, name, None)
        if peer is not None:
            (users if isinstance(peer, types.PeerUser) else chats).add(peer_number(peer))
