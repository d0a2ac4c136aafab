"""Connecting bots, the gateway's half: a request is left for a listener, and answered with its outcome."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

import uuid_utils.compat as uuids
from sqlalchemy import Engine

from services.gateway.answers import ApiError, Code
from services.gateway.intake import STEP_S, STEPS_MAX, WAITING_MAX
from services.gateway.outcomes import Waiters, Waker
from shared.db import bot_requests
from shared.db.bot_requests import Connected
from shared.db.connect import Raw, raw, reading
from shared.messages import LISTENER_CHANNEL, Outcome, State
from shared.sealing import Sealer

P = ParamSpec("P")
T = TypeVar("T")


class Connections:
    """Has bots connected, for one gateway process."""

    def __init__(
        self, db: Engine, executor: ThreadPoolExecutor, waiters: Waiters, waker: Waker, sealer: Sealer, *, deadline_s: float
    ) -> None:
        self._db = db
        self._executor = executor
        self._waiters = waiters
        self._waker = waker
        self._sealer = sealer
        self._deadline_s = deadline_s
        self._waiting = 0

    async def add(self, account: int, token: str) -> Connected | Outcome:
        """Have a listener connect the bot with this token: the bot, or the refusal.

        1. Register for the outcome, then commit the request with the token sealed, then poke the listeners.
        2. Wait. At the deadline the request is withdrawn if no listener has ever taken it, else waited for: another may take it when the
           first has died over it.

        Raises:
            ApiError: `busy` when it was withdrawn, or the account has too many unanswered: nothing has been connected or will be.
            one of `connect.AWAY`: whether the request was accepted is unknown.
        """
        if self._waiting >= WAITING_MAX:
            raise _busy()
        request = uuids.uuid7()
        sealed = self._sealer.seal(token.encode(), bot_requests.token_place(request))
        self._waiting += 1
        try:
            with self._waiters.register(request) as future:
                if not await self._run(bot_requests.add, request, account, sealed):
                    raise ApiError(Code.BUSY, f"{bot_requests.UNFINISHED_MAX} bots of yours are being connected already. Try again.")
                self._waker.poke(LISTENER_CHANNEL)
                outcome = await self._wait(request, future)
        finally:
            self._waiting -= 1
        if outcome.state is State.WITHDRAWN:
            raise _busy()
        return await self._run(bot_requests.get_connected, request) if outcome.state is State.DONE else outcome

    async def _wait(self, request: uuids.UUID, future: asyncio.Future[Outcome]) -> Outcome:
        for step in range(STEPS_MAX):
            done, _ = await asyncio.wait({future}, timeout=STEP_S if step else self._deadline_s)
            if done:
                return future.result()
            if await self._run(bot_requests.withdraw, request, left=step == STEPS_MAX - 1):
                raise _busy()
            self._waiters.resolve(await self._run(bot_requests.get_outcomes, [request]))
        raise ApiError(Code.DB, "The outcome is not known yet; bots/list will show it.")

    async def _run(self, call: Callable[Concatenate[Raw, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: self._call(call, *args, **kwargs))

    def _call(self, call: Callable[Concatenate[Raw, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with reading(self._db) as tx:
            return call(raw(tx), *args, **kwargs)


def _busy() -> ApiError:
    """Nothing has been connected and nothing will be."""
    return ApiError(Code.BUSY, "No listener was free to connect the bot in time. Try again.")
