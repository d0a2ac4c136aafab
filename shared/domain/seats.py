"""Where bots stand in chats: what follows of what Telegram tells of it, whatever the order in which it comes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.domain.events import ChatType, Event, Seat

#: Marked ids of channels and supergroups lie below this one, those of basic groups above.
_CHANNELS_BELOW: Final = -1_000_000_000_000

#: A bot and a chat, by our ids.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a bot is an administrator of a chat, and since when that is known."""

    admin: bool
    changed: datetime


def follow(known: Mapping[Place, Standing], seats: Iterable[tuple[Place, Event]]) -> dict[Place, Standing]:
    """Where the bots stand after these events, in the places where they tell something new.

    What is older than what is known changes nothing. Telegram dates in whole seconds: what happened in the second of the last change
    cannot be told to lie before it, and counts.
    """
    changes: dict[Place, Standing] = {}
    for place, event in sorted(seats, key=lambda seat: seat[1].at):
        last = changes.get(place) or known.get(place)
        if last is None or last.changed.replace(microsecond=0) <= event.at:
            changes[place] = Standing(event.after == Seat.ADMIN, event.at)
    return changes


def lost(known: Mapping[Place, Standing], changes: Mapping[Place, Standing]) -> list[Place]:
    """The places where a bot was an administrator and is none now."""
    return [place for place, now in changes.items() if not now.admin and place in known and known[place].admin]


def likely_type(chat: int) -> ChatType:
    """What a chat is of which nothing but its Telegram id is known."""
    return ChatType.GROUP if chat > _CHANNELS_BELOW else ChatType.CHANNEL
