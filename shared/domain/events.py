"""What a listener tells the ingest of Telegram's updates: one flat record for each thing that happened.

Chats are named as Telegram clients mark them: basic groups negative, channels and supergroups from -1000000000000 down.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """What can be told."""

    START = "start"  # somebody sent /start to the bot: subscriber, username, message, payload
    REQUEST = "request"  # somebody asks to join: chat, subscriber, username
    CHANGE = "change"  # somebody's membership changed: chat, subscriber, username, before, after (Membership), own
    SEAT = "seat"  # the bot's own place changed: chat, title, chat_type, before, after (Seat), own is False
    STOPPED = "stopped"  # somebody blocked the bot, or unblocked it: subscriber, after ("blocked" or "")
    MIGRATED = "migrated"  # a group became a supergroup: chat (the group), message (the supergroup's marked id), title


class Seat(StrEnum):
    """Where a bot stands in a chat. Only an administrator is told who comes and goes."""

    OUT = "out"
    MEMBER = "member"
    ADMIN = "admin"


class ChatType(StrEnum):
    """Kinds of chats; part of the public API."""

    CHANNEL = "channel"
    SUPERGROUP = "supergroup"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a bot, `at` Telegram's date. What a kind has no use for is empty."""

    bot: int
    kind: EventKind
    at: datetime
    subscriber: int = 0
    chat: int = 0
    message: int = 0
    username: str = ""
    payload: str = ""
    before: str = ""
    after: str = ""
    own: bool = False
    title: str = ""
    chat_type: str = ""
