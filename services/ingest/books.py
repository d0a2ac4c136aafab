"""What a fold comes to as rows: the lead, its journal, its counts, what is owed and what is to be said. Nothing is read or written."""

import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from shared.db.ingest import Person, what
from shared.db.ingested import Block, Claim, Delivery, Entry, Fact, Lead, Send, Work
from shared.domain import fold
from shared.domain.events import Event, EventKind
from shared.domain.fold import Folded, Held, Owed
from shared.domain.leads import Action, Attribution, Counter, Key, LeadStatus, Sighting, Start
from shared.domain.postbacks import Unsent, call, values
from shared.domain.routing import Tracked


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids drawn for new leads and new journal entries."""

    leads: Iterator[int]
    entries: Iterator[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A subscriber of a campaign: what was kept, what arrived, and what that comes to."""

    campaign: Tracked
    subscriber: int
    person: Person
    arrived: Mapping[Sighting, Event]
    folded: Folded


def book(work: Work, story: Story, ids: Ids, talking: Collection[int]) -> None:
    """Add a story's rows. Bots that are not `talking` say nothing.

    1. The lead, with its place in the counters.
    2. Its journal entries: new ones, and organic ones that turn out to be its own.
    3. The facts, with the entries they stand for.
    4. What is owed, and what is held back by which rule.
    5. The welcomes.
    """
    if not story.folded.changed:
        return
    lead = _book_lead(work, story, ids) if story.folded.lead is not None else None
    entries = _book_entries(work, story, lead, ids)
    for fact in story.folded.changed:
        work.facts.append(_fact(story, fact, entries.get(fact.sighting.key)))
    if lead is not None:
        work.deliveries += [_owed(story, lead, owed) for owed in story.folded.owed]
        work.deliveries += [_held(story, lead, held) for held in story.folded.held]
        work.sends += [_welcome(story, lead, welcome) for welcome in story.folded.welcomes if welcome.start.bot in talking]


def _book_lead(work: Work, story: Story, ids: Ids) -> Lead:
    campaign, person, now = story.campaign, story.person, story.folded.kept
    latest, told = now.latest, now.told
    assert latest.status is not None, "a lead has a status"
    lead = Lead(
        id=next(ids.leads) if person.lead is None else person.lead,
        campaign_id=campaign.id,
        epoch=campaign.epoch,
        subscriber=story.subscriber,
        username=_username(story),
        click=latest.click,
        status=latest.status,
        start_time=latest.start_time,
        join_time=latest.join_time,
        seen=latest.seen,
        member=latest.member or "",
        starts_day=latest.days.get(Counter.STARTS),
        holds_day=latest.days.get(Counter.HOLDS),
        confirms_day=latest.days.get(Counter.CONFIRMS),
        unsubs_day=latest.days.get(Counter.UNSUBS),
        told_says=told.says if told else None,
        told_standing=told.standing if told else None,
        postbacks=now.postbacks,
    )
    work.leads.append(lead)
    _count(work, story, latest.status)
    return lead


def _username(story: Story) -> str:
    """The name last seen: that of the youngest arrival, unless something younger was seen before."""
    youngest = max(story.arrived.values(), key=lambda event: event.at)
    seen = story.person.kept.latest.seen
    late = seen is not None and youngest.at < seen and story.person.username
    return story.person.username if late else youngest.username or story.person.username


def _count(work: Work, story: Story, status: LeadStatus) -> None:
    total = work.totals[story.campaign.id, story.campaign.epoch]
    before = story.person.kept.latest.status
    if status is not before:
        total[f"n_{status.name.lower()}"] += 1
        if before is not None:
            total[f"n_{before.name.lower()}"] -= 1
    for count in story.folded.counts:
        total[count.counter] += count.change
        work.days[story.campaign.id, story.campaign.epoch, count.day][count.counter] += count.change


