"""Many people who do likely things, drawn from a seed: the demo's visitors, and the load of crash tests and measurements."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final

from tests.telegram.core import Core
from tests.telegram.state import Standing

#: So many things are done before the sockets are waited for.
BREATH_EVENTS: Final = 50

#: What somebody does next, by where they stand, and how likely.
NEWCOMER: Final = {"start": 8, "join": 1, "ask": 1}
STARTED: Final = {"start": 1, "join": 6, "ask": 3, "block": 1}
WAITING: Final = {"approve": 8, "decline": 1, "start": 1}
INSIDE: Final = {"leave": 4, "kick": 1, "ban": 1, "start": 1, "say": 1, "restrict": 1}
BANNED: Final = {"unban": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a crowd meets: a bot, the chat it watches, an admin there, and the codes of the bot's campaigns."""

    bot: int
    chat: int
    admin: int
    codes: list[str]


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
    first_id: int = 10_000_000
    done: int = 0
    running: bool = False
    _random: Random = field(init=False)
    _visitors: list[Visitor] = field(init=False)
    _ids: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._ids = count(self.first_id)
        self._visitors = [self._new() for _ in range(self.people)]

    async def run(self, events: int | None, per_s: float | None) -> int:
        """Let so many things happen, or go on until stopped; so many a second, or as fast as the sockets take them."""
        self.running = True
        began, before = asyncio.get_running_loop().time(), self.done
        while self.running and (events is None or self.done - before < events):
            self.step()
            if per_s:
                ahead = began + (self.done - before) / per_s - asyncio.get_running_loop().time()
                await asyncio.sleep(max(ahead, 0))
            elif self.done % BREATH_EVENTS == 0:
                await self._breathe()
        self.running = False
        return self.done - before

    def step(self) -> str:
        """One thing happens; what."""
        place = self._random.randrange(len(self._visitors))
        visitor = self._visitors[place]
        deed = self._choose(visitor)
        self._do(visitor, deed)
        self.done += 1
        if deed in {"leave", "ban", "kick", "block"} and self._random.random() < 0.5:
            self._visitors[place] = self._new()
        return deed

    def _new(self) -> Visitor:
        return Visitor(next(self._ids), self._random.choice(self.stages))

    def _choose(self, visitor: Visitor) -> str:
        chat = self.core.world.chats[visitor.stage.chat]
        standing = chat.standing(visitor.id)
        if standing is Standing.BANNED:
            likely = BANNED
        elif standing is not Standing.OUT:
            likely = INSIDE
        elif visitor.id in chat.asked:
            likely = WAITING
        else:
            likely = STARTED if visitor.started else NEWCOMER
        return self._random.choices(list(likely), list(likely.values()))[0]

    def _do(self, visitor: Visitor, deed: str) -> None:
        people, stage, who = self.core.people, visitor.stage, visitor.id
        match deed:
            case "start":
                visitor.started = True
                people.start(who, stage.bot, f"{self._random.choice(stage.codes)}-{self.done}")
            case "say":
                people.say(who, stage.bot, "hello")
            case "block":
                people.block(who, stage.bot)
            case "join" | "ask" | "leave":
                getattr(people, deed)(who, stage.chat)
            case "decline":
                people.decline(who, stage.chat)
            case _:
                getattr(people, deed)(who, stage.chat, stage.admin)

    async def _breathe(self) -> None:
        """Wait until the sockets have taken what was written."""
        for stage in self.stages:
            for line in list(self.core.world.bots[stage.bot].lines):
                await line.drain()
        await asyncio.sleep(0)
