"""Events that arrive in the database as a listener leaves them there, and what has come of them."""

from collections.abc import Iterable
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from services.ingest import apply
from shared.db import inbox
from shared.db.connect import BY_KEY, Raw, connect
from shared.domain.events import ChatType, Event, EventKind, Seat
from shared.domain.leads import Action, LeadStatus

PERSON: Final = 5_000_000_001
SECOND: Final = timedelta(seconds=1)

_STORE: Final = """
    WITH fresh AS (INSERT INTO seen (bot_id, key, at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING 1)
    INSERT INTO inbox_event (bot_id, kind, at, subscriber, chat, message, username, payload, before, after, own, title, chat_type)
    SELECT %s, %s, %s::timestamptz, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s FROM fresh
"""


def key(event: Event) -> bytes:
    """What makes two tellings of a bot's one: all of it."""
    return blake2b(repr(astuple(event)).encode(), digest_size=16).digest()


def arrive(db: Raw, events: Iterable[Event], *, announce: bool = False) -> None:
    """Events are taken in; what a bot was told before is passed over."""
    events = list(events)
    with db.transaction(), db.cursor() as cursor:
        cursor.executemany(_STORE, [(event.bot, key(event), event.at, *astuple(event)) for event in events])
    if announce:
        inbox.announce(db, sorted({event.bot for event in events}))


def turn(database_url: str, *bots: int) -> int:
    """A worker of its own that takes one turn."""
    with connect(database_url, name="ingest", limits=BY_KEY) as db:
        return apply.take_turn(db, bots)


def clear(db: Raw) -> int:
    """Turns until nothing waits that is not parked. How many events were applied."""
    applied = 0
    while bots := [row[0] for row in db.execute("SELECT DISTINCT bot_id FROM inbox_event WHERE NOT parked ORDER BY 1 LIMIT 50")]:
        applied += apply.take_turn(db, bots)
    return applied


class Watch:
    """Makes the events of one bot and one chat; seconds are counted from its `dawn`, which lies after everything the test set up."""

    def __init__(self, bot: int, chat: int, *, dawn: datetime | None = None) -> None:
        self.bot, self.chat = bot, chat
        self.dawn = dawn or (datetime.now(UTC).replace(microsecond=0) + SECOND)

    def at(self, second: float) -> datetime:
        return self.dawn + second * SECOND

    def of(self, bot: int) -> "Watch":
        """The same chat and clock at another bot."""
        return Watch(bot, self.chat, dawn=self.dawn)

    def start(self, second: float, payload: str, *, person: int = PERSON, username: str = "", message: int | None = None) -> Event:
        number = int(second) + 1_000_000 if message is None else message
        event = Event(bot=self.bot, kind=EventKind.START, at=self.at(second), subscriber=person, message=number, payload=payload)
        return replace(event, username=username)

    def request(self, second: float, *, person: int = PERSON) -> Event:
        return Event(bot=self.bot, kind=EventKind.REQUEST, at=self.at(second), subscriber=person, chat=self.chat)

    def change(self, second: float, before: str, after: str, *, own: bool = True, person: int = PERSON, username: str = "") -> Event:
        event = Event(bot=self.bot, kind=EventKind.CHANGE, at=self.at(second), subscriber=person, chat=self.chat, own=own)
        return replace(event, before=before, after=after, username=username)

    def join(self, second: float, *, person: int = PERSON) -> Event:
        return self.change(second, "out", "in", person=person)

    def leave(self, second: float, *, person: int = PERSON) -> Event:
        return self.change(second, "in", "out", person=person)

    def kick(self, second: float, *, person: int = PERSON) -> Event:
        return self.change(second, "in", "banned", own=False, person=person)

    def seat(self, second: float, before: Seat, after: Seat, *, title: str = "", chat_type: ChatType | str = "") -> Event:
        event = Event(bot=self.bot, kind=EventKind.SEAT, at=self.at(second), chat=self.chat, before=before, after=after)
        return replace(event, title=title, chat_type=str(chat_type))

    def stopped(self, second: float, *, blocked: bool = True, person: int = PERSON) -> Event:
        after = "blocked" if blocked else ""
        return Event(bot=self.bot, kind=EventKind.STOPPED, at=self.at(second), subscriber=person, after=after)

    def migrated(self, second: float, into: int, *, title: str = "") -> Event:
        return Event(bot=self.bot, kind=EventKind.MIGRATED, at=self.at(second), chat=self.chat, message=into, title=title)


# What came of it


def rows(db: Raw, sql: str, *params: object) -> list[tuple[Any, ...]]:
    return db.execute(sql, params).fetchall()


def leads(db: Raw) -> list[tuple[LeadStatus, str]]:
    """Status and click of each lead that counts, in the order in which they were made."""
    return [(LeadStatus(status), click) for status, click in rows(db, "SELECT status, click FROM current_lead ORDER BY id")]


def journal(db: Raw) -> list[tuple[int, Action, str]]:
    """Bot, action and type of each entry that counts, by date."""
    found = rows(db, "SELECT bot_id, action, campaign_id FROM current_journal ORDER BY at, action, bot_id, campaign_id NULLS FIRST")
    return [(bot, Action(action), "organic" if campaign is None else "paid") for bot, action, campaign in found]


def owed(db: Raw) -> list[tuple[LeadStatus, str]]:
    """Status and click of each postback owed, as they came to be."""
    return [(LeadStatus(s), c) for s, c in rows(db, "SELECT status, click FROM delivery WHERE state = 'pending' ORDER BY id")]


def held(db: Raw) -> list[tuple[LeadStatus, str]]:
    """Status and rule of each postback held back."""
    return [(LeadStatus(s), rule) for s, rule in rows(db, "SELECT status, rule FROM delivery WHERE state = 'held' ORDER BY id")]


def sends(db: Raw) -> list[tuple[int, str, str]]:
    """Bot, kind and click of each message to be sent."""
    return rows(db, "SELECT bot_id, kind, click FROM send ORDER BY id")


def counters(db: Raw) -> dict[str, int]:
    """What is counted, without the zeros; the daily rows must say the same."""
    names = ("starts", "holds", "confirms", "unsubs")
    standings = ("n_wait", "n_hold", "n_approve", "n_cancel", "n_trash")
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in names)
    ((*daily,),) = rows(db, f"SELECT {sums} FROM current_daily")
    more = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in standings)
    ((*total,),) = rows(db, f"SELECT {sums}, {more} FROM current_counter")
    assert total[: len(names)] == daily
    return {name: count for name, count in zip((*names, *standings), total, strict=True) if count}
