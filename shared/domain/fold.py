"""What one subscriber's sightings come to in one campaign: the lead, its journal, its counts, and the postbacks owed.

Starts and changes of membership come on two sequences and overtake each other by minutes, so nothing is applied as it arrives. All that
was seen of a (campaign, epoch, subscriber) is kept as facts, and whatever arrives is folded with them, in the order of what happened.
Lead, counts and attribution are a function of the set of facts alone. Only what was told the tracker depends on the arrivals: it cannot
be taken back, so facts are marked with it, and a step found to lie before the last one owed is `superseded`.

What is kept, and why that:

- each fact with its weight and the unsub window when it first came: later pauses and edits change nothing that was decided on it;
- on each fact the marks of what was done for it: a postback owed, a rule logged, a journal entry's type;
- of what was told, the last postback and the state that it left standing;
- `latest`, what everything came to: the lead's row. When all that arrives is dated after `latest.seen`, it serves as the base, and no
  fact need be read (`ahead`);
- `base`, what facts that were folded away came to (`settle`): facts are kept as long as a late sighting is conceivable, not for ever;
- `known`, facts that are in the base already: they are not walked again, and tell what comes twice.

A subscriber without a lead is kept, too: a start that comes late turns the entries after it into paid ones. A new epoch starts from
`Kept()`. docs/lead-states.md shows all this with examples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import groupby, permutations
from typing import Final

from shared.domain.leads import (
    ACTIONS,
    TABLE,
    Action,
    Aside,
    Attribution,
    Campaign,
    Cell,
    Change,
    Counter,
    Event,
    Key,
    LeadStatus,
    Membership,
    Request,
    Sighting,
    Start,
    Weight,
    event_of,
    weigh,
)


class Rule(StrEnum):
    """Why a postback of a step is not owed; the log's words."""

    PAUSED = "campaign paused"
    WINDOW_CLOSED = "window closed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A sighting that counts, and what was done for it: a postback owed, the rule logged last, its journal entry."""

    sighting: Sighting
    weight: Weight
    window: int
    owed: bool = False
    held: Rule | None = None
    journal: Attribution | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where facts led so far. Without a status there is no lead. `seen` is the youngest fact's date, `days` when each counter counted."""

    status: LeadStatus | None = None
    click: str = ""
    start_time: datetime | None = None
    join_time: datetime | None = None
    member: Membership | None = None
    seen: datetime | None = None
    days: Mapping[Counter, date] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The last postback owed: the status it says, and the one it left standing.

    They differ where a new click says `wait` in hold or approve, and the tracker had been told of that.
    """

    says: LeadStatus
    standing: LeadStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All that is kept of a (campaign, epoch, subscriber). `postbacks` numbers what is owed."""

    base: Progress = field(default_factory=Progress)
    known: tuple[Fact, ...] = ()
    latest: Progress = field(default_factory=Progress)
    facts: tuple[Fact, ...] = ()
    told: Told | None = None
    postbacks: int = 0

    def ahead(self) -> "Kept":
        """The same without its facts: enough to fold what is dated after `latest.seen`. The facts that come out are to be added."""
        return replace(self, base=self.latest, facts=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A postback to send: the `number`-th of its lead. A `correction` says the current state again after what was found out late."""

    number: int
    sighting: Sighting
    status: LeadStatus
    click: str
    correction: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A postback that is not sent, and the rule."""

    sighting: Sighting
    status: LeadStatus
    click: str
    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A journal entry to write, or, where it is not `new`, to turn into this type."""

    sighting: Sighting
    action: Action
    attribution: Attribution
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A change of a counter and of its UTC day: one more, or one less where what came late moved the day or made the step none."""

    counter: Counter
    day: date
    change: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """A welcome due for an accepted start, with the click the lead has by it."""

    start: Start
    click: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What is kept from now on, and what is to be done. `changed` are the facts to write; `aside` what counts for nothing here."""

    kept: Kept
    changed: tuple[Fact, ...] = ()
    entries: tuple[Entry, ...] = ()
    counts: tuple[Count, ...] = ()
    owed: tuple[Owed, ...] = ()
    held: tuple[Held, ...] = ()
    welcomes: tuple[Welcome, ...] = ()
    aside: tuple[tuple[Sighting, Aside], ...] = ()

    @property
    def lead(self) -> Progress | None:
        """The lead, if there is one."""
        return self.kept.latest if self.kept.latest.status is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A fact in its place: the cell it hit and where that led. `rule` holds its postback back whatever was told."""

    fact: Fact
    cell: Cell
    after: Progress
    rule: Rule | None


def fold(campaign: Campaign, kept: Kept, arrived: Iterable[Sighting]) -> Folded:
    """Fold what arrived for one subscriber with what is kept of them.

    1. Each sighting is weighed; what was seen before, and what is nothing to the campaign, is set aside.
    2. All facts are put in the order of what happened and walked through the table.
    3. Each postback that is not owed yet is judged: owed, or held back by a rule.
    4. If the tracker was last told of another state, the current one is owed once more.
    5. The difference to what was written before is what the journal and the counters need.
    """
    admitted, aside = _admit(campaign, kept, arrived)
    if not admitted:
        return Folded(kept=kept, aside=aside)
    steps = list(_walk(kept.base, (*kept.facts, *admitted.values())))
    latest = steps[-1].after
    owed, held, told = _judge(kept, steps)
    facts = _mark(steps, owed, held)
    before = set(kept.facts)
    return Folded(
        kept=Kept(base=kept.base, known=kept.known, latest=latest, facts=facts, told=told, postbacks=kept.postbacks + len(owed)),
        changed=tuple(fact for fact in facts if fact not in before),
        entries=tuple(_entries(steps)),
        counts=tuple(_counts(kept.latest, latest)),
        owed=tuple(owed),
        held=tuple(held),
        welcomes=tuple(_welcomes(steps, admitted)),
        aside=aside,
    )


def settle(kept: Kept, before: datetime) -> Kept:
    """Fold away the facts dated before a moment that no late sighting can precede any more. One that does is taken to follow them."""
    old = [fact for fact in kept.facts if fact.sighting.at < before]
    if not old:
        return kept
    *_, last = _walk(kept.base, old)
    return replace(kept, base=last.after, facts=tuple(fact for fact in kept.facts if fact.sighting.at >= before))


def _admit(campaign: Campaign, kept: Kept, arrived: Iterable[Sighting]) -> tuple[Mapping[Key, Fact], tuple[tuple[Sighting, Aside], ...]]:
    known = {fact.sighting.key for fact in (*kept.known, *kept.facts)}
    admitted: dict[Key, Fact] = {}
    aside: list[tuple[Sighting, Aside]] = []
    for sighting in arrived:
        weight = weigh(campaign, sighting)
        if isinstance(weight, Aside):
            aside.append((sighting, weight))
        elif sighting.key in known or sighting.key in admitted:
            aside.append((sighting, Aside.REPEATED))
        else:
            admitted[sighting.key] = Fact(sighting=sighting, weight=weight, window=campaign.unsub_window)
    return admitted, tuple(aside)


def _walk(base: Progress, facts: Iterable[Fact]) -> Iterator[_Step]:
    """The facts in the order of what happened: by date; within a second starts, then requests, then the chain of membership."""
    progress = base
    for _, second in groupby(sorted(facts, key=_place), key=lambda fact: fact.sighting.at):
        for fact in _chained(list(second), progress.member):
            step = _take(progress, fact)
            progress = step.after
            yield step


#: The order of changes of membership within a second where no chain tells it.
_RANKS: Final = {event: rank for rank, event in enumerate(Event)}


def _place(fact: Fact) -> tuple[datetime, int, int, int]:
    match fact.sighting:
        case Start(at=at, bot=bot, message=message):
            return at, 0, message, bot
        case Request(at=at):
            return at, 1, 0, 0
        case Change(at=at, before=before) as change:
            event = event_of(change)
            assert event is not None, "a change of nothing is no fact"
            return at, 2, _RANKS[event], list(Membership).index(before)


def _chained(second: Sequence[Fact], member: Membership | None) -> Iterable[Fact]:
    """Facts of one second, the changes of membership as the chain from `member` with the fewest breaks.

    A second has at most six, one for each pair of states, so trying their orders is bounded.
    """
    changes = [fact for fact in second if isinstance(fact.sighting, Change)]
    if len(changes) < 2:
        return second
    others = [fact for fact in second if not isinstance(fact.sighting, Change)]
    return (*others, *min(permutations(changes), key=lambda chain: _breaks(chain, member)))


def _breaks(chain: Sequence[Fact], member: Membership | None) -> int:
    breaks = 0
    for fact in chain:
        assert isinstance(fact.sighting, Change), "only changes make a chain"
        breaks += member is not None and fact.sighting.before is not member
        member = fact.sighting.after
    return breaks


def _take(progress: Progress, fact: Fact) -> _Step:
    """One fact through the table."""
    sighting = fact.sighting
    event = event_of(sighting, progress.click)
    assert event is not None, "a change of nothing is no fact"
    member = sighting.after if isinstance(sighting, Change) else progress.member
    seen = max(sighting.at, progress.seen or sighting.at)
    if fact.weight is Weight.JOURNAL:
        cell = Cell(progress.status, journal=TABLE[None, event].journal)
        return _Step(fact=fact, cell=cell, after=replace(progress, seen=seen, member=member), rule=None)
    cell = TABLE[progress.status, event]
    after = Progress(
        status=cell.next,
        click=sighting.click if isinstance(sighting, Start) and event is Event.START else progress.click,
        start_time=sighting.at if progress.status is None and cell.next is not None else progress.start_time,
        join_time=sighting.at if event is Event.JOIN and cell.next is not None else progress.join_time,
        member=member,
        seen=seen,
        days=_counted(progress.days, cell.counter, sighting.at),
    )
    return _Step(fact=fact, cell=cell, after=after, rule=_rule(cell, fact, progress.join_time))


def _counted(days: Mapping[Counter, date], counter: Counter | None, at: datetime) -> Mapping[Counter, date]:
    return days if counter is None or counter in days else {**days, counter: at.astimezone(UTC).date()}


def _rule(cell: Cell, fact: Fact, join_time: datetime | None) -> Rule | None:
    if fact.weight is Weight.SILENT:
        return Rule.PAUSED
    if not cell.windowed or not fact.window or join_time is None:
        return None
    inside = (fact.sighting.at - join_time).total_seconds() <= fact.window
    return None if inside else Rule.WINDOW_CLOSED


def _judge(kept: Kept, steps: Sequence[_Step]) -> tuple[list[Owed], list[Held], Told | None]:
    """What is owed and what is held back, of the steps that are not owed yet; and what was told last then."""
    last_owed = max((place for place, step in enumerate(steps) if step.fact.owed), default=-1)
    told, number = kept.told, kept.postbacks
    owed: list[Owed] = []
    held: dict[int, Held] = {}
    for place, step in enumerate(steps):
        status, standing, sighting = step.cell.postback, step.after.status, step.fact.sighting
        if status is None or standing is None or step.fact.owed:
            continue
        rule = step.rule or (Rule.SUPERSEDED if place < last_owed else None)
        if rule is None:
            number += 1
            owed.append(Owed(number=number, sighting=sighting, status=status, click=step.after.click))
            told = Told(says=status, standing=standing if _heard(told, standing) else status)
        elif rule is not step.fact.held:
            held[place] = Held(sighting=sighting, status=status, click=step.after.click, rule=rule)
    current = _untold(steps, told)
    if current is not None:
        status, click = steps[current].cell.postback, steps[-1].after.click
        assert status is not None, "an untold step has a postback"
        owed.append(Owed(number=number + 1, sighting=steps[current].fact.sighting, status=status, click=click, correction=True))
        told = Told(says=status, standing=status)
        held.pop(current, None)
    return owed, list(held.values()), told


def _untold(steps: Sequence[_Step], told: Told | None) -> int | None:
    """The place of the step that gave the lead its state, if the tracker was last told of another and no rule holds this one back."""
    status = steps[-1].after.status
    if told is None or status is None or _heard(told, status):
        return None
    for place in reversed(range(len(steps))):
        if steps[place].cell.postback is status and steps[place].after.status is status:
            return place if steps[place].rule is None else None
    return None


def _heard(told: Told | None, status: LeadStatus) -> bool:
    return told is not None and status in {told.says, told.standing}


def _mark(steps: Sequence[_Step], owed: Sequence[Owed], held: Sequence[Held]) -> tuple[Fact, ...]:
    owing = {postback.sighting.key for postback in owed}
    rules = {postback.sighting.key: postback.rule for postback in held}
    return tuple(
        replace(
            step.fact,
            owed=step.fact.owed or step.fact.sighting.key in owing,
            held=rules.get(step.fact.sighting.key, step.fact.held),
            journal=step.cell.journal,
        )
        for step in steps
    )


def _entries(steps: Sequence[_Step]) -> Iterator[Entry]:
    for step in steps:
        attribution, sighting = step.cell.journal, step.fact.sighting
        event = event_of(sighting)
        if event is not None and attribution is not None and attribution is not step.fact.journal:
            yield Entry(sighting=sighting, action=ACTIONS[event], attribution=attribution, new=step.fact.journal is None)


def _counts(before: Progress, after: Progress) -> Iterator[Count]:
    for counter in Counter:
        old, new = before.days.get(counter), after.days.get(counter)
        if old == new:
            continue
        if old is not None:
            yield Count(counter=counter, day=old, change=-1)
        if new is not None:
            yield Count(counter=counter, day=new, change=+1)


def _welcomes(steps: Sequence[_Step], admitted: Mapping[Key, Fact]) -> Iterator[Welcome]:
    for step in steps:
        if isinstance(step.fact.sighting, Start) and step.fact.sighting.key in admitted:
            yield Welcome(start=step.fact.sighting, click=step.after.click)
