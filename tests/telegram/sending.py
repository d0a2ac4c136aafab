"""Messages and files that a bot sends: to whom it may, each once, and what the server remembers of them."""

from typing import Any

from telethon.tl import types

from tests.telegram.call import Call, Refusal
from tests.telegram.core import random_number
from tests.telegram.state import Bot, Chat
from tests.telegram.tl import named_in, now, peer_of

FILE_REFERENCE = b"reference"


# Peers


def known_user(call: Call, peer: Any) -> int:
    """The number of a user the bot may name: itself, or one it has met and whose access hash it shows, or leaves out."""
    if isinstance(peer, types.InputUserSelf | types.InputPeerSelf):
        return call.bot.id
    user_id = getattr(peer, "user_id", None)
    if user_id is None or (user_id not in call.core.world.people and user_id not in call.core.world.bots):
        raise Refusal(400, "PEER_ID_INVALID")
    if peer.access_hash not in {0, call.bot.access_hash(user_id)}:
        raise Refusal(400, "PEER_ID_INVALID")
    return int(user_id)


def known_chat(call: Call, peer: Any) -> Chat:
    number = getattr(peer, "channel_id", None) or getattr(peer, "chat_id", None)
    chat = call.core.world.chats.get(number) if number else None
    if chat is None or getattr(peer, "access_hash", 0) not in {0, call.bot.access_hash(chat.id)}:
        raise Refusal(400, "CHANNEL_INVALID")
    return chat


def addressee(call: Call) -> Any:
    """Where the message goes; refused if the person has not met the bot, or has blocked it."""
    peer = call.request.peer
    if not hasattr(peer, "user_id"):
        return peer_of(known_chat(call, peer))
    person = known_user(call, peer)
    if person in call.bot.blocked_by:
        raise Refusal(403, "USER_IS_BLOCKED")
    if person not in call.bot.met:
        raise Refusal(400, "PEER_ID_INVALID")
    return types.PeerUser(person)


# Messages


def send_message(call: Call) -> Any:
    if not call.request.message:
        raise Refusal(400, "MESSAGE_EMPTY")
    return accept(call, addressee(call), None)


def send_media(call: Call) -> Any:
    peer = addressee(call)
    return accept(call, peer, media_of(call, call.request.media))


def accept(call: Call, peer: Any, media: Any) -> Any:
    """Take the message, unless its random id has been taken before. It counts in the bot's own sequence, as Telegram's do."""
    request, bot = call.request, call.bot
    for entity in request.entities or []:
        if isinstance(entity, types.InputMessageEntityMentionName) and entity.user_id.user_id not in call.core.world.people:
            raise Refusal(400, "ENTITY_MENTION_USER_INVALID")
    if request.random_id in bot.random_ids:
        raise Refusal(500, "RANDOM_ID_DUPLICATE")
    bot.random_ids.add(request.random_id)
    message = types.Message(
        id=bot.next_message_id(),
        peer_id=peer,
        out=True,
        date=now(),
        message=request.message,
        entities=request.entities,
        reply_markup=request.reply_markup,
        media=media,
    )
    update = types.UpdateNewMessage(message, 0, 0)
    bot.number(update)
    write_down(call, peer, message)
    if media is None and request.reply_markup is None:
        return types.UpdateShortSentMessage(
            id=message.id, pts=update.pts, pts_count=1, date=message.date, out=True, entities=request.entities
        )
    users, chats = named_in(call.core.world, bot, [update])
    return types.Updates([types.UpdateMessageID(message.id, request.random_id), update], users, chats, message.date, 0)


def write_down(call: Call, peer: Any, message: Any) -> None:
    call.core.record.was_sent(
        bot_id=call.bot.id,
        peer_id=getattr(peer, "user_id", None) or getattr(peer, "chat_id", None) or peer.channel_id,
        message_id=message.id,
        random_id=call.request.random_id,
        text=message.message,
        entities=[plain(entity) for entity in message.entities or []],
        buttons=[plain(button) for row in getattr(message.reply_markup, "rows", []) for button in row.buttons],
        media=type(message.media).__name__ if message.media else None,
    )


def plain(thing: Any) -> dict[str, Any]:
    """An object as JSON can hold it."""
    return {
        name: value if isinstance(value, int | str | dict) else str(value) for name, value in thing.to_dict().items() if value is not None
    }


# Files


def save_file_part(call: Call) -> Any:
    call.bot.uploads.setdefault(call.request.file_id, {})[call.request.file_part] = len(call.request.bytes)
    return True


def upload_media(call: Call) -> Any:
    return media_of(call, call.request.media)


def media_of(call: Call, media: Any) -> Any:
    """What becomes of a file just uploaded, of one named by its address, or of one the bot has sent before."""
    match media:
        case types.InputMediaUploadedPhoto():
            require_parts(call.bot, media.file)
            return new_photo(call.bot)
        case types.InputMediaUploadedDocument():
            require_parts(call.bot, media.file)
            return new_document(call.bot, media.mime_type, media.attributes)
        case types.InputMediaPhotoExternal():
            return new_photo(call.bot)
        case types.InputMediaDocumentExternal():
            return new_document(call.bot, "application/octet-stream", [])
        case types.InputMediaPhoto() | types.InputMediaDocument():
            return again(call.bot, media.id)
        case _:
            raise Refusal(400, "MEDIA_INVALID")


def require_parts(bot: Bot, file: Any) -> None:
    """Every part of the file must have come."""
    parts = bot.uploads.get(file.id, {})
    missing = [number for number in range(file.parts) if number not in parts]
    if missing:
        raise Refusal(400, f"FILE_PART_{missing[0]}_MISSING")


def again(bot: Bot, media: Any) -> Any:
    """The file behind a reference: this bot's own, and not too old."""
    if media.id not in bot.media:
        raise Refusal(400, "FILE_REFERENCE_EXPIRED")
    if media.access_hash != bot.access_hash(media.id) or media.file_reference != FILE_REFERENCE:
        raise Refusal(400, "MEDIA_EMPTY")
    return bot.media[media.id]


def new_photo(bot: Bot) -> Any:
    photo_id = random_number() >> 1
    photo = types.Photo(
        id=photo_id,
        access_hash=bot.access_hash(photo_id),
        file_reference=FILE_REFERENCE,
        date=now(),
        sizes=[types.PhotoSize("x", 100, 100, 1_000)],
        dc_id=bot.dc,
    )
    bot.media[photo_id] = types.MessageMediaPhoto(photo=photo)
    return bot.media[photo_id]


def new_document(bot: Bot, mime_type: str, attributes: list[Any]) -> Any:
    document_id = random_number() >> 1
    document = types.Document(
        id=document_id,
        access_hash=bot.access_hash(document_id),
        file_reference=FILE_REFERENCE,
        date=now(),
        mime_type=mime_type,
        size=1,
        dc_id=bot.dc,
        attributes=attributes,
    )
    bot.media[document_id] = types.MessageMediaDocument(document=document)
    return bot.media[document_id]
