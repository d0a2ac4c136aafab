"""An ingest turn: what waits in the inboxes of some bots, applied in one transaction."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.ingest import seats
from services.ingest.books import Ids, Story, book, book_answer, book_contact, book_organic
from shared.db import inbox, ingest, ingested
from shared.db.connect import Raw, pipelined
from shared.db.ingest import NOBODY, Ground, People, Wanted
from shared.db.ingested import Work
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.events import Event, EventKind
from shared.domain.fold import fold
from shared.domain.leads import Change, Request, Sighting, Start
from shared.domain.routing import Counts, Moved, Organic, Tracked, route, seconded, sighting_of
from shared.failpoints import failpoint

#: Events applied in one transaction, and at least so many of each bot. Its share keeps a bot with a million from delaying another. With a
#: backlog 500 gave 8,000 events a second and 2,000 give 11,000, as there are more of each subscriber in a turn; it then takes 0.2 s.
TURN_EVENTS_MAX: Final = 2_000
BOT_EVENTS_MIN: Final = 10


@dataclass(slots=True)
class Parts:
    """Events by where they go. `people` are campaigns' subscribers with what arrived of each; `done` are all that this turn deals with."""

    done: list[int] = field(default_factory=list)
    campaigns: dict[int, Tracked] = field(default_factory=dict)
    people: dict[tuple[int, int], dict[Sighting, Event]] = field(default_factory=lambda: defaultdict(dict))
    organic: list[tuple[Event, Organic]] = field(default_factory=list)
    moved: list[tuple[Event, Start, Tracked]] = field(default_factory=list)
    contacts: dict[tuple[int, int], Event] = field(default_factory=dict)


def share(bots: Sequence[int]) -> int:
    """How many events of each bot a turn takes."""
    return max(BOT_EVENTS_MIN, TURN_EVENTS_MAX // len(bots))


def take_turn(db: Raw, bots: Sequence[int], *, only: int | None = None) -> int:
    """Apply what waits for these bots, some of each; or `only` this event. Returns how many events were applied.

    1. What changes where bots stand and whose they are has a transaction of its own, before the rest.
    2. Take the inboxes and the oldest events of each.
    3. Lock the campaigns they may concern; read campaigns, leads and facts as they now are.
    4. Decide where each event goes, and fold what goes into a campaign, subscriber by subscriber.
    5. Write leads, journal, facts, counters, deliveries and messages; forget the events.
    6. After the commit announce the bots that have events again, and tell the listeners of those that have something to say.

    Raises:
        psycopg.OperationalError: the database is away, or a lock or limit was in the way; nothing was applied that was not committed.
    """
    special = seats.take_turn(db, bots, share=share(bots), only=only)
    work = Work()
    with pipelined(db) as pipeline:
        events = ingest.take(db, pipeline, bots, share=share(bots), only=only)
        if events:
            ground = ingest.read_ground(db, pipeline, events.values())
            parts = _sort(events, ground)
            people = ingest.read_people(db, pipeline, _wanted(parts), leads=len(parts.people), entries=len(events))
            failpoint("ingest.locked")
            _decide(work, parts, ground, people)
            ingested.write(db, pipeline, work)
            failpoint("ingest.written")
    failpoint("ingest.committed")
    if only is None:
        inbox.announce(db, bots)
    ingest.tell_listeners(db, {send.bot_id for send in work.sends})
    return special + len(work.events)


def _sort(events: Mapping[int, Event], ground: Ground) -> Parts:
    """Where each event goes.

    One whose campaign came to its bot, or whose chat went, before the locks were there stays in the inbox for the next turn.
    """
    parts = Parts()
    for number, event in events.items():
        if not ground.has(event):
            continue
        sighting = sighting_of(event) if event.bot != SERVICE_BOT else None
        way = route(sighting, ground.candidates(event)) if sighting is not None else None
        if isinstance(way, Counts | Moved) and way.campaign.id not in ground.locked:
            continue
        parts.done.append(number)
        match sighting, way:
            case Start() | Request() | Change(), Counts(campaign):
                parts.campaigns[campaign.id] = campaign
                parts.people[campaign.id, event.subscriber][sighting] = event
            case Start(), Moved(campaign):
                parts.moved.append((event, sighting, campaign))
            case _, Organic():
                parts.organic.append((event, way))
            case _:
                pass
        if event.kind in {EventKind.START, EventKind.STOPPED}:
            last = parts.contacts.get((event.bot, event.subscriber))
            if last is None or last.at <= event.at:
                parts.contacts[event.bot, event.subscriber] = event
    return parts


def _wanted(parts: Parts) -> Iterator[Wanted]:
    for (campaign, subscriber), arrived in parts.people.items():
        yield Wanted(campaign, parts.campaigns[campaign].epoch, subscriber, min(sighting.at for sighting in arrived))


def _decide(work: Work, parts: Parts, ground: Ground, people: People) -> None:
    """Fold each subscriber, and put down what comes of everything."""
    ids = Ids(iter(people.lead_ids), iter(people.entry_ids))
    work.events = parts.done
    for (campaign_id, subscriber), arrived in parts.people.items():
        campaign = parts.campaigns[campaign_id]
        person = people.found.get((campaign_id, subscriber), NOBODY)
        folded = fold(campaign.terms, person.kept, arrived)
        book(work, Story(campaign=campaign, subscriber=subscriber, person=person, arrived=arrived, folded=folded), ids, ground.talking)
        parts.organic += [(arrived[sighting], entry) for sighting, entry in seconded(folded)]
    for event, entry in parts.organic:
        book_organic(work, ground.chats[event.chat], event, entry.action, ids)
    for event, start, campaign in parts.moved:
        if event.bot in ground.answering:
            book_answer(work, event, campaign, start.click)
    for event in parts.contacts.values():
        book_contact(work, event)
