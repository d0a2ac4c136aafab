"""Calls that are made together: what many requests ask of the database at the same moment goes in one statement."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(Generic[Item, Result]):
    """Collects single calls while the last batch is under way, then makes them all at once.

    An idle batch makes a call at once, so nobody waits for company. `call` runs in the executor, never twice at a time;
    it gets the items in the order they came and returns a result for each.
    """

    def __init__(self, call: Callable[[Sequence[Item]], Sequence[Result]], executor: Executor, *, items_max: int) -> None:
        self._call = call
        self._executor = executor
        self._items_max = items_max
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Have `item` go with the next batch.

        Raises:
            whatever the call raised; every item of a failed batch gets the same error.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._items_max], self._waiting[self._items_max :]
                await self._call_with(batch)
        finally:
            self._running = None

    async def _call_with(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._call, [item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  # it belongs to the requests, which raise it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
