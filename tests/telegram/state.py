"""Bots, people and chats, and the sequences in which a bot's updates are numbered.

A bot has two sequences: pts counts its private messages and those of basic groups, qts counts membership, requests and
blocks. Each supergroup and channel counts its messages on its own.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from heapq import merge
from typing import Any, Final, Protocol

FIRST: Final = 1
"""Where pts and qts start unless the world is told otherwise; a pts of 0 stands for not known."""


class Kind(StrEnum):
    GROUP = "group"
    SUPERGROUP = "supergroup"
    CHANNEL = "channel"


class Standing(StrEnum):
    """How somebody stands to a chat."""

    OUT = "out"
    MEMBER = "member"
    RESTRICTED = "restricted"
    RESTRICTED_OUT = "restricted_out"
    """Has left, and would be restricted again."""
    ADMIN = "admin"
    CREATOR = "creator"
    BANNED = "banned"


OUTSIDE: Final = frozenset({Standing.OUT, Standing.RESTRICTED_OUT, Standing.BANNED})


@dataclass(frozen=True, slots=True)
class Member:
    """A standing, since when, by whom; an admin's may include inviting."""

    standing: Standing
    since: datetime
    by: int
    may_invite: bool = True


@dataclass(slots=True, eq=False)
class Person:
    id: int
    name: str
    username: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """An invite link, and whose it is."""

    url: str
    admin_id: int
    date: datetime
    title: str | None = None
    request_needed: bool = False


@dataclass(slots=True, eq=False)
class Chat:
    """A group, supergroup or channel."""

    id: int
    kind: Kind
    title: str
    since: datetime
    username: str | None = None
    members: dict[int, Member] = field(default_factory=dict)
    bots: set[int] = field(default_factory=set)
    """Those of the members that are bots."""
    links: dict[str, Link] = field(default_factory=dict)
    asked: dict[int, Link | None] = field(default_factory=dict)
    """Who waits to be let in, and by which link."""
    messages: list[Any] = field(default_factory=list)
    """Those counted here: every one of a supergroup or channel."""
    moved_to: int | None = None

    @property
    def basic(self) -> bool:
        return self.kind is Kind.GROUP

    @property
    def pts(self) -> int:
        return FIRST + len(self.messages)

    def standing(self, user_id: int) -> Standing:
        member = self.members.get(user_id)
        return member.standing if member else Standing.OUT


class Line(Protocol):
    """A connection to push to."""

    def push(self, body: bytes) -> None: ...
    def drop(self) -> None: ...
    async def drain(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """An update with its number, and when it came among all of the bot's."""

    order: int
    sequence: str
    number: int
    update: Any


@dataclass(slots=True, eq=False)
class Bot:
    """A bot as the server sees it."""

    id: int
    token: str
    username: str
    dc: int
    since: datetime
    first: int = FIRST
    """Where its pts starts, and the numbers of its messages."""
    first_qts: int = FIRST
    """Where its qts starts; 0 is that of a bot that was in no chat yet."""
    revoked: bool = False
    lines: list[Line] = field(default_factory=list)
    blocked_by: set[int] = field(default_factory=set)
    met: set[int] = field(default_factory=set)
    """Whom it may write to."""
    random_ids: set[int] = field(default_factory=set)
    media: dict[int, Any] = field(default_factory=dict)
    uploads: dict[int, dict[int, int]] = field(default_factory=dict)
    """Files on their way: id -> part -> its size."""
    commands: list[str] = field(default_factory=list)
    _messages: int = 0
    _by_pts: list[Entry] = field(default_factory=list)
    _by_qts: list[Entry] = field(default_factory=list)

    @property
    def pts(self) -> int:
        return self.first + len(self._by_pts)

    @property
    def qts(self) -> int:
        return self.first_qts + len(self._by_qts)

    def next_message_id(self) -> int:
        self._messages += 1
        return self.first - FIRST + self._messages

    def number(self, update: Any) -> str:
        """Give the update its place in its sequence, and keep it for differences; the place, in words."""
        order = len(self._by_pts) + len(self._by_qts)
        if hasattr(update, "qts"):
            update.qts = self.qts + 1
            self._by_qts.append(Entry(order, "qts", update.qts, update))
            return f"qts {update.qts}"
        update.pts, update.pts_count = self.pts + 1, 1
        self._by_pts.append(Entry(order, "pts", update.pts, update))
        return f"pts {update.pts}"

    def after(self, pts: int, qts: int) -> Iterator[Entry]:
        """Everything a client that is at these numbers has not seen, in the order in which it came."""
        return merge(self._by_pts[max(pts - self.first, 0) :], self._by_qts[max(qts - self.first_qts, 0) :], key=lambda entry: entry.order)

    def access_hash(self, peer_id: int) -> int:
        """What the bot must show to name this peer. Each bot has its own."""
        digest = hashlib.blake2b(f"{self.id}/{peer_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 2


class World:
    """Everybody there is. Bots begin to count at `first`."""

    def __init__(self, first: int = FIRST) -> None:
        self.first = first
        self.bots: dict[int, Bot] = {}
        self.people: dict[int, Person] = {}
        self.chats: dict[int, Chat] = {}

    def bot_by_token(self, token: str) -> Bot | None:
        return next((bot for bot in self._with_id_of(token) if bot.token == token), None)

    def _with_id_of(self, token: str) -> list[Bot]:
        number = token.partition(":")[0]
        bot = self.bots.get(int(number)) if number.isdecimal() else None
        return [bot] if bot else []

    def person(self, person_id: int) -> Person:
        """Somebody, made on first mention."""
        if person_id not in self.people:
            self.people[person_id] = Person(person_id, f"Person {person_id}")
        return self.people[person_id]

    def named(self, username: str) -> Bot | Person | Chat | None:
        everybody: list[Bot | Person | Chat] = [*self.bots.values(), *self.people.values(), *self.chats.values()]
        return next((one for one in everybody if (one.username or "").lower() == username.lower()), None)

    def watchers(self, chat: Chat, about: int, *, inviting: bool = False) -> list[Bot]:
        """The bots that learn of something about somebody there: the admins among them, and the one it is about."""
        bots = [self.bots[number] for number in chat.bots]
        found = [bot for bot in bots if (member := chat.members[bot.id]).standing is Standing.ADMIN and (member.may_invite or not inviting)]
        if about in self.bots and self.bots[about] not in found:
            found.append(self.bots[about])
        return found

    def place(self, chat: Chat, user_id: int, member: Member) -> Member | None:
        """Give somebody a standing there; the one before."""
        before = chat.members.get(user_id)
        if member.standing is Standing.OUT:
            chat.members.pop(user_id, None)
            chat.bots.discard(user_id)
        else:
            chat.members[user_id] = member
            if user_id in self.bots:
                chat.bots.add(user_id)
        return before
