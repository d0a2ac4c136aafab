"""The judge of transfers under fire: whose is what, by the order of the commits?

Pure. Each event is weighed here anew, by what was true of its campaign when it was applied: who held it, which bot, and since when its
leads were its owner's. What should have come of the events that count in one epoch is told by the plain model of `tests/sim`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.telegram.evidence import Lead, Taken
from tests.sim.model import GRACE_S, Happening, Outcome, World, tell

Finding = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What was true of a campaign from the commit with this number on. `epoch_since` in Unix seconds."""

    number: int
    campaign: int
    account: int
    bot: int
    epoch: int
    epoch_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A bot held a campaign, in Unix seconds; the commit's number says from when on anybody could know."""

    campaign: int
    bot: int
    since: float
    until: float | None
    number: int
    ended: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A row of the delivery log, as it was written by the commit with this number."""

    number: int
    campaign: int
    epoch: int
    account: int
    subscriber: int
    host: str
    status: str
    at: int
    pending: bool
    rule: str
    correction: bool


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Line:
    """A row of the journal; `campaign` 0 is organic."""

    chat: int
    subscriber: int
    word: str
    at: int
    campaign: int


@dataclass(slots=True, kw_only=True)
class Story:
    """Everything the judge is told."""

    codes: Mapping[str, int]
    """Code -> campaign."""
    chats: Mapping[int, tuple[int, Sequence[int]]]
    """Telegram's number of a chat -> ours, and its campaigns."""
    window: int
    owed: Sequence[Taken]
    applied: Sequence[tuple[int, Taken]]
    """Commit number, event; in this order."""
    versions: Sequence[Version]
    bindings: Sequence[Binding]
    told: Sequence[Told]
    leads: Mapping[tuple[int, int, int], Lead]
    """(campaign, epoch, subscriber) -> what is in the database, whatever the epoch."""
    journal: Sequence[Line]
    counts: Mapping[tuple[int, int], Mapping[str, int]]
    """(campaign, epoch) -> totals."""
    sent: Mapping[tuple[int, int], int]
    """(bot, person) -> messages."""
    blockers: frozenset[tuple[int, int]]
    connections: tuple[int, int]
    """How many there had been before the first transfer, and after the last."""
    hosts: Mapping[int, str]
    """Account -> the host of its tracker."""


@dataclass(slots=True)
class Due:
    """What should be."""

    lives: dict[tuple[int, int, int], list[Happening]] = field(default_factory=lambda: defaultdict(list))
    organic: Counter[Line] = field(default_factory=Counter)
    messages: Counter[tuple[int, int]] = field(default_factory=Counter)


def judge(story: Story) -> dict[str, list[Finding]]:
    """The verdict: for each question the findings."""
    due = weigh_all(story)
    outcomes = {
        key: tell(World(window=story.window, epoch=0, pauses=(), moved=None, deleted=None), in_order(life))
        for key, life in due.lives.items()
    }
    return {
        "events lost or doubled": list(find_lost(story)),
        "leads that are not whose they should be": list(find_wrong_leads(story, outcomes)),
        "totals that are not their leads'": list(find_wrong_counts(story, outcomes)),
        "journal rows that are not whose they should be": list(find_wrong_lines(story, due, outcomes)),
        "deliveries owed by the wrong account": list(find_wrong_accounts(story)),
        "postbacks lost or doubled": list(find_wrong_told(story, due, outcomes)),
        "messages lost or doubled": list(find_wrong_messages(story, due)),
        "connections because of a transfer": find_reconnected(story),
    }


def find_lost(story: Story) -> Iterator[Finding]:
    owed, applied = Counter(story.owed), Counter(event for _, event in story.applied)
    yield from (f"lost: {event}" for event in owed - applied)
    yield from (f"doubled or invented: {event}" for event in applied - owed)


