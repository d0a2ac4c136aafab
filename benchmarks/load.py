"""The clients: one process that moves bots to and fro over HTTP, from raw sockets, so that it costs little beside what it measures.

`python -m benchmarks.load FIRST LAST` reads one order a line and answers each with one line. It remembers where it left every bot.
"""

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from time import perf_counter
from typing import Final, cast

import uvloop

from benchmarks import world
from benchmarks.processes import Processes, read_line, say_line
from shared.local.ports import LOOPBACK

#: A request without an answer for so long is a failure of what is measured.
ANSWER_S_MAX: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """So many clients for so long, each sending when it has its answer; with a `rate`, so many requests a second whatever they get."""

    port: int
    clients: int
    seconds: float
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the clients saw. Latencies in milliseconds; those of a rate count from when the request was due."""

    done: int
    rate: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s  p50 {self.p50:.2f} ms  p99 {self.p99:.2f} ms"


class Load:
    """The process of clients, from outside."""

    def __init__(self, processes: Processes, pairs: int, *, first: int = 0) -> None:
        self._process = processes.start("benchmarks.load", str(first), str(pairs))

    def run(self, order: Order) -> Found:
        """Have the clients work.

        Raises:
            RuntimeError: an answer was not ok.
        """
        say_line(self._process, json.dumps(asdict(order)))
        answer = json.loads(read_line(self._process))
        if "failure" in answer:
            raise RuntimeError(f"a transfer was not answered with ok: {answer['failure']}")
        return Found(**answer)


# The process


class Bots:
    """Every pair's bot, and which of the two accounts has it."""

    def __init__(self, pairs: range) -> None:
        self._requests = [(_request(p, world.SENDER, world.RECIPIENT), _request(p, world.RECIPIENT, world.SENDER)) for p in pairs]
        self._away: dict[int, list[bool]] = {}

    def share(self, client: int, clients: int) -> Iterator[int]:
        """The pairs of one client, for ever, by their place in the list."""
        return cycle(range(client, len(self._requests), clients))

    def request(self, port: int, pair: int) -> bytes:
        """The next transfer of the pair's bot."""
        return self._requests[pair][self._state(port)[pair]]

    def moved(self, port: int, pair: int) -> None:
        """The transfer was answered with ok."""
        self._state(port)[pair] = not self._state(port)[pair]

    def _state(self, port: int) -> list[bool]:
        return self._away.setdefault(port, [False] * len(self._requests))


def _request(pair: int, owner: int, other: int) -> bytes:
    body = json.dumps({"bot": world.BOT + pair, "token": world.token(other + pair), "leads": 1})
    return (
        f"POST /api/transfer/bot.json HTTP/1.1\r\nHost: {LOOPBACK}\r\nAuthorization: Bearer {world.credential(owner + pair)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request under way."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._answered: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, answered: Callable[[bytes], None]) -> None:
        """Send, and call `answered` with the body."""
        assert self._transport is not None, "it is connected"
        self._answered = answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length and self._answered is not None:
            self._received = b""
            self._answered(body)

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None, "it is connected"
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        if self._answered is not None and self._received:
            self._answered(f"the connection was lost: {error}".encode())


class Run:
    """One order, carried out."""

    def __init__(self, bots: Bots, order: Order) -> None:
        self._bots = bots
        self._order = order
        self._latencies: list[float] = []
        self._under_way = 0
        self._sent_all = False
        self._failure = ""
        self._ended = asyncio.Event()
        self._until = 0.0
        self._started = 0.0

    async def run(self) -> dict[str, object]:
        """Found, or the first failure."""
        loop = asyncio.get_running_loop()
        connections = [(await loop.create_connection(Connection, LOOPBACK, self._order.port))[1] for _ in range(self._order.clients)]
        self._started = perf_counter()
        self._until = self._started + self._order.seconds
        shares = [self._bots.share(number, len(connections)) for number in range(len(connections))]
        if self._order.rate:
            await self._at_a_rate(deque(zip(connections, shares, strict=True)))
        else:
            for connection, share in zip(connections, shares, strict=True):
                self._go_on(connection, share)
        await asyncio.wait_for(self._ended.wait(), self._order.seconds + ANSWER_S_MAX)
        elapsed = perf_counter() - self._started
        for connection in connections:
            connection.close()
        if self._failure:
            return {"failure": self._failure}
        ordered = sorted(self._latencies)
        return asdict(
            Found(
                done=len(ordered),
                rate=len(ordered) / elapsed,
                p50=ordered[len(ordered) // 2] * 1e3,
                p99=ordered[len(ordered) * 99 // 100] * 1e3,
            )
        )

    def _go_on(self, connection: Connection, share: Iterator[int]) -> None:
        """Send, and again with the answer, until the time is over."""
        if perf_counter() < self._until and not self._failure:
            self._send(connection, next(share), perf_counter(), partial(self._go_on, connection, share))

    async def _at_a_rate(self, free: deque[tuple[Connection, Iterator[int]]]) -> None:
        """Send when it is time; what finds no free connection waits for one, and its latency with it."""
        waiting: deque[float] = deque()

        def next_one() -> None:
            while free and waiting:
                connection, share = free.popleft()
                self._send(connection, next(share), waiting.popleft(), partial(done, connection, share))

        def done(connection: Connection, share: Iterator[int]) -> None:
            free.append((connection, share))
            next_one()

        for number in range(round(self._order.seconds * self._order.rate)):
            due = self._started + number / self._order.rate
            await asyncio.sleep(max(0.0, due - perf_counter()))
            waiting.append(due)
            next_one()
        self._sent_all = True
        if not self._under_way:
            self._ended.set()

    def _send(self, connection: Connection, pair: int, due: float, then: Callable[[], None]) -> None:
        def answered(body: bytes) -> None:
            self._under_way -= 1
            if b'"ok"' in body:
                self._latencies.append(perf_counter() - due)
                self._bots.moved(self._order.port, pair)
            else:
                self._failure = self._failure or body.decode()
            then()
            over = self._sent_all if self._order.rate else perf_counter() >= self._until
            if not self._under_way and (over or self._failure):
                self._ended.set()

        self._under_way += 1
        connection.send(self._bots.request(self._order.port, pair), answered)


async def obey(bots: Bots) -> None:
    """Carry out each order as it comes."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await Run(bots, Order(**json.loads(line))).run()), flush=True)


if __name__ == "__main__":
    uvloop.run(obey(Bots(range(*map(int, sys.argv[1:])))))
