"""Many people who do likely things, drawn from a seed: the demo's visitors, and the load of crash tests and measurements.

They act in rounds, each person once in a round, and a round has dates later than the one before. So no two things are told
of one person for the same second, and every event has a name of its own (`naming.py`); fast rounds run ahead of the clock.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import Final

from tests.telegram.core import Core
from tests.telegram.courier import BREATH_PUSHES, breathe
from tests.telegram.state import OUTSIDE, Standing
from tests.telegram.tl import now

#: What somebody does next, by where they stand, and how likely.
NEWCOMER: Final = {"start": 8, "join": 1, "ask": 1}
STARTED: Final = {"start": 1, "join": 6, "ask": 3, "block": 1}
WAITING: Final = {"approve": 8, "decline": 1, "start": 1}
INSIDE: Final = {"leave": 4, "kick": 1, "ban": 1, "start": 1, "say": 1, "restrict": 1}
BANNED: Final = {"unban": 1}

#: After these somebody new comes instead, so often.
PARTINGS: Final = {"leave", "ban", "kick", "block"}
PARTING_FOR_EVER: Final = 0.5

FIRST_ID: Final = 10_000_000
SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a crowd meets: a bot, the chat it watches, an admin there, the codes of the bot's campaigns, and links to the chat."""

    bot: int
    chat: int
    admin: int
    codes: list[str]
    links: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Visitor:
    id: int
    stage: Stage
    started: bool = False


@dataclass(slots=True)
class Crowd:
    """So many people at a time; who has done enough is replaced by somebody new."""

    core: Core
    stages: list[Stage]
    seed: int = 1
    people: int = 200
    first_id: int | None = None
    """Its people's numbers begin here; if nothing is said, above everybody's, bots among them, as far as counters begin above 0."""
    done: int = 0
    running: bool = False
    stopped: bool = False
    _random: Random = field(init=False)
    _visitors: list[Visitor] = field(init=False)
    _round: list[int] = field(init=False, default_factory=list)
    """Whose turn is still to come."""
    _date: datetime = field(init=False, default_factory=now)
    _ids: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._ids = count(self.first_id or max([FIRST_ID, *self.core.world.people, *self.core.world.bots]) + self.core.world.first)
        self._visitors = [self._new() for _ in range(self.people)]

    def stop(self) -> None:
        """Do nothing more."""
        self.running, self.stopped = False, True

    async def run(self, events: int | None, per_s: float | None) -> int:
        """Let so many things happen, or go on until stopped; so many a second, or as fast as the sockets take them."""
        self.running = True
        began, before = asyncio.get_running_loop().time(), self.done
        while self.running and (events is None or self.done - before < events):
            self.step()
            if per_s:
                ahead = began + (self.done - before) / per_s - asyncio.get_running_loop().time()
                await asyncio.sleep(max(ahead, 0))
            elif self.done % BREATH_PUSHES == 0:
                await breathe(self.core.world.bots[self._random.choice(self.stages).bot])
        self.running = False
        return self.done - before

    def step(self) -> str:
        """One thing happens; what."""
        if not self._round:
            self._round = self._random.sample(range(self.people), self.people)
            self._date = max(now(), self._date + SECOND)
        place = self._round.pop()
        visitor = self._visitors[place]
        deed = self._choose(visitor)
        self._do(visitor, deed)
        self.done += 1
        if deed in PARTINGS and self._random.random() < PARTING_FOR_EVER:
            self._visitors[place] = self._new()
        return deed

    def _new(self) -> Visitor:
        return Visitor(next(self._ids), self._random.choice(self.stages))

    def _choose(self, visitor: Visitor) -> str:
        chat = self.core.world.chats[visitor.stage.chat]
        standing = chat.standing(visitor.id)
        if standing is Standing.BANNED:
            likely = BANNED
        elif standing not in OUTSIDE:
            likely = INSIDE
        elif visitor.id in chat.asked:
            likely = WAITING
        else:
            likely = STARTED if visitor.started else NEWCOMER
        return self._random.choices(list(likely), list(likely.values()))[0]

    def _do(self, visitor: Visitor, deed: str) -> None:
        people, stage, who, at = self.core.people, visitor.stage, visitor.id, self._date
        match deed:
            case "start":
                visitor.started = True
                people.start(who, stage.bot, f"{self._random.choice(stage.codes)}-{self.done}", at=at)
            case "say":
                people.say(who, stage.bot, "hello", at=at)
            case "block":
                people.block(who, stage.bot, at=at)
            case "join" | "ask":
                getattr(people, deed)(who, stage.chat, self._random.choice([None, *stage.links]), at=at)
            case "leave":
                people.leave(who, stage.chat, at=at)
            case "decline":
                people.decline(who, stage.chat)
            case _:
                getattr(people, deed)(who, stage.chat, stage.admin, at=at)
