"""The database from inside an event loop: one thread with one connection, renewed when it is lost."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, Self, TypeVar

from shared.db.connect import SESSION_LIMITS, Raw, connect

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """Runs functions of `shared.db`, which take a connection first, one after another in a thread of its own."""

    def __init__(self, url: str, *, name: str, limits: Mapping[str, int | str] = SESSION_LIMITS) -> None:
        self._url = url
        self._name = name
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: Raw | None = None

    async def run(self, call: Callable[Concatenate[Raw, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns. It runs to its end even if the caller is cancelled.

        Raises:
            psycopg.OperationalError: the database is away; and whatever the function raises.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._call(call, *args, **kwargs))

    def _call(self, call: Callable[Concatenate[Raw, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url, name=self._name, limits=self._limits)
        return call(self._connection, *args, **kwargs)

    async def close(self) -> None:
        """Close the connection, after what is under way."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
