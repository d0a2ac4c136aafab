"""The states of a lead: what each event does to it, as one table, and which of the things a bot saw count for a campaign.

`TABLE` has a cell for every state and every event. `fold.py` walks a subscriber's events through it; docs/lead-states.md shows it to
people, and a test holds the two together. Nothing else in the project knows what follows what.

`weigh` says what a sighting counts for. Telegram dates in whole seconds, the database in microseconds; what happened in the second in
which a campaign was paused, resumed, moved or deleted cannot be told to lie before or after. It counts: a lead is not lost to rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final


class LeadStatus(IntEnum):
    """Status of a lead; part of the public API."""

    WAIT = 0
    HOLD = 1
    APPROVE = 2
    CANCEL = 3
    TRASH = 4


class Event(StrEnum):
    """What can happen to a subscriber, as the table distinguishes it.

    START brings a click that is not empty and differs from the lead's; RESTART brings the same click, or none. JOIN is every way in: by
    link, by an approved request, added by somebody, put in as administrator. KICK is every way out that was not the subscriber's own
    choice, and every ban.
    """

    START = "start"
    RESTART = "restart"
    REQUEST = "request"
    JOIN = "join"
    LEAVE = "leave"
    KICK = "kick"
    UNBAN = "unban"


class Action(IntEnum):
    """What a journal entry tells; part of the public API."""

    JOIN = 0
    LEAVE = 1
    KICK = 2
    REQUEST = 3


class Attribution(StrEnum):
    """Whose a journal entry is: a lead's, or nobody's; part of the public API."""

    PAID = "paid"
    ORGANIC = "organic"


class Counter(StrEnum):
    """What a campaign counts, each lead once for ever in each. The values name columns."""

    STARTS = "starts"
    HOLDS = "holds"
    CONFIRMS = "confirms"
    UNSUBS = "unsubs"


#: The journal's word for each event it records. A start is no membership, and an unban changes none.
ACTIONS: Final[Mapping[Event, Action]] = {
    Event.REQUEST: Action.REQUEST,
    Event.JOIN: Action.JOIN,
    Event.LEAVE: Action.LEAVE,
    Event.KICK: Action.KICK,
}


@dataclass(frozen=True, slots=True)
class Cell:
    """What an event does in a state: the next state, the postback, the journal entry's type, the counter.

    `windowed` postbacks are fired only inside the unsub window. The counter counts the first time only.
    """

    next: LeadStatus | None
    postback: LeadStatus | None = None
    journal: Attribution | None = None
    counter: Counter | None = None
    windowed: bool = False


_S, _E, _J, _C = LeadStatus, Event, Attribution, Counter

#: Every state with every event. No lead is a state, too: only a start leaves it.
TABLE: Final[Mapping[tuple[LeadStatus | None, Event], Cell]] = {
    (None, _E.START): Cell(_S.WAIT, postback=_S.WAIT, counter=_C.STARTS),
    (None, _E.RESTART): Cell(_S.WAIT, postback=_S.WAIT, counter=_C.STARTS),
    (None, _E.REQUEST): Cell(None, journal=_J.ORGANIC),
    (None, _E.JOIN): Cell(None, journal=_J.ORGANIC),
    (None, _E.LEAVE): Cell(None, journal=_J.ORGANIC),
    (None, _E.KICK): Cell(None, journal=_J.ORGANIC),
    (None, _E.UNBAN): Cell(None),
    (_S.WAIT, _E.START): Cell(_S.WAIT, postback=_S.WAIT),
    (_S.WAIT, _E.RESTART): Cell(_S.WAIT),
    (_S.WAIT, _E.REQUEST): Cell(_S.HOLD, postback=_S.HOLD, journal=_J.PAID, counter=_C.HOLDS),
    (_S.WAIT, _E.JOIN): Cell(_S.APPROVE, postback=_S.APPROVE, journal=_J.PAID, counter=_C.CONFIRMS),
    (_S.WAIT, _E.LEAVE): Cell(_S.WAIT, journal=_J.PAID),
    (_S.WAIT, _E.KICK): Cell(_S.WAIT, journal=_J.PAID),
    (_S.WAIT, _E.UNBAN): Cell(_S.WAIT),
    (_S.HOLD, _E.START): Cell(_S.HOLD, postback=_S.WAIT),
    (_S.HOLD, _E.RESTART): Cell(_S.HOLD),
    (_S.HOLD, _E.REQUEST): Cell(_S.HOLD, journal=_J.PAID),
    (_S.HOLD, _E.JOIN): Cell(_S.APPROVE, postback=_S.APPROVE, journal=_J.PAID, counter=_C.CONFIRMS),
    (_S.HOLD, _E.LEAVE): Cell(_S.HOLD, journal=_J.PAID),
    (_S.HOLD, _E.KICK): Cell(_S.HOLD, journal=_J.PAID),
    (_S.HOLD, _E.UNBAN): Cell(_S.HOLD),
    (_S.APPROVE, _E.START): Cell(_S.APPROVE, postback=_S.WAIT),
    (_S.APPROVE, _E.RESTART): Cell(_S.APPROVE),
    (_S.APPROVE, _E.REQUEST): Cell(_S.APPROVE, journal=_J.PAID),
    (_S.APPROVE, _E.JOIN): Cell(_S.APPROVE, journal=_J.PAID),
    (_S.APPROVE, _E.LEAVE): Cell(_S.CANCEL, postback=_S.CANCEL, journal=_J.PAID, counter=_C.UNSUBS, windowed=True),
    (_S.APPROVE, _E.KICK): Cell(_S.TRASH, postback=_S.TRASH, journal=_J.PAID, counter=_C.UNSUBS, windowed=True),
    (_S.APPROVE, _E.UNBAN): Cell(_S.APPROVE),
    (_S.CANCEL, _E.START): Cell(_S.WAIT, postback=_S.WAIT),
    (_S.CANCEL, _E.RESTART): Cell(_S.CANCEL),
    (_S.CANCEL, _E.REQUEST): Cell(_S.HOLD, postback=_S.HOLD, journal=_J.PAID, counter=_C.HOLDS),
    (_S.CANCEL, _E.JOIN): Cell(_S.APPROVE, postback=_S.APPROVE, journal=_J.PAID, counter=_C.CONFIRMS),
    (_S.CANCEL, _E.LEAVE): Cell(_S.CANCEL, journal=_J.PAID),
    (_S.CANCEL, _E.KICK): Cell(_S.CANCEL, journal=_J.PAID),
    (_S.CANCEL, _E.UNBAN): Cell(_S.CANCEL),
    (_S.TRASH, _E.START): Cell(_S.WAIT, postback=_S.WAIT),
    (_S.TRASH, _E.RESTART): Cell(_S.TRASH),
    (_S.TRASH, _E.REQUEST): Cell(_S.HOLD, postback=_S.HOLD, journal=_J.PAID, counter=_C.HOLDS),
    (_S.TRASH, _E.JOIN): Cell(_S.APPROVE, postback=_S.APPROVE, journal=_J.PAID, counter=_C.CONFIRMS),
    (_S.TRASH, _E.LEAVE): Cell(_S.TRASH, journal=_J.PAID),
    (_S.TRASH, _E.KICK): Cell(_S.TRASH, journal=_J.PAID),
    (_S.TRASH, _E.UNBAN): Cell(_S.TRASH),
}


class Membership(StrEnum):
    """Where a subscriber stands in a chat. Administrators, the creator and restricted members who have not left are IN."""

    OUT = "out"
    IN = "in"
    BANNED = "banned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A /start with the campaign's code. `message` is Telegram's number of the message, which grows within a bot."""

    bot: int
    at: datetime
    message: int
    click: str

    @property
    def key(self) -> "Key":
        """What makes two sightings one."""
        return ("start", self.at, self.bot, self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to join the campaign's chat."""

    bot: int
    at: datetime

    @property
    def key(self) -> "Key":
        """What makes two sightings one, whichever bots had them."""
        return ("request", self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of membership in the campaign's chat. `own`: the subscriber did it."""

    bot: int
    at: datetime
    before: Membership
    after: Membership
    own: bool

    @property
    def key(self) -> "Key":
        """What makes two sightings one, whichever bots had them."""
        return ("change", self.at, self.before.value, self.after.value)


Key = tuple[str | int | datetime, ...]
Sighting = Start | Request | Change


#: What each change of membership is. Leaving by somebody else's hand is a kick.
_CHANGES: Final[Mapping[tuple[Membership, Membership], Event]] = {
    (Membership.OUT, Membership.IN): Event.JOIN,
    (Membership.BANNED, Membership.IN): Event.JOIN,
    (Membership.IN, Membership.OUT): Event.LEAVE,
    (Membership.IN, Membership.BANNED): Event.KICK,
    (Membership.OUT, Membership.BANNED): Event.KICK,
    (Membership.BANNED, Membership.OUT): Event.UNBAN,
}


def event_of(sighting: Sighting, click: str = "") -> Event | None:
    """The table's name for a sighting, where the lead's click is `click`; None for a change between two ways of being in or out."""
    match sighting:
        case Start():
            return Event.START if sighting.click and sighting.click != click else Event.RESTART
        case Request():
            return Event.REQUEST
        case Change():
            event = _CHANGES.get((sighting.before, sighting.after))
            return Event.KICK if event is Event.LEAVE and not sighting.own else event


#: How long before and after its time a bot's sightings of membership count for a campaign that moved.
GRACE: Final = timedelta(seconds=60)
#: How long the old bot of a moved campaign answers a start with its code.
MOVED_ANSWER: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time by the database's clock; None: it lasts."""

    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding(Span):
    """When a bot held the campaign."""

    bot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What counts for a campaign: which bots held it when, when it was paused, since when its leads are its owner's."""

    holdings: tuple[Holding, ...]
    epoch_since: datetime
    unsub_window: int
    pauses: tuple[Span, ...] = ()
    deleted: datetime | None = None


class Weight(StrEnum):
    """How much a sighting counts: wholly, for the state but not for the tracker, or for the journal alone."""

    FULL = "full"
    SILENT = "silent"
    JOURNAL = "journal"


class Aside(StrEnum):
    """Why a sighting is nothing to the campaign.

    A change or a request that is FOREIGN or DELETED here is still what the bot saw: an organic entry of its own. So is REPEATED from
    another bot than the first. A start that is MOVED is answered with the new bot's link.
    """

    REPEATED = "repeated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    FOREIGN = "foreign"
    MOVED = "moved"
    EARLIER = "before the epoch"
    PAUSED = "paused"


def weigh(campaign: Campaign, sighting: Sighting) -> Weight | Aside:
    """What a sighting counts for, by its own date alone: it is the same whenever it arrives."""
    if campaign.deleted is not None and sighting.at >= campaign.deleted:
        return Aside.DELETED
    if isinstance(sighting, Start):
        return _weigh_start(campaign, sighting)
    if not any(_seen_within(holding, sighting) for holding in campaign.holdings):
        return Aside.FOREIGN
    if event_of(sighting) is None:
        return Aside.UNCHANGED
    if sighting.at < _second(campaign.epoch_since):
        return Weight.JOURNAL
    return Weight.SILENT if _paused(campaign, sighting.at) else Weight.FULL


def _weigh_start(campaign: Campaign, start: Start) -> Weight | Aside:
    own = [holding for holding in campaign.holdings if holding.bot == start.bot and _second(holding.since) <= start.at]
    if not any(holding.until is None or start.at < holding.until for holding in own):
        recent = any(holding.until is not None and start.at < holding.until + MOVED_ANSWER for holding in own)
        return Aside.MOVED if recent else Aside.FOREIGN
    if start.at < _second(campaign.epoch_since):
        return Aside.EARLIER
    return Aside.PAUSED if _paused(campaign, start.at) else Weight.FULL


def _seen_within(holding: Holding, sighting: Sighting) -> bool:
    return (
        holding.bot == sighting.bot
        and _second(holding.since) - GRACE <= sighting.at
        and (holding.until is None or sighting.at <= holding.until + GRACE)
    )


def _paused(campaign: Campaign, at: datetime) -> bool:
    return any(pause.since <= at and (pause.until is None or at < _second(pause.until)) for pause in campaign.pauses)


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
