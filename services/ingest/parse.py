"""What Telegram's updates say to us: at most one event each, with a key made of what happened and of nothing else.

Telegram numbers updates (pts, qts), but the same one has another number, or none, when it comes again in a difference. So the key is a hash
of the content. Names have no part in it: a short message comes without its sender's, and people rename themselves.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from telethon.tl import types

from shared.domain.events import ChatType, Event, EventKind, Seat
from shared.domain.leads import Membership

KEY_BYTES: Final = 16

#: Telegram marks channels and supergroups so in one space of numbers with people and groups.
CHANNELS_BELOW: Final = -1_000_000_000_000

#: Characters kept of a /start's payload (Telegram's own have 64 at most; a longer one was typed), a user name, and a chat's title.
PAYLOAD_LENGTH_MAX: Final = 256
USERNAME_LENGTH_MAX: Final = 64
TITLE_LENGTH_MAX: Final = 255

_START: Final = "/start"


class Seen(NamedTuple):
    """An event and its key."""

    key: bytes
    event: Event


def read(update: Any, *, bot: int, tg_id: int) -> Seen | None:
    """What an update says to the bot, whose Telegram id is `tg_id`; None if nothing that concerns us."""
    reader = _READERS.get(type(update))
    return reader(update, bot, tg_id) if reader else None


def peer_of(update: Any, event: Event) -> tuple[int, int] | None:
    """Whom the bot may want to address because of this event, and the access hash for it, if the update says it.

    That is who wrote to it or asks to join, and a chat where it has a seat.
    """
    match event.kind:
        case EventKind.START | EventKind.REQUEST:
            number = event.subscriber
        case EventKind.SEAT:
            number = event.chat
        case _:
            return None
    entity = update._entities.get(number)  # noqa: SLF001 - where Telethon puts what came along with an update
    access_hash = None if entity is None or getattr(entity, "min", False) else getattr(entity, "access_hash", None)
    return None if access_hash is None else (number, access_hash)


def _message(update: Any, bot: int, _tg_id: int) -> Seen | None:
    message = update.message
    if type(message) is types.MessageService:
        return _migration(update, message, bot)
    if type(message) is not types.Message or type(message.peer_id) is not types.PeerUser or message.out:
        return None
    return _start(update, bot, message.peer_id.user_id, message)


def _short_message(update: Any, bot: int, _tg_id: int) -> Seen | None:
    return None if update.out else _start(update, bot, update.user_id, update)


def _start(update: Any, bot: int, subscriber: int, message: Any) -> Seen | None:
    """A /start, if the message is one: alone or with the bot's name behind, and the payload after a space."""
    command, _, payload = message.message.partition(" ")
    if command != _START and not command.startswith(f"{_START}@"):
        return None
    return _seen(
        Event(
            bot=bot,
            kind=EventKind.START,
            at=message.date,
            subscriber=subscriber,
            message=message.id,
            username=_username(update, subscriber),
            payload=_clean(payload, PAYLOAD_LENGTH_MAX),
        )
    )


def _migration(update: Any, message: Any, bot: int) -> Seen | None:
    """A group's last message: it is a supergroup now. The supergroup's first one says the same."""
    if type(message.action) is not types.MessageActionChatMigrateTo or type(message.peer_id) is not types.PeerChat:
        return None
    chat, becomes = -message.peer_id.chat_id, CHANNELS_BELOW - message.action.channel_id
    return _seen(Event(bot=bot, kind=EventKind.MIGRATED, at=message.date, chat=chat, message=becomes, title=_chat(update, chat)[0]))


