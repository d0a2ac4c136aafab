"""Outcomes on their way back: the commit of a ledger or a listener tells every gateway, and each wakes the requests that wait for it."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

import psycopg
import structlog

from shared.db import bot_requests, commands
from shared.db.connect import connect, connect_async
from shared.messages import OUTCOME_CHANNEL, Outcome, decode_outcomes

RECONNECT_S: Final = 0.2

#: How long the listening connection may be silent before it is asked whether it still lives.
PROBE_S: Final = 5.0

log = structlog.get_logger("gateway")


class Waiters:
    """The requests of this process that wait for an outcome, by command. Register before asking the database, or the answer may slip by."""

    def __init__(self) -> None:
        self._futures: defaultdict[UUID, list[asyncio.Future[Outcome]]] = defaultdict(list)

    @contextlib.contextmanager
    def register(self, command: UUID) -> Iterator[asyncio.Future[Outcome]]:
        """A future that gets the command's outcome."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._futures[command].append(future)
        try:
            yield future
        finally:
            self._futures[command].remove(future)
            if not self._futures[command]:
                del self._futures[command]

    def resolve(self, outcomes: Sequence[tuple[UUID, Outcome]]) -> None:
        """Wake who waits for these."""
        for command, outcome in outcomes:
            for future in self._futures.get(command, ()):
                if not future.done():
                    future.set_result(outcome)

    @property
    def waiting(self) -> list[UUID]:
        """The commands somebody waits for."""
        return list(self._futures)


class Listener:
    """Listens for outcomes for as long as the gateway runs. What was announced while it could not listen is read when it can again."""

    def __init__(self, database_url: str, waiters: Waiters) -> None:
        self._url = database_url
        self._waiters = waiters
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except (psycopg.Error, TimeoutError) as error:
                log.warning("outcome_listener_waits", error=type(error).__name__)
            self.connected.clear()
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with await connect_async(self._url, name="gateway outcomes") as db:
            await db.execute(f"LISTEN {OUTCOME_CHANNEL}")
            await self._catch_up()
            self.connected.set()
            while True:
                async for notification in db.notifies(timeout=PROBE_S):
                    self._hear(notification.payload)
                await asyncio.wait_for(db.execute("SELECT 1"), PROBE_S)

    def _hear(self, payload: str) -> None:
        """Wake who waits. A payload that cannot be read, such as that of a newer ledger, must not deafen this gateway to the others."""
        try:
            self._waiters.resolve(decode_outcomes(payload))
        except (ValueError, TypeError) as error:
            log.warning("outcome_not_understood", error=type(error).__name__)

    async def _catch_up(self) -> None:
        if waiting := self._waiters.waiting:
            self._waiters.resolve(await asyncio.to_thread(self._read, waiting))

    def _read(self, ids: list[UUID]) -> list[tuple[UUID, Outcome]]:
        with connect(self._url, name="gateway outcomes") as db:
            return [*commands.get_outcomes(db, ids), *bot_requests.get_outcomes(db, ids)]


class Waker:
    """Pokes other processes after commits: one NOTIFY at a time, and one more on each channel where something came meanwhile.

    A NOTIFY inside each commit would make all commits wait for each other's flush. A poke that gets lost costs the other's poll interval.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._channels: set[str] = set()
        self._dirty = asyncio.Event()

    def poke(self, channel: str) -> None:
        """Have those who listen there look soon: relays into the outbox, listeners for requests."""
        self._channels.add(channel)
        self._dirty.set()

    async def run(self) -> None:
        """Poke until cancelled."""
        while True:
            try:
                async with await connect_async(self._url, name="gateway waker") as db:
                    await db.execute("SET synchronous_commit = off")
                    while True:
                        await self._dirty.wait()
                        self._dirty.clear()
                        while self._channels:
                            await db.execute(f"NOTIFY {self._channels.pop()}")
            except psycopg.Error as error:
                log.warning("waker_waits", error=type(error).__name__)
                await asyncio.sleep(RECONNECT_S)
