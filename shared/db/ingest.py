"""What an ingest turn takes and reads, each part under the locks it needs; `ingested.py` writes what came of it.

Lock order: bot inboxes → chats → campaigns (by id) → leads → counters → deliveries. A campaign's lock serialises the bots that ever held
it with each other and with a transfer: what is read after it holds until the commit.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from psycopg import Pipeline

from shared.db.connect import Raw
from shared.db.rows import Columns, numbers, texts
from shared.db.schema import POSTBACKS
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.events import Event, EventKind
from shared.domain.fold import Fact, Kept, Progress, Rule, Told
from shared.domain.leads import (
    GRACE,
    Attribution,
    Campaign,
    Change,
    Counter,
    Holding,
    Key,
    LeadStatus,
    Membership,
    Request,
    Sighting,
    Span,
    Start,
    Weight,
)
from shared.domain.postbacks import Templates, in_force
from shared.domain.routing import Tracked, code_of
from shared.domain.seats import likely_type
from shared.messages import LISTENER_CHANNEL

# Events

EVENT_COLUMNS: Final = "id, bot_id, kind, at, subscriber, chat, message, username, payload, before, after, own, title, chat_type"

# What changes where bots stand and whose they are takes locks that come before the inboxes', so it has turns of its own (`seats.py`).
SPECIAL: Final = f"(kind IN ('seat', 'migrated') OR bot_id = {SERVICE_BOT} AND kind = 'start')"

TAKE_INBOXES: Final = """
    WITH free AS (SELECT bot_id FROM bot_inbox WHERE bot_id = ANY(%(bots)s) FOR UPDATE SKIP LOCKED)
    UPDATE bot_inbox SET awake = false, announced = 0, announced_at = now() FROM free WHERE bot_inbox.bot_id = free.bot_id
    RETURNING bot_inbox.bot_id
"""
GET_EVENTS: Final = f"""
    SELECT e.* FROM unnest(%(bots)s::bigint[]) AS b (bot) CROSS JOIN LATERAL (
        SELECT {EVENT_COLUMNS} FROM inbox_event WHERE bot_id = b.bot AND NOT parked AND NOT {SPECIAL} ORDER BY id LIMIT %(share)s) AS e
"""
GET_EVENT: Final = (
    f"SELECT {EVENT_COLUMNS} FROM inbox_event WHERE id = %(only)s AND bot_id = ANY(%(bots)s) AND NOT parked AND NOT {SPECIAL}"
)


def take(tx: Raw, pipeline: Pipeline, bots: Sequence[int], *, share: int, only: int | None = None) -> dict[int, Event]:
    """Lock the bots' inboxes and read the oldest events of each, at most `share`; or `only` this one. By their ids, as they arrived.

    From now on the bots count as not awake: who commits more for them announces it. An inbox that is locked has a worker, and is passed
    over: that one looks again after its commit.
    """
    subject = {"bots": numbers(bots), "share": share, "only": only}
    taken = tx.execute(TAKE_INBOXES, subject, prepare=True)
    events = tx.execute(GET_EVENTS if only is None else GET_EVENT, subject, prepare=True)
    # Fetching alone would only flush, which leaves the server inside the pipeline, where it never counts as idle (`transfers.py`).
    pipeline.sync()
    mine = {row[0] for row in taken}
    return {row[0]: event_of_row(row) for row in sorted(events, key=itemgetter(0)) if row[1] in mine}


def event_of_row(row: tuple[Any, ...]) -> Event:
    """An event from a row of its columns."""
    _, bot, kind, at, subscriber, chat, message, username, payload, before, after, own, title, chat_type = row
    return Event(
        bot=bot,
        kind=EventKind(kind),
        at=at,
        subscriber=subscriber,
        chat=chat,
        message=message,
        username=username,
        payload=payload,
        before=before,
        after=after,
        own=own,
        title=title,
        chat_type=chat_type,
    )


# Campaigns

LEARN_CHATS: Final = """
    INSERT INTO chat (tg_id, type)
    SELECT w.tg_id, w.type FROM unnest(%(unlike)s::bigint[], %(types)s::text[]) AS w (tg_id, type)
    WHERE NOT EXISTS (SELECT FROM chat WHERE chat.tg_id = w.tg_id) AND NOT EXISTS (SELECT FROM chat WHERE chat.former_tg_id = w.tg_id)
    ORDER BY w.tg_id ON CONFLICT DO NOTHING
