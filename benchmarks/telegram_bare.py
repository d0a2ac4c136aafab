"""The ceiling for the listener: as many stock Telethon clients, with a handler that only counts.

`python -m benchmarks.telegram_bare PORT FILE` connects them with the keys of the file, says that it is ready, reads how many updates will
come, and says when the last of them was handled, by the clock that all processes of a machine share.
"""

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import Any, Final

from telethon import events
from telethon.crypto import AuthKey
from telethon.sessions import MemorySession

from services.ingest.listener import OBJECTS_BETWEEN_LOOKS
from tests.telegram.client import Address, connect, new_client

#: Connecting so many at once keeps each within its timeout.
TOGETHER: Final = 50


class Counter:
    """Of all clients together."""

    def __init__(self) -> None:
        self.expected = sys.maxsize
        self.done = asyncio.Event()
        self._count = 0

    async def note(self, _update: Any) -> None:
        """The handler."""
        self._count += 1
        if self._count >= self.expected:
            self.done.set()

    def expect(self, number: int) -> None:
        """From now on count up to so many."""
        self._count, self.expected = 0, number


async def main(port: str, file: str) -> None:
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)  # as the listener does; a ceiling is to be as high as may be
    counter = Counter()
    keys = [bytes.fromhex(line) for line in Path(file).read_text().split()]
    clients = []
    for start in range(0, len(keys), TOGETHER):
        clients += await asyncio.gather(*(_client(key, Address(int(port)), counter) for key in keys[start : start + TOGETHER]))
    loop = asyncio.get_running_loop()
    while True:
        print("ready", flush=True)
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        counter.expect(int(line))
        print("counting", flush=True)
        await counter.done.wait()
        counter.done.clear()
        print(time.monotonic(), flush=True)


async def _client(key: bytes, address: Address, counter: Counter) -> Any:
    session = MemorySession()
    session.auth_key = AuthKey(key)
    session.set_dc(address.dc, address.host, address.port)
    client = new_client(session, sequential_updates=True)
    client.add_event_handler(counter.note, events.Raw())
    return await connect(client, address)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
