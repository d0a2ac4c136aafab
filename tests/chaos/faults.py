"""What goes wrong, when and how often: the schedule, drawn from the seed, and the hands that carry it out."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final

from shared.failpoints import FailPoint
from tests.chaos.stage import Stage

#: A point must be reached within this, also while a service is away.
REACHED_S: Final = 60.0

#: How long a process stands at the point before it is killed: nothing, or long enough for others to go on without it.
LINGER_S: Final = (0.0, 0.0, 0.3, 1.5)

#: How long a process is stopped: shorter and longer than a session may be idle in its transaction (5 s).
STOPPED_S: Final = (0.5, 1.0, 6.0, 1.5, 0.7, 6.0, 1.0, 0.5)

#: A lane leaves the system in peace for so long between two faults, from when its processes work again, however late it is. What is
#: killed at its start each time proves little.
PEACE_S: Final = 1.0

#: How long RabbitMQ is away when it was killed.
AWAY_S: Final = 1.0


class Deed(StrEnum):
    """What is done to a process that stands at a point."""

    KILL = "kill -9"
    STOP = "SIGSTOP"


class Blow(StrEnum):
    """What is done to a service."""

    RABBITMQ_KILLED = "RabbitMQ killed"
    RABBITMQ_RESTARTED = "RabbitMQ restarted"
    RABBITMQ_WIPED = "RabbitMQ wiped"
    POSTGRESQL_CRASHED = "PostgreSQL crashed"


@dataclass(frozen=True, slots=True)
class Fault:
    """A process is held at the point, then killed or stopped for a while."""

    point: FailPoint
    deed: Deed
    seconds: float
    at_s: float


@dataclass(frozen=True, slots=True)
class ServiceFault:
    """A service goes away and comes back."""

    blow: Blow
    at_s: float


Lane = Sequence[Fault | ServiceFault]

#: Lanes go on at the same time. No point is in two, and one lane is never at more than one process.
LANES: Final[Mapping[str, Sequence[FailPoint]]] = {
    "gateway": ("gateway.accepted", "gateway.answering"),
    "relay": ("relay.claimed", "relay.published"),
    "ledger, outside its transaction": ("ledger.taken", "ledger.committed", "ledger.claimed"),
    "ledger, inside": ("ledger.locked",),
}
POINTS: Final[Sequence[FailPoint]] = tuple(point for points in LANES.values() for point in points)


def plan(
    random: Random, *, points: Sequence[str], deeds: Sequence[Deed], times: int, blows: Mapping[Blow, int], seconds: float
) -> list[Lane]:
    """The schedule: each point and deed so many times, each blow so many times, in an order and at times drawn from `random`.

    A lane spreads its faults over the seconds; one that is late makes the next ones late.
    """
    lanes: list[Lane] = []
    for of_lane in LANES.values():
        wanted = [(point, deed, turn) for point in of_lane if point in points for deed in deeds for turn in range(times)]
        random.shuffle(wanted)
        lanes.append(
            [
                Fault(point, deed, _how_long(random, deed, turn), at_s)
                for (point, deed, turn), at_s in zip(wanted, _spread(random, len(wanted), seconds), strict=True)
            ]
        )
    struck = [blow for blow, number in blows.items() for _ in range(number)]
    random.shuffle(struck)
    lanes.append([ServiceFault(blow, at_s) for blow, at_s in zip(struck, _spread(random, len(struck), seconds), strict=True)])
    return [lane for lane in lanes if lane]


def _how_long(random: Random, deed: Deed, turn: int) -> float:
    return random.choice(LINGER_S) if deed is Deed.KILL else STOPPED_S[turn % len(STOPPED_S)]


def _spread(random: Random, number: int, seconds: float) -> list[float]:
    """One moment in each of so many equal parts of the time."""
    return [(part + random.random()) * seconds / number for part in range(number)]


@dataclass(slots=True)
class Tally:
    """What was done, counted when it was done."""

    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, how: str) -> None:
        with self._lock:
            self.done[what, how] += 1


def carry_out(stage: Stage, lane: Lane, tally: Tally, stop: threading.Event) -> None:
    """Work through one lane, each fault at its time from now, or later."""
    began = time.monotonic()
    for fault in lane:
        if stop.wait(max(PEACE_S, began + fault.at_s - time.monotonic())):
            return
        if isinstance(fault, Fault):
            _inflict(stage, fault)
            tally.add(fault.point, fault.deed)
            stage.wait_for(fault.point.partition(".")[0])
        else:
            strike(stage, fault.blow)
            tally.add(fault.blow, "")


def _inflict(stage: Stage, fault: Fault) -> None:
    """Hold whoever comes to the point, do it, and let go of what is left."""
    stage.stack.arm(fault.point)
    pid = stage.stack.reached(fault.point, wait_s=REACHED_S)
    try:
        if fault.deed is Deed.KILL:
            time.sleep(fault.seconds)
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGSTOP)
    finally:
        stage.stack.let_go(fault.point)
    if fault.deed is Deed.STOP:
        time.sleep(fault.seconds)
        os.kill(pid, signal.SIGCONT)


def strike(stage: Stage, blow: Blow) -> None:
    """Do it to the service, and bring it back."""
    postgres, rabbitmq = stage.postgres, stage.rabbitmq
    away: Callable[[], None]
    away, back = {
        Blow.RABBITMQ_KILLED: (rabbitmq.kill, rabbitmq.start_again),
        Blow.RABBITMQ_RESTARTED: (rabbitmq.stop, rabbitmq.start_again),
        Blow.RABBITMQ_WIPED: (rabbitmq.wipe, rabbitmq.start_again),
        Blow.POSTGRESQL_CRASHED: (postgres.crash, postgres.start_again),
    }[blow]
    away()
    time.sleep(AWAY_S)
    back()


def wipe_a_full_queue(stage: Stage, stop_asking: Callable[[], None], seconds: float) -> None:
    """The last and worst: while both ledgers are stopped and commands pile up, RabbitMQ loses everything; nobody asks any more.

    No later message makes up for the lost ones. What was accepted is carried out because somebody looks for it, or never.
    """
    stopped = stage.ledgers()
    for ledger in stopped:
        ledger.send(signal.SIGSTOP)
    time.sleep(seconds)
    stop_asking()
    strike(stage, Blow.RABBITMQ_WIPED)
    for ledger in stopped:
        ledger.send(signal.SIGCONT)
