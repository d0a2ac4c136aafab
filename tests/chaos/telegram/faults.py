"""What goes wrong, in an order and at times drawn from the seed, and the hands that carry it out."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from shared.db.connect import Raw
from shared.failpoints import FailPoint
from tests.chaos.telegram import audit
from tests.chaos.telegram.evidence import Freeze
from tests.chaos.telegram.stage import Slot, Stage, ports_to
from tests.stack import eventually

#: Where a listener is killed: around the commit of what came, and around the record of what was sent.
POINTS: Final[Sequence[FailPoint]] = ("listener.committing", "listener.committed", "sending.accepted")

#: A point must be reached within this.
REACHED_S: Final = 30.0

#: A stopped listener's bots must be somebody else's within this.
TAKEN_OVER_S: Final = 30.0

#: How long it stays stopped after that, and how long it has to notice afterwards.
STILL_STOPPED_S: Final = 0.5
NOTICES_S: Final = 1.0

#: How long the database does not answer: shorter and longer than Telethon waits with a gap (0.5 s).
STALLS_S: Final = (0.3, 0.8, 2.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing, so long after the start."""

    what: str
    at_s: float


@dataclass(slots=True)
class Hands:
    """What they need, and what they did."""

    stage: Stage
    db: Raw
    random: Random
    done: dict[str, int] = field(default_factory=dict)
    freezes: list[Freeze] = field(default_factory=list)

    def carry_out(self, fault: str) -> None:
        """Do it, and count it."""
        point = next((point for point in POINTS if fault == kill_at(point)), None)
        if point is not None:
            self._kill_at(point)
        else:
            DEEDS[fault](self)
        self.done[fault] = self.done.get(fault, 0) + 1

    def _holder(self) -> Slot:
        """The listener with the most bots, which is connected for each of them."""
        found: list[Slot] = []

        def is_connected() -> bool:
            held = self.stage.holders(self.db)
            name = max(sorted(held), key=lambda slot: len(held[slot]), default=None)
            found[:] = [slot for slot in self.stage.slots if slot.name == name]
            return bool(found) and len(ports_to(found[0].process.pid, self.stage.server.ports["port"])) >= len(held[found[0].name])

        eventually(is_connected, "somebody is connected for its bots", wait_s=TAKEN_OVER_S)
        return found[0]

    def _kill_at(self, point: FailPoint) -> None:
        """Kill the first listener that comes there."""
        stacks = [slot.stack for slot in self.stage.of("listener")]

        def reached() -> list[Path]:
            return [file for stack in stacks if (file := stack.failpoints / f"{point}.reached").exists()]

        for stack in stacks:
            stack.arm(point)
        try:
            eventually(reached, f"{point} is reached", wait_s=REACHED_S)
        finally:
            for stack in stacks:
                stack.disarm(point)
        os.kill(int(reached()[0].read_text()), signal.SIGKILL)
        for stack in stacks:
            stack.let_go(point)
        self.stage.kill_control()

    def kill(self) -> None:
        """kill -9 at any moment."""
        self._holder().process.send(signal.SIGKILL)
        self.stage.kill_control()

    def stop_politely(self) -> None:
        """Ask it to end, as an update does; what it had is handed over."""
        slot = self._holder()
        process, slot.asked_to_end = slot.process, True
        process.send(signal.SIGTERM)
        assert process.popen.wait(TAKEN_OVER_S) == 0, f"{slot.name} did not end well: {process.log}"

    def freeze(self) -> None:
        """Stop a listener until another has its bots, and let it go on. The server hangs up on it meanwhile."""
        self._freeze(keep_connections=False)

    def freeze_connected(self) -> None:
        """The same, and the server never hangs up: what keeps the old owner quiet is only itself."""
        self._freeze(keep_connections=True)

    def _freeze(self, *, keep_connections: bool) -> None:
        slot = self._holder()
        process, mine = slot.process, self.stage.holders(self.db)[slot.name]
        self.stage.server.nasty(keeps_connections=keep_connections, one_connection_per_key=not keep_connections)
        process.send(signal.SIGSTOP)
        stopped, ports = time.time(), ports_to(process.pid, self.stage.server.ports["port"])

        def others_have_them() -> bool:
            held = self.stage.holders(self.db)
            return mine <= {bot for name, bots in held.items() if name != slot.name for bot in bots}

        try:
            taken_over = wait_for(others_have_them, TAKEN_OVER_S)
            time.sleep(STILL_STOPPED_S)
            deadline = audit.deadline(self.db, slot.name)
        finally:
            continued = time.time()
            process.send(signal.SIGCONT)
        time.sleep(NOTICES_S)
        self.freezes.append(
            Freeze(slot=slot.name, ports=ports, stopped=stopped, deadline=deadline, continued=continued, taken_over=taken_over)
        )
        self.stage.server.nasty(keeps_connections=False)

    def drop(self) -> None:
        """Every connection is reset."""
        self.stage.server.drop()

    def silence(self) -> None:
        """A bot's connection stays open, and nothing comes or goes on it any more."""
        self.stage.server.silence(bot_id=self.random.choice(self.stage.watches).tg)

    def kill_keys(self) -> None:
        """A bot's key is logged out; it logs in anew, and misses nothing."""
        self.stage.server.kill_keys(bot_id=self.random.choice(self.stage.watches).tg)

    def stall(self) -> None:
        """The database does not answer for a while."""
        self.stage.proxy.send_signal(signal.SIGSTOP)
        time.sleep(self.random.choice(STALLS_S))
        self.stage.proxy.send_signal(signal.SIGCONT)

    def kill_ingest(self) -> None:
        """kill -9 of an ingest worker."""
        self.random.choice(self.stage.of("ingest")).process.send(signal.SIGKILL)


DEEDS: Final[Mapping[str, Callable[[Hands], None]]] = {
    "listener killed": Hands.kill,
    "listener ended": Hands.stop_politely,
    "listener stopped, and back": Hands.freeze,
    "listener stopped, connected, and back": Hands.freeze_connected,
    "connections dropped": Hands.drop,
    "connection silent": Hands.silence,
    "key logged out": Hands.kill_keys,
    "database stalled": Hands.stall,
    "ingest worker killed": Hands.kill_ingest,
}


def kill_at(point: FailPoint) -> str:
    """The name of the deed."""
    return f"listener killed at {point}"


def plan(random: Random, wanted: Mapping[str, int], seconds: float) -> list[Fault]:
    """Each so many times, in an order drawn from `random`, one in each of as many equal parts of the time."""
    order = [what for what, times in wanted.items() for _ in range(times)]
    random.shuffle(order)
    return [Fault(what, (part + random.random()) * seconds / len(order)) for part, what in enumerate(order)]


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came to hold in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
