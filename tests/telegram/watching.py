"""A naive client: stock Telethon with one handler that writes down what it is given."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from telethon import events

from tests.telegram.client import address_of, connect, new_client
from tests.telegram.core import Core
from tests.telegram.naming import event_key

WAIT_S: Final = 15.0


class Watching:
    """A connected client, and what its handler has seen."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.updates: list[Any] = []
        self._came = asyncio.Event()
        client.add_event_handler(self._see, events.Raw())

    async def _see(self, update: Any) -> None:
        self.updates.append(update)
        self._came.set()

    @property
    def keys(self) -> list[str]:
        """The names of the events it has seen, in the order in which it saw them."""
        return [key for update in self.updates if (key := event_key(update)) is not None]

    @property
    def kinds(self) -> list[str]:
        return [type(update).__name__ for update in self.updates]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it has seen enough."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError as error:
            raise AssertionError(f"it has seen only {self.keys}") from error

    async def has(self, keys: list[str]) -> None:
        """Wait until it has seen all of these, in any order."""
        await self.until(lambda: set(keys) <= set(self.keys))

    async def settle(self, core: Core, bot_id: int) -> None:
        """Wait until everything pushed so far has been seen, or never will be: until a mark pushed after it has been."""
        marks = self.kinds.count("UpdateConfig")
        core.courier.mark(core.world.bots[bot_id])
        await self.until(lambda: self.kinds.count("UpdateConfig") > marks)


@asynccontextmanager
async def watching(core: Core, token: str | None, session: Any = None, **options: Any) -> AsyncIterator[Watching]:
    """A naive client, logged in."""
    client = new_client(session, **options)
    watcher = Watching(client)
    try:
        await connect(client, address_of(core), token=token)
        yield watcher
    finally:
        await client.disconnect()
