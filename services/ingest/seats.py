"""What changes where bots stand and whom accounts belong to: a bot's seat in a chat, a group that becomes a supergroup, a link code.

These are few, take locks that come before the inbox's, and are applied before what they may shed light on.
"""

from collections.abc import Collection, Sequence

from shared.db import chats
from shared.db.connect import Raw
from shared.db.ingest import tell_listeners
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.deeplinks import parse_link
from shared.domain.events import ChatType, Event, EventKind
from shared.domain.seats import follow, likely_type, lost


def take_turn(db: Raw, bots: Sequence[int], *, share: int, only: int | None = None) -> int:
    """Apply what waits of these kinds among the oldest events of the bots, in one transaction. Returns how many were applied.

    1. Look for them; mostly there are none.
    2. Lock accounts, bots and inboxes, in this order.
    3. Owners first, then chats that are one now, then the bots' seats.
    4. Forget them; after the commit tell the service bot's listener if an owner is to be told something.
    """
    found = chats.peek(db, bots, share=share, only=only)
    if not found:
        return 0
    with db.transaction():
        starts = {parse_link(event.payload) for event in found.values() if event.kind is EventKind.START}
        chats.lock(db, codes=starts, bots={event.bot for event in found.values() if event.bot != SERVICE_BOT})
        events = chats.take(db, found)
        in_order = sorted(events.values(), key=lambda event: event.at)
        linked = [chats.link_owner(db, parse_link(event.payload), event.subscriber) for event in in_order if event.kind is EventKind.START]
        for event in in_order:
            if event.kind is EventKind.MIGRATED:
                chats.migrate(db, bot=event.bot, group=event.chat, supergroup=event.message, title=event.title)
        told = _seat(db, [event for event in in_order if event.kind is EventKind.SEAT and event.bot != SERVICE_BOT])
        chats.forget(db, events)
    if told or any(linked):
        tell_listeners(db, [SERVICE_BOT])
    return len(events)


def _seat(tx: Raw, events: Collection[Event]) -> bool:
    """Keep the chats and where the bots stand in them; whether an owner has to know of a loss."""
    if not events:
        return False
    ids = chats.learn(tx, {event.chat: (ChatType(event.chat_type or likely_type(event.chat)), event.title) for event in events})
    places = {(event.bot, ids[event.chat]) for event in events}
    known = chats.get_standings(tx, places)
    now = follow(known, [((event.bot, ids[event.chat]), event) for event in events])
    chats.put_standings(tx, now)
    return chats.tell_lost(tx, lost(known, now))