def _book_entries(work: Work, story: Story, lead: Lead | None, ids: Ids) -> Mapping[Key, int]:
    """Write the journal entries; the ids of all there are, by what they tell of."""
    entries = dict(story.person.entries)
    for entry in story.folded.entries:
        key = entry.sighting.key
        paid = lead if entry.attribution is Attribution.PAID else None
        if key not in entries:
            entries[key] = next(ids.entries)
            event = story.arrived[entry.sighting]
            work.entries.append(_entry(entries[key], story.campaign.chat, event, entry.action, paid))
        elif paid is not None:
            work.claims.append(Claim(entries[key], paid.campaign_id, paid.epoch, paid.id))
    return entries


def _entry(entry: int, chat: int, event: Event, action: Action, lead: Lead | None) -> Entry:
    return Entry(
        id=entry,
        bot_id=event.bot,
        chat_id=chat,
        campaign_id=lead.campaign_id if lead else None,
        epoch=lead.epoch if lead else None,
        lead_id=lead.id if lead else None,
        subscriber=event.subscriber,
        username=event.username,
        action=action,
        at=event.at,
    )


def book_contact(work: Work, event: Event) -> None:
    """Note who blocked the bot, and who is there again: by unblocking it, or by starting it."""
    (work.blocks if event.kind is EventKind.STOPPED and event.after else work.returns).append(Block(event.bot, event.subscriber, event.at))


def book_organic(work: Work, chat: int, event: Event, action: Action, ids: Ids) -> None:
    """Add an entry of the bot's own."""
    work.entries.append(_entry(next(ids.entries), chat, event, action, None))


def _fact(story: Story, fact: fold.Fact, entry: int | None) -> Fact:
    sighting = fact.sighting
    start = sighting if isinstance(sighting, Start) else None
    return Fact(
        campaign_id=story.campaign.id,
        epoch=story.campaign.epoch,
        subscriber=story.subscriber,
        at=sighting.at,
        what=what(sighting),
        bot_id=sighting.bot,
        message=start.message if start else 0,
        click=start.click if start else "",
        own=getattr(sighting, "own", False),
        weight=fact.weight,
        unsub_window=fact.window,
        owed=fact.owed,
        held=fact.held or "",
        journal=fact.journal or "",
        journal_id=entry,
    )


def _owed(story: Story, lead: Lead, owed: Owed) -> Delivery:
    """A postback with its address, by the templates now in force; one for which there is no template is held back."""
    campaign = story.campaign
    macros = values(
        click=owed.click,
        status=owed.status,
        campaign=campaign.code,
        user=campaign.account,
        lead=lead.id,
        subscriber=story.subscriber,
        username=lead.username,
        chat=campaign.chat_tg,
        at=owed.sighting.at,
    )
    delivery = _held(story, lead, owed)._replace(number=owed.number, correction=owed.correction)
    made = call(campaign.templates[owed.status], macros)
    if isinstance(made, Unsent):
        return delivery._replace(rule=made)
    return delivery._replace(state="pending", url=made.url, destination=made.destination)


def _held(story: Story, lead: Lead, postback: Owed | Held) -> Delivery:
    return Delivery(
        account_id=story.campaign.account,
        campaign_id=story.campaign.id,
        epoch=story.campaign.epoch,
        lead_id=lead.id,
        number=0,
        status=postback.status,
        click=postback.click,
        url="",
        destination="",
        correction=False,
        state="held",
        rule=postback.rule if isinstance(postback, Held) else "",
        at=postback.sighting.at,
    )


def _welcome(story: Story, lead: Lead, welcome: fold.Welcome) -> Send:
    return _send("welcome", story.arrived[welcome.start], story.campaign, lead.id, welcome.click)


def book_answer(work: Work, event: Event, campaign: Tracked, click: str) -> None:
    """Add the answer to a start with the code of a campaign that has moved."""
    work.sends.append(_send("moved", event, campaign, None, click))


def _send(kind: str, event: Event, campaign: Tracked, lead: int | None, click: str) -> Send:
    return Send(
        bot_id=event.bot,
        subscriber=event.subscriber,
        kind=kind,
        campaign_id=campaign.id,
        lead_id=lead,
        username=event.username,
        click=click,
        random_id=secrets.randbits(63) | 1,
        at=event.at,
    )
