"""What an ingest turn writes: each table's rows in one statement, all of them in one round trip.

The locks of `ingest.py` are held. Rows that several turns may want at once, lanes, come last and in order.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, NamedTuple

from psycopg import Pipeline

from shared.db.connect import Raw
from shared.db.rows import Columns, numbers


class Lead(NamedTuple):
    """A lead as it now is."""

    id: int
    campaign_id: int
    epoch: int
    subscriber: int
    username: str
    click: str
    status: int
    start_time: datetime | None
    join_time: datetime | None
    seen: datetime | None
    member: str
    starts_day: date | None
    holds_day: date | None
    confirms_day: date | None
    unsubs_day: date | None
    told_says: int | None
    told_standing: int | None
    postbacks: int


class Entry(NamedTuple):
    """A new journal entry. Without a campaign it is organic."""

    id: int
    bot_id: int
    chat_id: int
    campaign_id: int | None
    epoch: int | None
    lead_id: int | None
    subscriber: int
    username: str
    action: int
    at: datetime


class Claim(NamedTuple):
    """An organic journal entry that turns out to be a lead's."""

    id: int
    campaign_id: int
    epoch: int
    lead_id: int


class Fact(NamedTuple):
    """A fact, new or with new marks."""

    campaign_id: int
    epoch: int
    subscriber: int
    at: datetime
    what: str
    bot_id: int
    message: int
    click: str
    own: bool
    weight: str
    unsub_window: int
    owed: bool
    held: str
    journal: str
    journal_id: int | None


class Delivery(NamedTuple):
    """A postback owed, or held back by a rule."""

    account_id: int
    campaign_id: int
    epoch: int
    lead_id: int
    number: int
    status: int
    click: str
    url: str
    destination: str
    correction: bool
    state: str
    rule: str
    at: datetime


class Send(NamedTuple):
    """A message to be sent."""

    bot_id: int
    subscriber: int
    kind: str
    campaign_id: int
    lead_id: int | None
    username: str
    click: str
    random_id: int
    at: datetime


class Block(NamedTuple):
    """Somebody who blocked a bot, or who is there again."""

    bot_id: int
    subscriber: int
    at: datetime


class Total(NamedTuple):
    """What is to be added to the counters of a campaign's epoch."""

    campaign_id: int
    epoch: int
    starts: int
    holds: int
    confirms: int
    unsubs: int
    n_wait: int
    n_hold: int
    n_approve: int
    n_cancel: int
    n_trash: int


class Day(NamedTuple):
    """What is to be added to the counters of one of its days."""

    campaign_id: int
    epoch: int
    day: date
    starts: int
    holds: int
    confirms: int
    unsubs: int


@dataclass(slots=True)
class Work:
    """All that a turn writes; `events` are those it is done with. What is counted is added up by campaign, epoch and, in `days`, day."""

    events: list[int] = field(default_factory=list)
    leads: list[Lead] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    totals: dict[tuple[int, int], dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: dict.fromkeys(Total._fields[2:], 0)))
    days: dict[tuple[int, int, date], dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(Day._fields[3:], 0))
    )
    deliveries: list[Delivery] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    returns: list[Block] = field(default_factory=list)


class _Lane(NamedTuple):
    destination: str
    account_id: int


def _insert(table: str, columns: Columns) -> str:
    return f"INSERT INTO {table} ({columns.names}) SELECT {columns.names} FROM {columns.source('r')}"


def _plus(table: str, columns: Columns, keys: int) -> str:
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in list(columns.types)[keys:])


def _renewed(columns: Columns, keys: int) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in list(columns.types)[keys:])


_LEADS: Final = Columns.of(Lead)
_ENTRIES: Final = Columns.of(Entry)
_CLAIMS: Final = Columns.of(Claim)
_FACTS: Final = Columns.of(Fact)
_TOTALS: Final = Columns.of(Total)
_DAYS: Final = Columns.of(Day)
_DELIVERIES: Final = Columns.of(Delivery)
_SENDS: Final = Columns.of(Send)
_BLOCKS: Final = Columns.of(Block)
_LANES: Final = Columns.of(_Lane)