def find_wrong_leads(story: Story, outcomes: Mapping[tuple[int, int, int], Outcome]) -> Iterator[Finding]:
    """In the current epoch the lead is what the model says; in an earlier one there is none any more."""
    current = current_epochs(story)
    due = {key: outcome for key, outcome in outcomes.items() if outcome.status != "none" and key[1] == current[key[0]]}
    yield from (f"{key} is a lead and should be none: {story.leads[key]}" for key in story.leads.keys() - due.keys())
    for key, outcome in due.items():
        lead = story.leads.get(key)
        if lead is None:
            yield f"{key} is no lead and should be {outcome.status}"
        elif (lead.status, lead.click, lead.started, lead.joined) != (outcome.status, outcome.click, outcome.started, outcome.joined):
            yield f"{key} is {lead}, and should be {outcome}"


def find_wrong_counts(story: Story, outcomes: Mapping[tuple[int, int, int], Outcome]) -> Iterator[Finding]:
    current = current_epochs(story)
    due: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for (campaign, epoch, _), outcome in outcomes.items():
        if epoch == current[campaign] and outcome.status != "none":
            due[campaign, epoch].update([*outcome.days, f"n_{outcome.status}"])
    for key in due.keys() | story.counts.keys():
        has = {name: count for name, count in story.counts.get(key, {}).items() if count}
        if has != dict(due[key]):
            yield f"campaign and epoch {key} count {has}, and should {dict(due[key])}"


def find_wrong_lines(story: Story, due: Due, outcomes: Mapping[tuple[int, int, int], Outcome]) -> Iterator[Finding]:
    """What is paid is gone with its epoch; what is organic stays."""
    current, lines = current_epochs(story), due.organic.copy()
    chats = {campaign: chat for chat, campaigns in story.chats.values() for campaign in campaigns}
    for (campaign, epoch, subscriber), outcome in outcomes.items():
        seconds = {one.number: one.second for one in due.lives[campaign, epoch, subscriber]}
        for number, (word, whose) in outcome.journal.items():
            if whose == "organic" or epoch == current[campaign]:
                of = campaign if whose == "paid" else 0
                lines[Line(chat=chats[campaign], subscriber=subscriber, word=word, at=seconds[number], campaign=of)] += 1
    journal = Counter(story.journal)
    yield from (f"missing: {line}" for line in lines - journal)
    yield from (f"too many: {line}" for line in journal - lines)


def find_wrong_accounts(story: Story) -> Iterator[Finding]:
    """Owed by whoever had the campaign when the event was applied, to that account's tracker, in that epoch."""
    versions = by_campaign(story.versions)
    for told in story.told:
        version = version_at(versions[told.campaign], told.number)
        if (told.account, told.epoch) != (version.account, version.epoch):
            yield f"{told} was written while the campaign was {version.account}'s, in epoch {version.epoch}"
        elif told.pending and told.host != story.hosts[told.account]:
            yield f"{told} goes to another tracker than the account's"


def find_wrong_told(story: Story, due: Due, outcomes: Mapping[tuple[int, int, int], Outcome]) -> Iterator[Finding]:
    """Each step is told once in its epoch or has its rule, and nothing else is."""
    log: defaultdict[tuple[int, int, int], list[Told]] = defaultdict(list)
    for told in story.told:
        log[told.campaign, told.epoch, told.subscriber].append(told)
    for key in log:
        if outcomes.get(key, Outcome()).status == "none":
            yield f"{key} was told of, and is no lead"
    for key, outcome in outcomes.items():
        seconds = {one.number: one.second for one in due.lives[key]}
        steps = Counter((told.status, told.at) for told in log[key] if told.pending and not told.correction)
        otherwise = {(told.status, told.at) for told in log[key] if not told.pending or told.correction}
        owed = {(status, seconds[number]) for status, _, number in outcome.owed}
        held = {(status, seconds[number]) for status, _, number in outcome.held}
        yield from (f"{key}: {step} was told {times} times" for step, times in steps.items() if times > 1)
        yield from (f"{key}: {step} was not told" for step in (owed | held) - steps.keys() - otherwise)
        yield from (f"{key}: {step} was told, and is no step" for step in steps.keys() - owed - held)


def find_wrong_messages(story: Story, due: Due) -> Iterator[Finding]:
    for key in due.messages.keys() | story.sent.keys():
        sent, wanted = story.sent.get(key, 0), due.messages[key]
        if sent > wanted or (sent < wanted and key not in story.blockers):
            yield f"bot and person {key}: {sent} messages for {wanted} starts"


