"""The intake: accepts a transfer command and answers with its outcome."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy import Engine

from services.gateway.answers import ApiError, Code, invalid
from services.gateway.batches import Batch
from services.gateway.outcomes import Waiters, Waker
from shared.db import commands
from shared.db.commands import NewCommand, Standing
from shared.db.connect import raw, reading
from shared.failpoints import failpoint
from shared.messages import OUTBOX_CHANNEL, Outcome, State

T = TypeVar("T")

#: Commands accepted in one commit.
BATCH_COMMANDS_MAX: Final = 100

#: Requests of one process that may wait for an outcome at the same time.
WAITING_MAX: Final = 10_000

#: A command found taken at the deadline is looked at again in steps of this, since its worker may die and leave it free.
STEP_S: Final = 1.0

#: How many such steps there are. The limits of a ledger's transaction end any before.
STEPS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Pending:
    """The command is accepted and goes on by itself; only a request that can ask again, by its Idempotency-Key, is told so."""

    command: UUID


class Intake:
    """Accepts commands for one gateway process."""

    def __init__(self, db: Engine, executor: ThreadPoolExecutor, waiters: Waiters, waker: Waker, *, deadline_s: float) -> None:
        self._db = db
        self._executor = executor
        self._waiters = waiters
        self._waker = waker
        self._deadline_s = deadline_s
        self._accept = Batch(self._add, executor, items_max=BATCH_COMMANDS_MAX)
        self._waiting = 0

    async def submit(self, command: NewCommand) -> tuple[UUID, Outcome | Pending]:
        """Accept the command, or join the one it repeats, and wait for the outcome.

        1. Register for the outcome, then commit the command with its wake-up; many requests share a commit.
        2. A command that met another one is that one: same Idempotency-Key and same request, or an equal request still unfinished.
        3. Wait. At the deadline a request without a key withdraws the command if nobody has taken it, and waits on if somebody has.

        Raises:
            ApiError: `busy` when the command was withdrawn, nothing has moved or will; `invalid` when the key belongs to another request.
            one of `connect.AWAY`: whether the command was accepted is unknown.
        """
        if self._waiting >= WAITING_MAX:
            raise busy()
        self._waiting += 1
        try:
            for _ in range(commands.JOIN_TRIES_MAX):
                with self._waiters.register(command.id) as future:
                    met = await self._accept(command)
                    if met is None:
                        self._waker.poke(OUTBOX_CHANNEL)
                        failpoint("gateway.accepted")
                        return command.id, await self._wait(command, command, future)
                    if isinstance(met, Standing):
                        return await self._join(command, met)
            raise busy()
        finally:
            self._waiting -= 1

    async def _join(self, command: NewCommand, met: Standing) -> tuple[UUID, Outcome | Pending]:
        if not command.same_request(met.command):
            raise invalid("Idempotency-Key", "The key was used for another request.")
        if met.outcome is not None:
            return met.command.id, _final(met.outcome)
        with self._waiters.register(met.command.id) as future:
            await self._refresh(met.command.id)
            return met.command.id, await self._wait(command, met.command, future)

    async def _wait(self, mine: NewCommand, command: NewCommand, future: asyncio.Future[Outcome]) -> Outcome | Pending:
        for step in range(STEPS_MAX):
            done, _ = await asyncio.wait({future}, timeout=STEP_S if step else self._deadline_s)
            if done:
                failpoint("gateway.answering")
                return _final(future.result())
            if mine.idempotency_key is not None:
                await self._refresh(command.id)
                return _final(future.result()) if future.done() else Pending(command.id)
            if command.idempotency_key is None and await self._run(self._withdraw, command.id):
                raise busy()
            await self._refresh(command.id)
        raise ApiError(Code.DB, "The outcome is not known yet; transfer/list will show it.")

    async def _refresh(self, command: UUID) -> None:
        """Read the outcome, for the case that it was announced when nobody here was registered or listening."""
        self._waiters.resolve(await self._run(self._get_outcomes, command))

    async def _run(self, call: Callable[[UUID], T], command: UUID) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, command)

    def _add(self, batch: Sequence[NewCommand]) -> list[Standing | bool | None]:
        """For each command None when it was accepted, the command it met, or False when that one is gone and it may try again."""
        with reading(self._db) as tx:
            added = commands.add(raw(tx), batch)
            return [None if c.id in added else commands.find(raw(tx), c) or False for c in batch]

    def _withdraw(self, command: UUID) -> bool:
        with reading(self._db) as tx:
            return commands.withdraw(raw(tx), command)

    def _get_outcomes(self, command: UUID) -> list[tuple[UUID, Outcome]]:
        with reading(self._db) as tx:
            return commands.get_outcomes(raw(tx), [command])


def busy() -> ApiError:
    """Nothing has moved and nothing will."""
    return ApiError(Code.BUSY, "The transfer was not carried out in time and has been withdrawn. Try again.")


def _final(outcome: Outcome) -> Outcome:
    if outcome.state is State.WITHDRAWN:
        raise busy()
    return outcome