PUT_LEADS: Final = f"""
    INSERT INTO lead ({_LEADS.names}, updated) OVERRIDING SYSTEM VALUE SELECT {_LEADS.names}, now() FROM {_LEADS.source("r")}
    ON CONFLICT (campaign_id, epoch, subscriber) DO UPDATE SET {_renewed(_LEADS, 4)}, updated = excluded.updated
"""
ADD_ENTRIES: Final = _insert("journal", _ENTRIES).replace("SELECT", "OVERRIDING SYSTEM VALUE SELECT")
CLAIM_ENTRIES: Final = f"""
    UPDATE journal j SET campaign_id = r.campaign_id, epoch = r.epoch, lead_id = r.lead_id FROM {_CLAIMS.source("r")} WHERE j.id = r.id
"""
PUT_FACTS: Final = f"""
    {_insert("fact", _FACTS)}
    ON CONFLICT (campaign_id, epoch, subscriber, at, what, bot_id, message) DO UPDATE SET
        owed = excluded.owed, held = excluded.held, journal = excluded.journal, journal_id = excluded.journal_id
"""
ADD_TOTALS: Final = f"""
    {_insert("lead_counter", _TOTALS)} ORDER BY campaign_id, epoch
    ON CONFLICT (campaign_id, epoch) DO UPDATE SET {_plus("lead_counter", _TOTALS, 2)}
"""
ADD_DAYS: Final = f"""
    {_insert("daily", _DAYS)} ORDER BY campaign_id, epoch, day
    ON CONFLICT (campaign_id, epoch, day) DO UPDATE SET {_plus("daily", _DAYS, 3)}
"""
ADD_DELIVERIES: Final = _insert("delivery", _DELIVERIES)
ADD_SENDS: Final = _insert("send", _SENDS)
# Who is there again was not blocked by what happened before. Telegram dates in whole seconds.
ADD_BLOCKS: Final = f"""
    {_insert("blocked", _BLOCKS)} ORDER BY bot_id, subscriber
    ON CONFLICT (bot_id, subscriber) DO UPDATE SET at = greatest(blocked.at, excluded.at)
"""
CLEAR_BLOCKS: Final = f"""
    DELETE FROM blocked b USING {_BLOCKS.source("r")}
    WHERE (b.bot_id, b.subscriber) = (r.bot_id, r.subscriber) AND date_trunc('second', b.at) <= r.at
"""
DELETE_EVENTS: Final = "DELETE FROM inbox_event WHERE id = ANY(%(events)s)"
# A lane that is due already stays so; one that waits for a later retry is due again.
WAKE_LANES: Final = f"""
    {_insert("lane", _LANES)} ORDER BY destination, account_id
    ON CONFLICT (destination, account_id) DO UPDATE SET next_due = least(lane.next_due, excluded.next_due)
"""


def write(tx: Raw, pipeline: Pipeline, work: Work) -> None:
    """Write everything that came of a turn, and forget its events."""
    lanes = {(delivery.destination, delivery.account_id) for delivery in work.deliveries if delivery.destination}
    for statement, columns, rows in (
        (PUT_LEADS, _LEADS, work.leads),
        (ADD_ENTRIES, _ENTRIES, work.entries),
        (CLAIM_ENTRIES, _CLAIMS, work.claims),
        (PUT_FACTS, _FACTS, work.facts),
        (ADD_TOTALS, _TOTALS, [Total(*key, *counts.values()) for key, counts in work.totals.items()]),
        (ADD_DAYS, _DAYS, [Day(*key, *counts.values()) for key, counts in work.days.items()]),
        (ADD_DELIVERIES, _DELIVERIES, work.deliveries),
        (ADD_SENDS, _SENDS, work.sends),
        (ADD_BLOCKS, _BLOCKS, work.blocks),
        (CLEAR_BLOCKS, _BLOCKS, work.returns),
    ):
        if rows:
            tx.execute(statement, columns.arrays(rows), prepare=True)
    tx.execute(DELETE_EVENTS, {"events": numbers(work.events)}, prepare=True)
    if lanes:
        tx.execute(WAKE_LANES, _LANES.arrays(list(lanes)), prepare=True)
    pipeline.sync()