def find_reconnected(story: Story) -> list[Finding]:
    before, after = story.connections
    return [] if before == after else [f"{before} connections before the first transfer, {after} after the last"]


# What each event counts for


def weigh_all(story: Story) -> Due:
    """Go through the events as they were applied."""
    due, versions, bindings = Due(), by_campaign(story.versions), by_campaign(story.bindings)
    seen: set[tuple[Any, ...]] = set()
    for order, (number, event) in enumerate(story.applied):
        if event.kind == "start":
            _start(story, due, versions, bindings, order, number, event)
        elif event.kind in {"change", "request"}:
            _membership(story, due, versions, bindings, seen, order, number, event)
    return due


def _start(
    story: Story,
    due: Due,
    versions: Mapping[int, Sequence[Version]],
    bindings: Mapping[int, Sequence[Binding]],
    order: int,
    number: int,
    event: Taken,
) -> None:
    code, _, click = event.payload.partition("-")
    campaign = story.codes.get(code)
    if campaign is None:
        return
    version = version_at(versions[campaign], number)
    own = [one for one in known(bindings[campaign], number) if one.bot == event.bot and int(one.since) <= event.at]
    if not any(one.until is None or event.at < one.until for one in own):
        due.messages[event.bot, event.subscriber] += bool(own)
    elif event.at >= int(version.epoch_since):
        due.messages[event.bot, event.subscriber] += 1
        due.lives[campaign, version.epoch, event.subscriber].append(Happening(order, event.at, "start", (1,), click=click))


def _membership(
    story: Story,
    due: Due,
    versions: Mapping[int, Sequence[Version]],
    bindings: Mapping[int, Sequence[Binding]],
    seen: set[tuple[Any, ...]],
    order: int,
    number: int,
    event: Taken,
) -> None:
    chat, campaigns = story.chats[event.chat]
    word = word_of(event)
    if not word:
        return
    counted = False
    for campaign in campaigns:
        version = version_at(versions[campaign], number)
        near = any(
            one.bot == event.bot and int(one.since) - GRACE_S <= event.at and (one.until is None or event.at <= one.until + GRACE_S)
            for one in known(bindings[campaign], number)
        )
        key = (campaign, version.epoch, event.subscriber, event.at, event.kind, event.before, event.after)
        if near and event.at >= int(version.epoch_since) and key not in seen:
            seen.add(key)
            counted = True
            happening = Happening(order, event.at, event.kind, (1,), before=event.before, after=event.after, own=event.own)
            due.lives[campaign, version.epoch, event.subscriber].append(happening)
    if not counted and word != "unban":
        due.organic[Line(chat=chat, subscriber=event.subscriber, word=word, at=event.at, campaign=0)] += 1


def word_of(event: Taken) -> str:
    """The journal's word."""
    if event.kind == "request":
        return "request"
    if event.after == "in":
        return "join"
    if event.after == "banned":
        return "kick"
    if event.before == "banned":
        return "unban"
    return "leave" if event.own else "kick"


def in_order(life: Sequence[Happening]) -> list[Happening]:
    """As it happened. Nobody does two things in one second here."""
    return sorted(life, key=lambda happening: happening.second)


def by_campaign(rows: Sequence[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.number):
        found[row.campaign].append(row)
    return found


def version_at(versions: Sequence[Version], number: int) -> Version:
    """What was true at a commit."""
    return next(version for version in reversed(versions) if version.number <= number)


def known(bindings: Sequence[Binding], number: int) -> Iterator[Binding]:
    """Bindings as they stood at a commit: what ended later had no end yet."""
    for one in bindings:
        if one.number <= number:
            ended = one.ended is not None and one.ended <= number
            yield one if ended else Binding(campaign=one.campaign, bot=one.bot, since=one.since, until=None, number=one.number, ended=None)


def current_epochs(story: Story) -> dict[int, int]:
    return {campaign: rows[-1].epoch for campaign, rows in by_campaign(story.versions).items()}


#: Statuses of the public API by number.
STATUSES: Final = ("wait", "hold", "approve", "cancel", "trash")