"""
# One that is about to become one with another (`chats.migrate`) is waited for. If it then is gone, so it is from what is found.
LOCK_CHATS: Final = """
    SELECT w.tg_id, chat.id FROM unnest(%(unlike)s::bigint[]) AS w (tg_id)
    CROSS JOIN LATERAL (
        SELECT id FROM chat WHERE chat.tg_id = w.tg_id UNION ALL SELECT id FROM chat WHERE chat.former_tg_id = w.tg_id
    ) AS place
    JOIN chat ON chat.id = place.id ORDER BY chat.id FOR KEY SHARE OF chat
"""

# The campaigns that starts name, and those in the chats of the other events that their bots hold or held. What was over before the oldest
# of these events is left out, so that a chat's history is not read with each turn.
_CONCERNED: Final = """
    SELECT c.id FROM campaign c WHERE c.code = ANY(%(codes)s)
    UNION
    SELECT c.id FROM unnest(%(bots)s::bigint[], %(chats)s::bigint[]) AS w (bot_id, tg_id)
    CROSS JOIN LATERAL (
        SELECT chat.id FROM chat WHERE chat.tg_id = w.tg_id UNION ALL SELECT chat.id FROM chat WHERE chat.former_tg_id = w.tg_id
    ) AS place
    JOIN campaign c ON c.chat_id = place.id AND (c.deleted IS NULL OR c.deleted >= %(since)s)
    WHERE EXISTS (
        SELECT FROM campaign_bot h
        WHERE h.campaign_id = c.id AND h.bot_id = w.bot_id AND (h.to_date IS NULL OR h.to_date >= %(since)s))
"""
_IDS: Final = f"ANY(ARRAY({_CONCERNED}))"
LOCK_CAMPAIGNS: Final = f"SELECT id FROM campaign WHERE id = {_IDS} ORDER BY id FOR NO KEY UPDATE"
GET_CAMPAIGNS: Final = f"""
    SELECT c.id, c.code, c.account_id, c.chat_id, chat.tg_id, c.lead_epoch, c.epoch_since, c.unsub_window, c.deleted,
           {", ".join(f"c.{name}" for name in POSTBACKS)}, {", ".join(f"a.{name}" for name in POSTBACKS)}
    FROM campaign c JOIN chat ON chat.id = c.chat_id JOIN account a ON a.id = c.account_id WHERE c.id = {_IDS}
