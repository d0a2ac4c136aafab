"""A TCP proxy that makes the way to the database longer.

`python -m benchmarks.proxy PORT TARGET_PORT DELAY_MS` holds back for so long whatever goes to the target; the way back is free.
"""

import asyncio
import sys
from collections import deque
from typing import cast

from shared.local.ports import LOOPBACK


class Side(asyncio.Protocol):
    """One of the two connections; what it receives is sent on by the other."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._held: deque[bytes] = deque()
        self._transport: asyncio.Transport | None = None
        self.other: Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop. Every delay is the same, so that what came first goes first."""
        self._held.append(data)
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._pass_on)
        else:
            self._pass_on()

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the event loop."""
        if self.other is not None:
            self.other.close()

    def send(self, data: bytes) -> None:
        """Send at once."""
        assert self._transport is not None, "it is connected"
        self._transport.write(data)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _pass_on(self) -> None:
        if self.other is not None:
            self.other.send(self._held.popleft())


class Inlet(Side):
    """The side of a client; it makes the connection to the target."""

    def __init__(self, target_port: int, delay_s: float) -> None:
        super().__init__(delay_s)
        self._target_port = target_port
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop. Nothing is read before there is somewhere to send it."""
        super().connection_made(transport)
        cast(asyncio.Transport, transport).pause_reading()
        self._connecting = asyncio.create_task(self._connect(cast(asyncio.Transport, transport)))

    async def _connect(self, transport: asyncio.Transport) -> None:
        _, self.other = await asyncio.get_running_loop().create_connection(lambda: Side(0), LOOPBACK, self._target_port)
        self.other.other = self
        transport.resume_reading()


async def main(port: int, target_port: int, delay_ms: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Inlet(target_port, delay_ms / 1e3), LOOPBACK, port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
