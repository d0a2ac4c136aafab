"""Rounds: everything that is compared takes turns, so that what happens to the machine meanwhile happens to all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from shared.local.packages import Say

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float
    quick: bool


FULL = Effort(rounds=5, seconds=3.0, quick=False)
QUICK = Effort(rounds=2, seconds=1.0, quick=True)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, the least and the greatest."""

    median: float
    least: float
    greatest: float


def spread(figures: list[float]) -> Spread:
    return Spread(median(figures), min(figures), max(figures))


def take_turns(rounds: int, measures: Mapping[str, Callable[[], T]], say: Say) -> dict[str, list[T]]:
    """Every measure once in each round; every second round backwards, so that nobody always follows the same one."""
    results: dict[str, list[T]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures)
        for name in reversed(names) if number % 2 else names:
            result = measures[name]()
            results[name].append(result)
            say(f"round {number + 1}/{rounds}  {name}: {result}")
    return results
