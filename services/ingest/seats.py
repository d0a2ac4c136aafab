"""What changes where bots stand and whom accounts belong to: a bot's seat in a chat, a group that becomes a supergroup, a link code.

These are few, take locks that come before the inbox's, and are applied before what they may shed light on.
"""

from collections.abc import Collection, Iterable, Sequence

from shared.db import chats, inbox
from shared.db.connect import Raw
from shared.db.ingest import tell_listeners
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.deeplinks import parse_link
from shared.domain.events import ChatType, Event, EventKind
from shared.domain.seats import follow, lost


def take_turn(db: Raw, bots: Sequence[int], *, share: int, only: int | None = None) -> int:
    """Apply what waits of these kinds among the oldest events of the bots, in one transaction. Returns how many were applied.

    1. Look for them; mostly there are none.
    2. Lock accounts, bots and inboxes, in this order.
    3. Owners first, then chats that are one now, then the bots' seats.
    4. Forget them; after the commit announce the bots that have events again, and tell the service bot's listener if an owner is to be told
       something.
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
        again = _migrate(db, in_order)
        told = _seat(db, [event for event in in_order if event.kind is EventKind.SEAT and event.bot != SERVICE_BOT])
        chats.forget(db, events)
    if again:
        inbox.announce(db, sorted(again))
    if told or any(linked):
        tell_listeners(db, [SERVICE_BOT])
    return len(events)


def _migrate(tx: Raw, events: Sequence[Event]) -> set[int]:
    """Make groups and their supergroups one; the bots that have events again."""
    moves = [event for event in events if event.kind is EventKind.MIGRATED]
    if not moves:
        return set()
    chats.lock_chats(tx, {event.chat for event in events} | {event.message for event in moves})
    found = [chats.migrate(tx, bot=event.bot, group=event.chat, supergroup=event.message, title=event.title) for event in moves]
    return set().union(*found)


def _seat(tx: Raw, events: Collection[Event]) -> bool:
    """Keep the chats and where the bots stand in them; whether an owner has to know of a loss."""
    if not events:
        return False
    ids = chats.learn(tx, _told(events))
    places = {(event.bot, ids[event.chat]) for event in events}
    known = chats.get_standings(tx, places)
    now = follow(known, [((event.bot, ids[event.chat]), event) for event in events])
    chats.put_standings(tx, now)
    return chats.tell_lost(tx, lost(known, now))


def _told(events: Iterable[Event]) -> dict[int, tuple[ChatType | None, str]]:
    """What was told last of each chat: its type, if it was told, and its title."""
    told: dict[int, tuple[ChatType | None, str]] = {}
    for event in events:
        kind, title = told.get(event.chat, (None, ""))
        told[event.chat] = (ChatType(event.chat_type) if event.chat_type else kind, event.title or title)
    return told
