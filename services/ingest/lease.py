"""The right of this process to speak for its bots, and the sockets that nobody gets a byte through without it.

An auth key that is used from two places at once is destroyed by Telegram. A lease in the database fences what is written there, not what is
sent to Telegram: a process that was stopped goes on in the middle of whatever it was sending. So the deadline is known here, by a clock
that goes on while process or machine are stopped, and is looked at right before the kernel takes the bytes.
"""

import asyncio
import socket
import time
from typing import Any, Final
from uuid import UUID

from telethon.network.connection import ConnectionTcpFull


def clock() -> float:
    """Seconds since the machine's start, those it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseOver(ConnectionAbortedError):
    """This process may not speak for its bots any more."""


class Lease:
    """Until when the listener may speak for the sessions it holds. It begins as one that is over."""

    def __init__(self, listener: UUID) -> None:
        self.listener: Final = listener
        self._deadline = float("-inf")

    def extend(self, asked_at: float, seconds: float) -> None:
        """The database has granted so many seconds to a request that was sent at `asked_at`, by `clock`."""
        self._deadline = asked_at + seconds

    @property
    def left_s(self) -> float:
        """Seconds left; not above 0 when it is over."""
        return self._deadline - clock()

    @property
    def over(self) -> bool:
        """Whether nothing may be sent any more."""
        return clock() >= self._deadline


class GuardedSocket(socket.socket):
    """A TCP socket that sends nothing once the lease is over, whoever writes to it and whenever that was asked for."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease, family: int) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._lease = lease

    def send(self, *arguments: Any) -> int:
        """Raises LeaseOver instead, once it is."""
        self._check()
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        """Raises LeaseOver instead, once it is."""
        self._check()
        return super().sendmsg(*arguments)

    def connect(self, address: Any) -> None:
        """Raises LeaseOver instead, once it is."""
        self._check()
        super().connect(address)

    def _check(self) -> None:
        if self._lease.over:
            raise LeaseOver("the lease is over")


def guarded_by(lease: Lease) -> type[Any]:
    """Telethon's connection on guarded sockets."""

    class GuardedConnection(ConnectionTcpFull):  # type: ignore[misc]
        async def _connect(self, timeout: float | None = None, ssl: None = None) -> None:
            """As Telethon does it, but for the socket."""
            assert ssl is None, "Telegram's TCP transports have no TLS"
            guarded = GuardedSocket(lease, socket.AF_INET6 if ":" in self._ip else socket.AF_INET)
            guarded.setblocking(False)
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.get_running_loop().sock_connect(guarded, (self._ip, self._port))
                    self._reader, self._writer = await asyncio.open_connection(sock=guarded)
            except BaseException:
                guarded.close()
                raise
            self._codec = self.packet_codec(self)
            self._init_conn()
            await self._writer.drain()

    return GuardedConnection
