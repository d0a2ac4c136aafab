"""Where an event goes: into a campaign's fold, into the bot's own journal, to an answer, or nowhere.

A change of membership or a request belongs to at most one campaign of the bot in that chat. Where two could have it, because one campaign
came to the bot as another went, it is that which the bot held at the event's date; the other has it by grace alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from shared.domain import deeplinks
from shared.domain.events import Event, EventKind
from shared.domain.fold import Folded
from shared.domain.leads import (
    ACTIONS,
    Action,
    Aside,
    Campaign,
    Change,
    Holding,
    Membership,
    Request,
    Sighting,
    Start,
    Weight,
    event_of,
    weigh,
)
from shared.domain.postbacks import Templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A campaign as events find it. `chat` is our id, `chat_tg` Telegram's; `templates` are those in force, `account` who owes."""

    id: int
    code: str
    account: int
    chat: int
    chat_tg: int
    epoch: int
    terms: Campaign
    templates: Templates


@dataclass(frozen=True, slots=True)
class Counts:
    """It is folded into this campaign."""

    campaign: Tracked


@dataclass(frozen=True, slots=True)
class Organic:
    """It is an entry of the bot's own journal."""

    action: Action


@dataclass(frozen=True, slots=True)
class Moved:
    """It is answered with the link to the campaign's present bot."""

    campaign: Tracked


Route = Counts | Organic | Moved


def code_of(event: Event) -> str:
    """The campaign code that a start names; "" for everything else."""
    payload = deeplinks.parse(event.payload) if event.kind is EventKind.START else None
    return payload.code if payload else ""


def sighting_of(event: Event) -> Sighting | None:
    """What a campaign sees in an event; None where there is nothing for one."""
    match event.kind:
        case EventKind.START:
            payload = deeplinks.parse(event.payload)
            return Start(bot=event.bot, at=event.at, message=event.message, click=payload.click) if payload else None
        case EventKind.REQUEST:
            return Request(bot=event.bot, at=event.at)
        case EventKind.CHANGE:
            before, after = Membership(event.before), Membership(event.after)
            return Change(bot=event.bot, at=event.at, before=before, after=after, own=event.own)
        case EventKind.SEAT | EventKind.STOPPED | EventKind.MIGRATED:
            return None


def route(sighting: Sighting, campaigns: Iterable[Tracked]) -> Route | None:
    """Where a sighting goes. `campaigns` are those with a start's code, or those in the chat that its bot ever held."""
    if isinstance(sighting, Start):
        return _route_start(sighting, campaigns)
    counting = [campaign for campaign in campaigns if isinstance(weigh(campaign.terms, sighting), Weight)]
    if counting:
        return Counts(max(counting, key=lambda campaign: _claim(campaign, sighting)))
    return _organic(sighting)


def _route_start(start: Start, campaigns: Iterable[Tracked]) -> Route | None:
    for campaign in campaigns:
        weight = weigh(campaign.terms, start)
        if weight is Aside.MOVED:
            return Moved(campaign)
        if isinstance(weight, Weight):
            return Counts(campaign)
    return None


def _claim(campaign: Tracked, sighting: Sighting) -> tuple[bool, datetime, int]:
    """How well a campaign's claim to a sighting stands: held at its date before by grace, then the younger holding."""
    holdings = [holding for holding in campaign.terms.holdings if holding.bot == sighting.bot]
    return max((_covers(holding, sighting.at), holding.since, campaign.id) for holding in holdings)


def _covers(holding: Holding, at: datetime) -> bool:
    return holding.since.replace(microsecond=0) <= at and (holding.until is None or at <= holding.until)


def _organic(sighting: Sighting) -> Organic | None:
    event = event_of(sighting)
    action = ACTIONS.get(event) if event is not None else None
    return Organic(action) if action is not None else None


def seconded(folded: Folded) -> list[tuple[Sighting, Organic]]:
    """Of what a fold set aside, the sightings by another bot than the first: each is an entry of that bot's own."""
    entries = []
    for sighting, aside in folded.aside:
        if aside is Aside.REPEATED and sighting.bot != _first(folded, sighting):
            organic = _organic(sighting)
            entries += [(sighting, organic)] if organic else []
    return entries


def _first(folded: Folded, repeated: Sighting) -> int:
    facts = (*folded.kept.known, *folded.kept.facts)
    return next(fact.sighting.bot for fact in facts if fact.sighting.key == repeated.key)
