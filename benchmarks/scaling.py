"""More ledger processes: on one pair of accounts they must not hinder each other, with a far database they must help."""

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks import queues, workers
from benchmarks.far import lengthen
from benchmarks.ground import Ground
from benchmarks.rounds import Effort, take_turns
from benchmarks.table import Required, Row, against
from shared.db.connect import connect

PROCESSES: Final = (1, 2, 4)
DELAY_MS: Final = 2.0
ROUND_TRIPS: Final = 200
TURN: Final = "bench_turn"


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """Worker loops on a full queue, as in the ledger's part."""
    return [*_one_pair(ground, effort), *_far_database(ground, effort)]


def _one_pair(ground: Ground, effort: Effort) -> list[Row]:
    template = queues.one_pair(ground)

    def turn(number: int) -> Callable[[], float]:
        return partial(_rate, ground, template, number, effort, 0.0)

    found = take_turns(effort.rounds, {f"one pair, {number} processes": turn(number) for number in PROCESSES}, ground.say)
    return _rows("one pair", "one pair of accounts", found, Required("≥", 0.85))


def _far_database(ground: Ground, effort: Effort) -> list[Row]:
    template = queues.disjoint(ground)
    near_ms, far_ms = _round_trip_ms(ground, 0), _round_trip_ms(ground, DELAY_MS)
    ground.say(f"far database: a round trip takes {far_ms:.2f} ms instead of {near_ms:.2f} ms")

    def turn(number: int) -> Callable[[], float]:
        return partial(_rate, ground, template, number, effort, DELAY_MS)

    found = take_turns(effort.rounds, {f"far, {number} processes": turn(number) for number in PROCESSES}, ground.say)
    ground.drop(TURN)
    return _rows("far", f"disjoint accounts, database {DELAY_MS:.0f} ms away", found, Required("≥", 3))


def _rate(ground: Ground, template: str, number: int, effort: Effort, delay_ms: float) -> float:
    url = ground.create(TURN, template=template)
    rate = workers.measure(url, "batch", processes=number, seconds=effort.seconds, delay_ms=delay_ms)
    queues.check(url)
    return round(rate)


def _rows(name: str, what: str, found: dict[str, list[float]], required: Required) -> list[Row]:
    one, *others = PROCESSES
    return [
        against(
            f"{what}: {number} ledger processes; 1 process",
            found[f"{name}, {number} processes"],
            found[f"{name}, {one} processes"],
            "transfers/s",
            required if number == max(PROCESSES) else None,
        )
        for number in others
    ]


def _round_trip_ms(ground: Ground, delay_ms: float) -> float:
    with connect(ground.url("postgres"), name="bench") as db:
        lengthen(db, delay_ms)
        times = []
        for _ in range(ROUND_TRIPS):
            started = perf_counter()
            db.execute("SELECT 1")
            times.append((perf_counter() - started) * 1e3)
    return median(times)
