"""What the server knows of itself, only ever added to: what it owed each bot, what it was asked, what it was sent, by whom.

Tests compare with it what a client has written down. It is not touched by any nastiness: a push that was withheld is owed
all the same.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

WAIT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An event that a bot must learn of, once."""

    number: int
    at: float
    bot_id: int
    kind: str
    key: str
    date: int
    sequence: str
    """pts or qts, and its number in there."""
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A request, and what it was refused for."""

    number: int
    at: float
    method: str
    bot_id: int | None
    connection: int
    address: str
    dc: int
    refused: str | None


@dataclass(slots=True, kw_only=True)
class Sent:
    """A message that was accepted."""

    number: int
    at: float
    bot_id: int
    peer_id: int
    message_id: int
    random_id: int
    text: str
    entities: list[dict[str, Any]]
    buttons: list[dict[str, Any]]
    media: str | None
    answered: bool = True


@dataclass(slots=True, kw_only=True)
class Opened:
    """A connection, and when bytes last came on it."""

    number: int
    at: float
    address: str
    port: int
    dc: int
    bot_id: int | None = None
    key_id: int | None = None
    bytes_in: int = 0
    last_in_at: float | None = None
    pushes: int = 0
    closed_at: float | None = None


@dataclass(slots=True)
class Record:
    """The four lists; whoever waits for one to grow is woken."""

    owed: list[Owed] = field(default_factory=list)
    calls: list[Called] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    connections: list[Opened] = field(default_factory=list)
    acknowledged: int = 0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def owe(self, **what: Any) -> Owed:
        owed = Owed(number=len(self.owed), at=time.time(), **what)
        self.owed.append(owed)
        return owed

    def called(self, **what: Any) -> None:
        self.calls.append(Called(number=len(self.calls), at=time.time(), **what))
        self.changed()

    def was_sent(self, **what: Any) -> Sent:
        sent = Sent(number=len(self.sent), at=time.time(), **what)
        self.sent.append(sent)
        self.changed()
        return sent

    def opened(self, **what: Any) -> Opened:
        opened = Opened(number=len(self.connections), at=time.time(), **what)
        self.connections.append(opened)
        self.changed()
        return opened

    def changed(self) -> None:
        """Wake those who wait."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, condition: Callable[[], object], what: str = "the condition", wait_s: float = WAIT_S) -> None:
        """Wait until it holds; it is looked at whenever something was written down."""
        async with asyncio.timeout(wait_s):
            while not condition():
                future = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
                try:
                    await future
                except TimeoutError as error:
                    raise AssertionError(f"it did not come to hold within {wait_s} s: {what}") from error

    def methods(self, bot_id: int | None = None) -> list[str]:
        """The names of what was asked, in order."""
        return [call.method for call in self.calls if bot_id is None or call.bot_id == bot_id]

    def keys(self, bot_id: int, since: int = 0) -> list[str]:
        """The keys of what the bot is owed, in order."""
        return [owed.key for owed in self.owed[since:] if owed.bot_id == bot_id]

    def part(self, which: str, since: int, rows: int) -> list[dict[str, Any]]:
        """So many rows of one of the lists, for those who stand outside."""
        lists: dict[str, list[Any]] = {"owed": self.owed, "calls": self.calls, "sent": self.sent, "connections": self.connections}
        return [asdict(entry) for entry in lists[which][since : since + rows]]