def _change(update: Any, bot: int, tg_id: int) -> Seen | None:
    """A change of membership, which concerns us if it leads in or out; or of the bot's own seat, which always does."""
    chat = CHANNELS_BELOW - update.channel_id if type(update) is types.UpdateChannelParticipant else -update.chat_id
    if update.user_id == tg_id:
        before, after = _seat(update.prev_participant), _seat(update.new_participant)
        title, chat_type = _chat(update, chat)
        seat = Event(bot=bot, kind=EventKind.SEAT, at=update.date, chat=chat, before=before, after=after, title=title, chat_type=chat_type)
        return _seen(seat, actor=update.actor_id)
    was, becomes = _membership(update.prev_participant), _membership(update.new_participant)
    if was is becomes:
        return None
    change = Event(
        bot=bot,
        kind=EventKind.CHANGE,
        at=update.date,
        subscriber=update.user_id,
        chat=chat,
        username=_username(update, update.user_id),
        before=was,
        after=becomes,
        own=update.actor_id == update.user_id,
    )
    return _seen(change, actor=update.actor_id)


def _request(update: Any, bot: int, _tg_id: int) -> Seen | None:
    peer = update.peer
    chat = CHANNELS_BELOW - peer.channel_id if type(peer) is types.PeerChannel else -peer.chat_id
    return _seen(
        Event(
            bot=bot,
            kind=EventKind.REQUEST,
            at=update.date,
            subscriber=update.user_id,
            chat=chat,
            username=_username(update, update.user_id),
        )
    )


def _stopped(update: Any, bot: int, _tg_id: int) -> Seen | None:
    after = "blocked" if update.stopped else ""
    return _seen(Event(bot=bot, kind=EventKind.STOPPED, at=update.date, subscriber=update.user_id, after=after))


_READERS: Final[Mapping[type[Any], Callable[[Any, int, int], Seen | None]]] = {
    types.UpdateNewMessage: _message,
    types.UpdateShortMessage: _short_message,
    types.UpdateChannelParticipant: _change,
    types.UpdateChatParticipant: _change,
    types.UpdateBotChatInviteRequester: _request,
    types.UpdateBotStopped: _stopped,
}


def _seen(event: Event, actor: int = 0) -> Seen:
    content = (event.kind, event.chat, event.subscriber, actor, event.at.timestamp(), event.before, event.after, event.message)
    return Seen(blake2b(repr(content).encode(), digest_size=KEY_BYTES).digest(), event)


def _membership(participant: Any) -> Membership:
    match participant:
        case None | types.ChannelParticipantLeft():
            return Membership.OUT
        case types.ChannelParticipantBanned():
            if participant.banned_rights.view_messages:
                return Membership.BANNED
            return Membership.OUT if participant.left else Membership.IN
        case _:
            return Membership.IN


def _seat(participant: Any) -> Seat:
    match participant:
        case (
            types.ChannelParticipantAdmin()
            | types.ChatParticipantAdmin()
            | types.ChannelParticipantCreator()
            | types.ChatParticipantCreator()
        ):
            return Seat.ADMIN
        case _:
            return Seat.MEMBER if _membership(participant) is Membership.IN else Seat.OUT


def _username(update: Any, subscriber: int) -> str:
    """A user name; one that was bought stands in a list of its own."""
    user = update._entities.get(subscriber)  # noqa: SLF001 - where Telethon puts what came along with an update
    if not isinstance(user, types.User):
        return ""
    name = user.username or next((one.username for one in user.usernames or () if one.active), "")
    return _clean(name, USERNAME_LENGTH_MAX)


def _chat(update: Any, chat: int) -> tuple[str, str]:
    """Title and type; empty if the update does not say."""
    entity = update._entities.get(chat)  # noqa: SLF001 - where Telethon puts what came along with an update
    if chat > CHANNELS_BELOW:
        chat_type = ChatType.GROUP.value
    elif entity is None:
        chat_type = ""
    else:
        chat_type = (ChatType.CHANNEL if getattr(entity, "broadcast", False) else ChatType.SUPERGROUP).value
    return _clean(getattr(entity, "title", ""), TITLE_LENGTH_MAX), chat_type


def _clean(text: str, length: int) -> str:
    """Text that PostgreSQL can keep, cut to a length."""
    if not text.isascii():
        text = text.encode("utf-8", "ignore").decode()
    return text.replace("\0", "")[:length]