"""
GET_HOLDINGS: Final = f"SELECT campaign_id, bot_id, from_date, to_date FROM campaign_bot WHERE campaign_id = {_IDS}"
GET_PAUSES: Final = f"SELECT campaign_id, since, until FROM campaign_pause WHERE campaign_id = {_IDS}"
GET_BOTS: Final = "SELECT id, answers_moved FROM bot WHERE id = ANY(%(speakers)s) AND disconnected IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What events fall on. `chats` by Telegram's ids; `talking` are connected bots, `answering` those that also answer moved codes.

    Only campaigns in `locked` may be written. Another one came to its bot after the locks were taken: its events wait for the next turn.
    """

    chats: Mapping[int, int]
    campaigns: Sequence[Tracked]
    locked: frozenset[int]
    talking: frozenset[int]
    answering: frozenset[int]
    _codes: dict[str, list[Tracked]] = field(init=False, default_factory=lambda: defaultdict(list))
    _places: dict[tuple[int, int], list[Tracked]] = field(init=False, default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for campaign in self.campaigns:
            self._codes[campaign.code].append(campaign)
            for bot in {holding.bot for holding in campaign.terms.holdings}:
                self._places[bot, campaign.chat].append(campaign)

    def candidates(self, event: Event) -> Sequence[Tracked]:
        """The campaigns that an event may count for."""
        if event.kind is EventKind.START:
            return self._codes.get(code_of(event), ())
        return self._places.get((event.bot, self.chats[event.chat]), ()) if self.has(event) else ()

    def has(self, event: Event) -> bool:
        """Whether an event's chat is here; one that became another's after the turn began is not."""
        return event.kind not in {EventKind.REQUEST, EventKind.CHANGE} or event.chat in self.chats


def read_ground(tx: Raw, pipeline: Pipeline, events: Collection[Event]) -> Ground:
    """Lock chats and campaigns that these events may concern, then read them as they now are. A chat that is not known is made."""
    starts = [event for event in events if event.kind is EventKind.START]
    others = [event for event in events if event.kind in {EventKind.REQUEST, EventKind.CHANGE}]
    places = sorted({(event.bot, event.chat) for event in others})
    chats = sorted({chat for _, chat in places})
    subject = {
        "codes": texts({code_of(event) for event in starts} - {""}),
        "bots": numbers(bot for bot, _ in places),
        "chats": numbers(chat for _, chat in places),
        "unlike": numbers(chats),
        "types": texts(likely_type(chat) for chat in chats),
        "since": min(event.at for event in events) - GRACE,
        "speakers": numbers({event.bot for event in starts}),
    }
    if chats:
        tx.execute(LEARN_CHATS, subject, prepare=True)
    known = tx.execute(LOCK_CHATS, subject, prepare=True)
    locked = tx.execute(LOCK_CAMPAIGNS, subject, prepare=True)
    campaigns = tx.execute(GET_CAMPAIGNS, subject, prepare=True)
    holdings = tx.execute(GET_HOLDINGS, subject, prepare=True)
    pauses = tx.execute(GET_PAUSES, subject, prepare=True)
    bots = tx.execute(GET_BOTS, subject, prepare=True)
    pipeline.sync()
    held: dict[int, list[Holding]] = defaultdict(list)
    for campaign, bot, since, until in holdings:
        held[campaign].append(Holding(bot=bot, since=since, until=until))
    paused: dict[int, list[Span]] = defaultdict(list)
    for campaign, since, until in pauses:
        paused[campaign].append(Span(since=since, until=until))
    talking: dict[int, bool] = dict(bots.fetchall())
    return Ground(
        chats=dict(known.fetchall()),
        campaigns=[_tracked(row, held[row[0]], paused[row[0]]) for row in campaigns],
        locked=frozenset(row[0] for row in locked),
        talking=frozenset(talking),
        answering=frozenset(bot for bot, answers in talking.items() if answers),
    )


def _tracked(row: tuple[Any, ...], holdings: Sequence[Holding], pauses: Sequence[Span]) -> Tracked:
    campaign, code, account, chat, chat_tg, epoch, epoch_since, window, deleted, *templates = row
    return Tracked(
        id=campaign,
        code=code,
        account=account,
        chat=chat,
        chat_tg=chat_tg,
        epoch=epoch,
        terms=Campaign(holdings=tuple(holdings), epoch_since=epoch_since, unsub_window=window, pauses=tuple(pauses), deleted=deleted),
        templates=in_force(_templates(templates[: len(POSTBACKS)]), _templates(templates[len(POSTBACKS) :])),
    )


def _templates(texts: Sequence[str]) -> Templates:
    return dict(zip(LeadStatus, texts, strict=True))


# People


class Wanted(NamedTuple):
    """A subscriber of a campaign's epoch whom something arrived about, the earliest of it dated so."""

    campaign_id: int
    epoch: int
    subscriber: int
    earliest: datetime


_WANTED: Final = Columns.of(Wanted)
_OF_WANTED: Final = "campaign_id = w.campaign_id AND epoch = w.epoch AND subscriber = w.subscriber"

# OFFSET 0 keeps the server from turning these joins around, which it thinks of while the tables are small.
GET_LEADS: Final = f"""
    SELECT w.campaign_id, w.subscriber, l.*
    FROM {_WANTED.source("w")} CROSS JOIN LATERAL (
        SELECT id, username, status, click, start_time, join_time, member, seen, starts_day, holds_day, confirms_day, unsubs_day,
               told_says, told_standing, postbacks
        FROM lead WHERE {_OF_WANTED} OFFSET 0) AS l
"""
# The facts of leads that have seen nothing younger than what arrives are not needed (`Kept.ahead`).
GET_FACTS: Final = f"""
    SELECT w.campaign_id, w.subscriber, f.*
    FROM {_WANTED.source("w")} CROSS JOIN LATERAL (
        SELECT at, what, bot_id, message, click, own, weight, unsub_window, owed, held, journal, journal_id
        FROM fact WHERE {_OF_WANTED} OFFSET 0) AS f
    WHERE NOT EXISTS (SELECT FROM lead WHERE {_OF_WANTED} AND seen < w.earliest OFFSET 0)
"""
NEW_LEADS: Final = "SELECT nextval('lead_id_seq') FROM generate_series(1, %(leads)s)"
NEW_ENTRIES: Final = "SELECT nextval('journal_id_seq') FROM generate_series(1, %(entries)s)"


@dataclass(frozen=True, slots=True)
class Person:
    """What is kept of a subscriber: the lead's id if there is one, its username, and the journal entries of facts."""

    kept: Kept = field(default_factory=Kept)
    lead: int | None = None
    username: str = ""
    entries: Mapping[Key, int] = field(default_factory=dict)


#: Somebody of whom nothing is kept.
NOBODY: Final = Person()


@dataclass(frozen=True, slots=True)
class People:
    """Those found, by campaign and subscriber, and ids for the leads and journal entries that there may be."""

    found: Mapping[tuple[int, int], Person]
    lead_ids: Sequence[int]
    entry_ids: Sequence[int]


def read_people(tx: Raw, pipeline: Pipeline, wanted: Iterable[Wanted], *, leads: int, entries: int) -> People:
    """What is kept of these subscribers, whose campaigns are locked; and ids for so many new leads and entries."""
    subject = {**_WANTED.arrays(list(wanted)), "leads": leads, "entries": entries}
    lead_rows = tx.execute(GET_LEADS, subject, prepare=True)
    fact_rows = tx.execute(GET_FACTS, subject, prepare=True)
    lead_ids = tx.execute(NEW_LEADS, subject, prepare=True)
    entry_ids = tx.execute(NEW_ENTRIES, subject, prepare=True)
    pipeline.sync()
    found = {(row[0], row[1]): _lead(row) for row in lead_rows}
    facts: dict[tuple[int, int], list[tuple[Any, ...]]] = defaultdict(list)
    for row in fact_rows:
        facts[row[0], row[1]].append(row)
    for key, rows in facts.items():
        found[key] = _with_facts(found.get(key, NOBODY), rows)
    return People(found, [row[0] for row in lead_ids], [row[0] for row in entry_ids])


def _lead(row: tuple[Any, ...]) -> Person:
    lead, username, status, click, start_time, join_time, member, seen, *days, says, standing, postbacks = row[2:]
    latest = Progress(
        status=LeadStatus(status),
        click=click,
        start_time=start_time,
        join_time=join_time,
        member=Membership(member) if member else None,
        seen=seen,
        days={counter: day for counter, day in zip(Counter, days, strict=True) if day is not None},
    )
    told = Told(says=LeadStatus(says), standing=LeadStatus(standing)) if says is not None else None
    return Person(Kept(base=latest, latest=latest, told=told, postbacks=postbacks), lead, username)


def _with_facts(person: Person, rows: Sequence[tuple[Any, ...]]) -> Person:
    """The same with the facts that led there.

    Those of a lead begin with the start that made it. Where they do not it is older than facts are: what arrives follows it, and they only
    tell what came before.
    """
    facts = tuple(_fact(row) for row in rows)
    first = min((fact.sighting.at for fact in facts if isinstance(fact.sighting, Start)), default=None)
    if person.lead is not None and first != person.kept.latest.start_time:
        return replace(person, kept=replace(person.kept, known=facts))
    kept = Kept(latest=person.kept.latest, facts=facts, told=person.kept.told, postbacks=person.kept.postbacks)
    entries = {fact.sighting.key: row[-1] for fact, row in zip(facts, rows, strict=True) if row[-1] is not None}
    return Person(kept, person.lead, person.username, entries)


def _fact(row: tuple[Any, ...]) -> Fact:
    at, what, bot, message, click, own, weight, window, owed, held, journal = row[2:-1]
    sighting: Sighting
    match what.split(">"):
        case ["start"]:
            sighting = Start(bot=bot, at=at, message=message, click=click)
        case ["request"]:
            sighting = Request(bot=bot, at=at)
        case [before, after]:
            sighting = Change(bot=bot, at=at, before=Membership(before), after=Membership(after), own=own)
        case _:
            raise ValueError(f"no fact is called {what!r}")
    return Fact(
        sighting=sighting,
        weight=Weight(weight),
        window=window,
        owed=owed,
        held=Rule(held) if held else None,
        journal=Attribution(journal) if journal else None,
    )


def what(sighting: Sighting) -> str:
    """A sighting's name in its fact's row."""
    match sighting:
        case Start():
            return "start"
        case Request():
            return "request"
        case Change():
            return f"{sighting.before}>{sighting.after}"


def tell_listeners(db: Raw, bots: Collection[int]) -> None:
    """Poke the listeners of bots that have something to say. A lost poke costs their poll interval."""
    if bots:
        db.execute("SELECT pg_notify(%s, %s)", [LISTENER_CHANNEL, ",".join(map(str, bots))], prepare=True)
