"""Random lives, and the ways in which bots may report them: any order, any repetition, any batches.

Every choice is `pick(n)`, a number below n: hypothesis draws and shrinks it, and a seeded generator makes many cases quickly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.domain.leads import Campaign, Change, Holding, Membership, Request, Sighting, Span, Start
from tests.sim.model import DAY_S, Happening, World

Pick = Callable[[int], int]
HAPPENINGS_MAX: Final = 11
CHANGES_A_SECOND_MAX: Final = 3
#: Seconds between two happenings: mostly none or few, sometimes beyond the window or into another day.
STEPS_S: Final = (0, 0, 1, 1, 5, 30, 61, DAY_S)
WINDOWS_S: Final = (0, 1, 31, DAY_S)
CLICKS: Final = ("", "a", "b")
WHATS: Final = ("start", "start", "change", "change", "change", "change", "request")
PLACES: Final = ("out", "in", "banned")
STRANGER: Final = 9
MIDNIGHT: Final = datetime(2026, 5, 1, tzinfo=UTC)
_HALF: Final = timedelta(milliseconds=500)


@dataclass(frozen=True)
class Case:
    """A life in a world, and batches of its sightings, each with the number of what was seen."""

    world: World
    life: list[Happening]
    batches: list[list[tuple[int, Sighting]]]


def case(pick: Pick) -> Case:
    moments = _moments(pick)
    world = _world(pick, moments)
    life = _life(pick, world, moments)
    return Case(world, life, _batches(pick, [(h.number, s) for h in life for s in sightings(h)]))


def campaign(world: World) -> Campaign:
    """The campaign as the project wants it; moments between seconds, so that rounding is part of the test."""
    old, new = world.bots
    moved = _at(world.moved) if world.moved is not None else None
    holdings = (Holding(bot=old, since=_at(-DAY_S), until=moved), *((Holding(bot=new, since=moved),) if moved else ()))
    return Campaign(
        holdings=holdings,
        epoch_since=_at(world.epoch) + _HALF,
        unsub_window=world.window,
        pauses=tuple(Span(since=_at(first) - _HALF, until=_at(last) + _HALF) for first, last in world.pauses),
        deleted=_at(world.deleted) - _HALF if world.deleted is not None else None,
    )


def sightings(happening: Happening) -> list[Sighting]:
    """What each bot reports of it."""
    at = _at(happening.second)
    match happening.what:
        case "start":
            return [Start(bot=bot, at=at, message=happening.number, click=happening.click) for bot in happening.bots]
        case "request":
            return [Request(bot=bot, at=at) for bot in happening.bots]
        case _:
            before, after = Membership(happening.before), Membership(happening.after)
            return [Change(bot=bot, at=at, before=before, after=after, own=happening.own) for bot in happening.bots]


def _at(second: int) -> datetime:
    return MIDNIGHT + timedelta(seconds=second)


def _moments(pick: Pick) -> list[int]:
    moments, now = [], 0
    for _ in range(1 + pick(HAPPENINGS_MAX)):
        now += STEPS_S[pick(len(STEPS_S))]
        moments.append(now)
    return moments


def _world(pick: Pick, moments: list[int]) -> World:
    def near() -> int:
        return moments[pick(len(moments))] + pick(3) - 1

    pauses = []
    for _ in range((0, 0, 1, 2)[pick(4)]):
        first = near()
        pauses.append((first, max(first + 1, near())))
    return World(
        window=WINDOWS_S[pick(len(WINDOWS_S))],
        epoch=near() if not pick(4) else -DAY_S // 2,
        pauses=tuple(pauses),
        moved=near() if not pick(3) else None,
        deleted=near() if not pick(6) else None,
    )


def _life(pick: Pick, world: World, moments: list[int]) -> list[Happening]:
    """A life whose order within each second is the one that the specification gives it, and the only one."""
    life: list[Happening] = []
    place, chained = PLACES[(0, 0, 0, 1, 2)[pick(5)]], False
    for number, second in enumerate(moments):
        same = [h for h in life if h.second == second]
        what = WHATS[pick(3 if number == 0 else len(WHATS))]
        if what == "start" and all(h.what == "start" for h in same):
            life.append(Happening(number, second, what, (_starter(pick, world, second),), click=CLICKS[pick(len(CLICKS))]))
        elif what == "request" and all(h.what == "start" for h in same):
            life.append(Happening(number, second, what, _watchers(pick, world, second)))
        elif what == "change":
            changes = {(h.before, h.after) for h in same if h.what == "change"}
            if not changes:  # where the person stands is known from the last change, unless nobody saw how they came elsewhere
                unseen = not pick(3)
                chained = not unseen and any(h.what == "change" for h in life)
                place = PLACES[pick(3)] if unseen else place
            after = PLACES[(PLACES.index(place) + 1 + (0, 0, 1)[pick(3)]) % 3] if place != "in" else ("out", "out", "banned")[pick(3)]
            if not changes or (chained and len(changes) < CHANGES_A_SECOND_MAX and (place, after) not in changes):
                bots = _watchers(pick, world, second)
                life.append(Happening(number, second, what, bots, before=place, after=after, own=bool(pick(2))))
                place = after
    return life


def _starter(pick: Pick, world: World, second: int) -> int:
    holder = world.bots[0] if world.moved is None or second < world.moved else world.bots[1]
    return (holder, holder, holder, *world.bots, STRANGER)[pick(6)]


def _watchers(pick: Pick, world: World, second: int) -> tuple[int, ...]:
    """Which bots are in the chat and see it: the campaign's own, and perhaps others, each of which tells of it."""
    holder = world.bots[0] if world.moved is None or second < world.moved else world.bots[1]
    others = ((), (), tuple(bot for bot in world.bots if bot != holder), (STRANGER,))[pick(4)]
    return (holder, *others)


def _batches(pick: Pick, seen: list[tuple[int, Sighting]]) -> list[list[tuple[int, Sighting]]]:
    """All of it, some twice, shuffled and cut."""
    rest = seen + [one for one in seen if not pick(4)]
    batches: list[list[tuple[int, Sighting]]] = [[]]
    while rest:
        batches[-1].append(rest.pop(pick(len(rest))))
        if not pick(2):
            batches.append([])
    return batches
