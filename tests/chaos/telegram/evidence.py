"""What the judge is given: what the server owed and was sent, what was taken in and by whom, and what came of it in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.telegram.remote import Remote

#: What Telegram's clients add to the number of a channel or supergroup.
CHANNEL_MARK: Final = -1_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A bot and the campaign that it watches; `tg` and `chat_tg` as Telegram numbers them, the others as the database does."""

    tg: int
    bot: int
    chat_tg: int
    chat: int
    campaign: int
    code: str
    window: int

    @property
    def marked(self) -> int:
        return CHANNEL_MARK - self.chat_tg


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Taken:
    """An event as it was taken in, or should have been; `at` in Unix seconds."""

    bot: int
    kind: str
    at: int
    subscriber: int = 0
    chat: int = 0
    message: int = 0
    payload: str = ""
    before: str = ""
    after: str = ""
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A row written for a bot by the process in a slot, while the bot's session belonged to the process in `owner`."""

    table: str
    bot: int
    slot: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A listener that was stopped until others had its bots, and let go on. Moments are Unix seconds."""

    slot: str
    ports: frozenset[int]
    """Its ends of the connections that it had to the server."""
    stopped: float
    deadline: float
    """Until when its lease went."""
    continued: float
    taken_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Postback:
    """A row of the delivery log."""

    status: str
    click: str
    at: int
    pending: bool
    rule: str
    correction: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    status: str
    click: str
    started: int
    joined: int | None
    postbacks: tuple[Postback, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Entry:
    """A row of the journal, of the chat whose campaign this is."""

    subscriber: int
    word: str
    at: int
    paid: bool


@dataclass(slots=True, kw_only=True)
class Came:
    """What came of one campaign and its chat."""

    leads: Mapping[int, Lead] = field(default_factory=dict)
    journal: Sequence[Entry] = ()
    days: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Counter and day since 1970 -> how many."""
    totals: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Case:
    """Everything."""

    watches: Sequence[Watch]
    owed: Sequence[Mapping[str, Any]]
    sent: Sequence[Mapping[str, Any]]
    calls: Sequence[Mapping[str, Any]]
    connections: Sequence[Mapping[str, Any]]
    taken: Sequence[Taken]
    strangers: Sequence[Write] = ()
    """Rows that somebody wrote who did not have the bot."""
    freezes: Sequence[Freeze] = ()
    came: Mapping[int, Came] = field(default_factory=dict)
    """By campaign."""
    left: Mapping[str, int] = field(default_factory=dict)
    """Rows that still wait, by what they are."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How long the server's lists were at a moment."""

    owed: int
    sent: int
    calls: int
    connections: int


def mark(server: Remote) -> Mark:
    counts = server.counts()
    return Mark(counts["owed"], counts["sent"], counts["calls"], counts["connections"])
