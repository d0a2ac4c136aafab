"""Which bots this listener has: as many as is its share, for as long as its lease lasts."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from services.ingest.database import Database
from services.ingest.lease import Lease, LeaseOver, clock
from services.ingest.supervise import Live, Means, retire, tend, undisturbed
from shared.db import sessions
from shared.db.connect import EXPECTED
from shared.db.sessions import Overview, Session
from shared.domain.shares import fair_share

#: Sessions taken or handed over in one turn.
TURN_SESSIONS_MAX: Final = 200

#: Seconds between two looks at how things stand, and at least between two however often it is poked.
LOOK_S: Final = 1.0
BREATH_S: Final = 0.1

#: Seconds between two tries while the database is away.
AWAY_S: Final = 0.5

#: Seconds after which a bot that is still there is dropped again: what it was waiting for may have swallowed its cancellation.
DROP_AGAIN_S: Final = 1.0

log = structlog.get_logger("listener")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A lease in seconds: how long it lasts, how often it is renewed, and how long others wait after its end before they take over."""

    lease_s: float = 30.0
    renew_s: float = 5.0
    take_over_s: float = 5.0
    capacity: int = 2_000


@dataclass(frozen=True, slots=True)
class _Tended:
    epoch: int
    retiring: bool
    task: "asyncio.Task[None]"


class Leases:
    """Leases sessions and has each tended. `live` has the bots that are connected."""

    def __init__(self, means: Means, renewals: Database, terms: Terms, *, name: str) -> None:
        self._means = means
        self._renewals = renewals
        self._terms = terms
        self._name = name
        self._tended: dict[int, _Tended] = {}
        self._poked = asyncio.Event()

    @property
    def live(self) -> dict[int, Live]:
        """The bots that are connected."""
        return self._means.live

    def poke(self, bots: Sequence[int] = ()) -> None:
        """Look soon: a bot may be new, or gone."""
        if not bots or any(bot not in self._means.live for bot in bots):
            self._poked.set()

    async def run(self) -> None:
        """Hold leases until cancelled, through any number of losses; then hand all sessions back.

        1. Begin without any session.
        2. Renew the lease, and have the fair share of sessions tended.
        3. When the lease is over, drop everything; nothing was sent since its deadline.
        """
        try:
            while True:
                await self._begin()
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._renew())
                        tasks.create_task(self._share())
                except* LeaseOver:
                    log.error("lease_over", bots=len(self._tended))
                finally:
                    await self._drop(list(self._tended))
        finally:
            with suppress(*EXPECTED):
                await self._renewals.run(sessions.resign, self._lease.listener)

    @property
    def _lease(self) -> Lease:
        return self._means.lease

    async def _begin(self) -> None:
        while True:
            asked_at = clock()
            try:
                await self._renewals.run(
                    sessions.register,
                    self._lease.listener,
                    name=self._name,
                    capacity=self._terms.capacity,
                    lease_s=self._terms.lease_s,
                )
            except EXPECTED as error:
                log.warning("database_away", error=type(error).__name__)
                await asyncio.sleep(AWAY_S)
            else:
                self._lease.extend(asked_at, self._terms.lease_s)
                return

    async def _renew(self) -> None:
        """Renew the lease in time, again and again.

        Raises:
            LeaseOver: the database was away too long, or this process was stopped.
        """
        wait_s = self._terms.renew_s
        while True:
            await asyncio.sleep(wait_s)
            asked_at = clock()
            try:
                async with asyncio.timeout(self._lease.left_s):
                    granted = await self._renewals.run(sessions.renew, self._lease.listener, lease_s=self._terms.lease_s)
            except (*EXPECTED, TimeoutError) as error:
                log.warning("lease_not_renewed", left_s=round(self._lease.left_s, 1), error=type(error).__name__)
                granted, wait_s = not self._lease.over, min(AWAY_S, self._terms.renew_s)
            else:
                if granted:
                    self._lease.extend(asked_at, self._terms.lease_s)
                wait_s = self._terms.renew_s
            if not granted or self._lease.over:
                raise LeaseOver("not renewed in time")

    async def _share(self) -> None:
        """Look again and again how things stand, and do what follows."""
        while True:
            self._poked.clear()
            try:
                await self._turn(await self._means.db.run(sessions.look, self._lease.listener))
            except EXPECTED as error:
                log.warning("sessions_not_seen", error=type(error).__name__)
                await asyncio.sleep(AWAY_S)
            await asyncio.sleep(BREATH_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._poked.wait()

    async def _turn(self, overview: Overview) -> None:
        """Do what follows from how things stand.

        1. Drop what is not ours any more, give back what nobody tends, begin to log out what was disconnected.
        2. Hand over what is more than our share: disconnect first, then release.
        3. Take what is free, up to our share.
        """
        held = overview.held
        lost = [bot for bot, tended in self._tended.items() if held.get(bot, (None,))[0] != tended.epoch]
        await self._drop(lost)
        gone = [bot for bot, (_, disconnected) in held.items() if disconnected and bot in self._tended and not self._tended[bot].retiring]
        untended = [bot for bot in held if bot not in self._tended]
        share = fair_share(self._terms.capacity, overview.capacities or [self._terms.capacity], overview.sessions)
        kept = [bot for bot in self._tended if bot not in gone]
        excess = kept[share:][:TURN_SESSIONS_MAX]
        await self._give_back([*untended, *gone, *excess])
        if excess:
            log.info("sessions_handed_over", bots=len(excess), share=share)
        await self._take(min(share - len(self._tended), TURN_SESSIONS_MAX))

    async def _give_back(self, bots: Sequence[int]) -> None:
        if bots:
            await self._drop(bots)
            await self._means.db.run(sessions.release, self._lease.listener, bots)

    async def _take(self, room: int) -> None:
        if room <= 0:
            return
        leased = await self._means.db.run(sessions.lease, self._lease.listener, take_over_s=self._terms.take_over_s, limit=room)
        for row in leased:
            self._tend(row, retire(self._means, row) if row.disconnected else tend(self._means, row))
        if leased:
            log.info("sessions_leased", bots=len(leased))
        if len(leased) == TURN_SESSIONS_MAX:
            self._poked.set()  # there may be more

    def _tend(self, row: Session, life: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(life, name=f"bot {row.bot}")
        tended = _Tended(row.epoch, row.disconnected, task)
        self._tended[row.bot] = tended
        task.add_done_callback(lambda _: self._ended(row.bot, tended))

    def _ended(self, bot: int, tended: _Tended) -> None:
        if self._tended.get(bot) is tended:
            del self._tended[bot]
        if not tended.task.cancelled() and (error := tended.task.exception()) is not None and not isinstance(error, LeaseOver):
            log.error("bot_let_go", bot=bot, exc_info=error)
        self._poked.set()

    async def _drop(self, bots: Iterable[int]) -> None:
        """Disconnect bots, and wait until they are, also when the lease ends meanwhile."""
        await undisturbed(_end([self._tended[bot].task for bot in bots if bot in self._tended]))


async def _end(tasks: Iterable["asyncio.Task[None]"]) -> None:
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=DROP_AGAIN_S)
