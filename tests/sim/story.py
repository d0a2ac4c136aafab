"""Sightings in short, and arrivals one after another."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.domain.fold import Count, Folded, Kept, Rule, fold
from shared.domain.leads import Action, Attribution, Campaign, Change, Counter, Holding, LeadStatus, Membership, Request, Sighting, Start

BOT, OTHER, STRANGER = 1, 2, 3
DAWN: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
OUT, IN, BANNED = Membership.OUT, Membership.IN, Membership.BANNED
WAIT, HOLD, APPROVE, CANCEL, TRASH = LeadStatus
S = timedelta(seconds=1)


def at(second: float) -> datetime:
    return DAWN + timedelta(seconds=second)


CAMPAIGN: Final = Campaign(holdings=(Holding(bot=BOT, since=at(-1000)),), epoch_since=at(-1000), unsub_window=100)


def start(second: float, click: str = "a", *, message: int | None = None, bot: int = BOT) -> Start:
    return Start(bot=bot, at=at(second), message=int(second) if message is None else message, click=click)


def request(second: float, *, bot: int = BOT) -> Request:
    return Request(bot=bot, at=at(second))


def change(second: float, before: Membership, after: Membership, *, own: bool = True, bot: int = BOT) -> Change:
    return Change(bot=bot, at=at(second), before=before, after=after, own=own)


def join(second: float) -> Change:
    return change(second, OUT, IN)


def leave(second: float) -> Change:
    return change(second, IN, OUT)


def kick(second: float) -> Change:
    return change(second, IN, OUT, own=False)


def unban(second: float) -> Change:
    return change(second, BANNED, OUT, own=False)


class Story:
    """Arrivals one after another, and what they came to."""

    def __init__(self, campaign: Campaign = CAMPAIGN) -> None:
        self.campaign = campaign
        self.kept = Kept()

    def arrives(self, *sightings: Sighting) -> Folded:
        folded = fold(self.campaign, self.kept, sightings)
        self.kept = folded.kept
        return folded

    @property
    def status(self) -> LeadStatus | None:
        return self.kept.latest.status


def owed(folded: Folded) -> list[tuple[LeadStatus, str, float]]:
    return [(o.status, o.click, (o.sighting.at - DAWN) / S) for o in folded.owed]


def held(folded: Folded) -> list[tuple[LeadStatus, Rule]]:
    return [(h.status, h.rule) for h in folded.held]


def journal(folded: Folded) -> list[tuple[Action, Attribution, bool]]:
    return [(e.action, e.attribution, e.new) for e in folded.entries]


def net(counts: Iterable[Count]) -> list[tuple[Counter, int, int]]:
    return [(c.counter, (c.day - DAWN.date()).days, c.change) for c in counts]
