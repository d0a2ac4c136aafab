"""The clients: transfers at a fixed rate whatever becomes of them, each attempt and its answer written to the clients' own file."""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, TextIO
from urllib.parse import urlencode

from tests.chaos.cast import Cast, Thing
from tests.chaos.records import Attempt, Said, write_line
from tests.world import Account

#: A client gives an attempt up after this.
ANSWER_S: Final = 20.0

#: A client that has a key asks again after the first, then after twice as long each time up to the second, for as long as the third says.
REPEAT_S: Final = 0.3
REPEAT_S_MAX: Final = 3.0
PATIENCE_S: Final = 60.0

#: How long the clients still wait for their answers when no new requests are made.
LAST_ANSWERS_S: Final = 25.0

SHARE_WITH_KEY: Final = 0.6
SHARE_ASKED_AGAIN: Final = 0.1  # of those with a key, after the final answer
SHARE_WITHOUT_LEADS: Final = 0.05
SHARE_HOPELESS: Final = 0.06  # to an account that may not receive, or from one that has nothing to give


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants, drawn before anything is sent."""

    number: int
    thing: Thing
    sender: Account
    recipient: Account
    leads: int
    key: str | None
    gateway: int
    asks_again: bool


@dataclass(slots=True)
class Load:
    """Clients in an event loop of their own, in a thread."""

    cast: Cast
    ports: Sequence[int]
    random: Random
    file: Path
    rate: float
    said: Counter[Said] = field(default_factory=Counter)
    sent: int = 0
    began: float = 0.0
    offered_s: float = 0.0
    _owners: dict[int, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _end: Future[None] = field(default_factory=Future)

    def start(self) -> None:
        """Begin to ask."""
        self.began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="clients")
        self._thread.start()

    def stop_asking(self) -> None:
        """No new requests; those made are still waited for."""
        if not self._stop.is_set():
            self.offered_s = time.monotonic() - self.began
            self._stop.set()

    def finish(self) -> None:
        """Wait until every client has its answer, or has given up."""
        if self._thread is not None:
            self._thread.join()
            self._end.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._ask())
        except BaseException as error:  # noqa: BLE001  # it belongs to the thread that waits
            self._end.set_exception(error)
        else:
            self._end.set_result(None)

    async def _ask(self) -> None:
        """Send each request at its time, however slow the answers are: those who ask do not know of each other."""
        tasks: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        with self.file.open("w") as file:
            while not self._stop.is_set():
                wish = self._wish(self.sent)
                self.sent += 1
                task = asyncio.create_task(self._carry_out(wish, file))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += self.random.expovariate(self.rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            if tasks:
                _, late = await asyncio.wait(set(tasks), timeout=LAST_ANSWERS_S)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    def _wish(self, number: int) -> Wish:
        """What to ask for depends on the seed, and on whom the clients think the thing's owner."""
        random = self.random
        thing = random.choice(self.cast.things)
        side = self._owners.get(self.cast.things.index(thing), 0)
        sender, recipient = thing.homes[side], thing.homes[1 - side]
        if random.random() < SHARE_HOPELESS:
            if random.random() < 1 / 3:
                sender, recipient = recipient, sender
            else:
                recipient = random.choice([*self.cast.unpaid, *(self.cast.full if thing.campaigns else ())])
        keyed = random.random() < SHARE_WITH_KEY
        return Wish(
            number=number,
            thing=thing,
            sender=sender,
            recipient=recipient,
            leads=int(random.random() >= SHARE_WITHOUT_LEADS),
            key=f"key-{number}" if keyed else None,
            gateway=random.randrange(len(self.ports)),
            asks_again=keyed and random.random() < SHARE_ASKED_AGAIN,
        )

    async def _carry_out(self, wish: Wish, file: TextIO) -> None:
        """One client, to its end.

        1. Without a key: one attempt, whatever comes of it.
        2. With one: repeat at the other gateway and in the other form until the answer is final.
        3. Some ask once more, to see the same bytes.
        """
        give_up = time.monotonic() + PATIENCE_S
        tries = 0
        while True:
            attempt = await self._attempt(wish, (wish.gateway + tries) % len(self.ports), form=tries % 2 == 1, file=file)
            tries += 1
            final = attempt.said in {Said.OK, Said.REFUSED, Said.FORBIDDEN}
            if wish.key is None or final or time.monotonic() > give_up:
                break
            await asyncio.sleep(min(REPEAT_S_MAX, REPEAT_S * 2 ** (tries - 1)))
        self._learn(wish, attempt.said)
        if wish.asks_again and final:
            await asyncio.sleep(REPEAT_S)
            await self._attempt(wish, (wish.gateway + tries) % len(self.ports), form=tries % 2 == 1, file=file)

    def _learn(self, wish: Wish, said: Said) -> None:
        """A thing moved, or it was not where the clients thought. Only what it means for the next wish; the judge has the file."""
        number = self.cast.things.index(wish.thing)
        if said is Said.OK and wish.recipient in wish.thing.homes:
            self._owners[number] = wish.thing.homes.index(wish.recipient)
        elif said is Said.REFUSED and wish.recipient in wish.thing.homes:
            # Mostly because the other has it; where it is a full account, the next wish fails and turns back.
            self._owners[number] = wish.thing.homes.index(wish.recipient)

    async def _attempt(self, wish: Wish, gateway: int, *, form: bool, file: TextIO) -> Attempt:
        fields = {wish.thing.kind: wish.thing.id, "token": wish.recipient.token, "leads": wish.leads}
        headers = {
            "Authorization": f"Bearer {wish.sender.key}",
            "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
        }
        if wish.key is not None:
            headers["Idempotency-Key"] = wish.key
        body = (urlencode(fields) if form else json.dumps(fields)).encode()
        sent = time.time()
        status, answer, transfer = 0, "", None
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            async with asyncio.timeout(ANSWER_S):
                status, answer, transfer = await post(self.ports[gateway], f"/api/transfer/{wish.thing.kind}.json", headers, body)
        attempt = Attempt(
            request=wish.number,
            key=wish.key,
            sender=wish.sender.id,
            kind=wish.thing.kind,
            object=wish.thing.id,
            recipient=wish.recipient.id,
            leads=wish.leads,
            gateway=gateway,
            form=form,
            sent=sent,
            ended=time.time(),
            status=status,
            body=answer,
            transfer=transfer,
        )
        file.write(write_line(attempt))
        self.said[attempt.said] += 1
        return attempt


async def post(port: int, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, str | None]:
    """One POST on a connection of its own: status, body, and the transfer's id.

    Raises:
        OSError, EOFError: the connection broke before the answer was complete.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        head, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        got = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        answer = await reader.readexactly(int(got["content-length"]))
        return int(head.split()[1]), answer.decode(), got.get("gatepost-transfer")
    finally:
        writer.close()
