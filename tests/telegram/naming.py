"""What an event is called: by its content alone, so that whoever has seen the update can tell its name.

Numbers (pts, qts) have no part in it: the same update has others when it comes in a difference. Two updates that say the
same of the same second have one name, and nobody could tell them apart.
"""

from typing import Any

from telethon.tl import types


def event_key(update: Any) -> str | None:
    """The name of what happened; None if it is none of the five that a bot must know of."""
    match update:
        case types.UpdateNewMessage() if is_from_somebody(update.message):
            return message_key(update.message.peer_id.user_id, update.message.id)
        case types.UpdateShortMessage() if not update.out:
            return message_key(update.user_id, update.id)
        case types.UpdateChannelParticipant() | types.UpdateChatParticipant():
            chat = getattr(update, "channel_id", None) or update.chat_id
            change = f"{standing_word(update.prev_participant)}>{standing_word(update.new_participant)}"
            return f"member:{chat}:{update.user_id}:{update.actor_id}:{seconds(update)}:{change}"
        case types.UpdateBotChatInviteRequester():
            return f"request:{peer_number(update.peer)}:{update.user_id}:{seconds(update)}:{getattr(update.invite, 'link', '')}"
        case types.UpdateBotStopped():
            return f"stopped:{update.user_id}:{seconds(update)}:{'yes' if update.stopped else 'no'}"
        case _:
            return None


def is_from_somebody(message: Any) -> bool:
    """Whether a person wrote it to the bot itself: no service message, none in a group, and none of the bot's own."""
    return isinstance(message, types.Message) and isinstance(message.peer_id, types.PeerUser) and not message.out


def message_key(peer_id: int, message_id: int) -> str:
    return f"message:{peer_id}:{message_id}"


def peer_number(peer: Any) -> int:
    """The id, whatever it is the id of."""
    return int(getattr(peer, "user_id", None) or getattr(peer, "chat_id", None) or peer.channel_id)


def seconds(update: Any) -> int:
    return int(update.date.timestamp())


def standing_word(participant: Any) -> str:
    """How somebody stands, in one word."""
    match participant:
        case None | types.ChannelParticipantLeft():
            return "out"
        case types.ChannelParticipantBanned():
            if participant.banned_rights.view_messages:
                return "banned"
            return "restricted_out" if participant.left else "restricted"
        case types.ChannelParticipantAdmin() | types.ChatParticipantAdmin():
            return "admin"
        case types.ChannelParticipantCreator() | types.ChatParticipantCreator():
            return "creator"
        case _:
            return "member"
