"""Every cell of the table of lead states, told by Telegram to the real client: in time, late, twice, and through two bots.

One system works for all of them: everybody's past comes first, then everybody's event. What must come of it is the plain table below,
written from the product's description.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import pytest

from shared.domain.leads import TABLE
from shared.local import Services
from tests.chaos.telegram.evidence import Watch
from tests.conftest import new_database, without_queues
from tests.ingest.town import ADMIN, Deed, Seen, Town, change, request, start, start_again, town
from tests.telegram.remote import started

#: state, event -> next state, postback, type of the journal's entry, counter.
PLAIN: Final = {
    tuple(line.split()[:2]): tuple(line.split()[2:])
    for line in """
    none     start    wait     wait     -        starts
    none     restart  wait     wait     -        starts
    none     request  none     -        organic  -
    none     join     none     -        organic  -
    none     leave    none     -        organic  -
    none     kick     none     -        organic  -
    none     unban    none     -        -        -
    wait     start    wait     wait     -        -
    wait     restart  wait     -        -        -
    wait     request  hold     hold     paid     holds
    wait     join     approve  approve  paid     confirms
    wait     leave    wait     -        paid     -
    wait     kick     wait     -        paid     -
    wait     unban    wait     -        -        -
    hold     start    hold     wait     -        -
    hold     restart  hold     -        -        -
    hold     request  hold     -        paid     -
    hold     join     approve  approve  paid     confirms
    hold     leave    hold     -        paid     -
    hold     kick     hold     -        paid     -
    hold     unban    hold     -        -        -
    approve  start    approve  wait     -        -
    approve  restart  approve  -        -        -
    approve  request  approve  -        paid     -
    approve  join     approve  -        paid     -
    approve  leave    cancel   cancel   paid     unsubs
    approve  kick     trash    trash    paid     unsubs
    approve  unban    approve  -        -        -
    cancel   start    wait     wait     -        -
    cancel   restart  cancel   -        -        -
    cancel   request  hold     hold     paid     holds
    cancel   join     approve  approve  paid     -
    cancel   leave    cancel   -        paid     -
    cancel   kick     cancel   -        paid     -
    cancel   unban    cancel   -        -        -
    trash    start    wait     wait     -        -
    trash    restart  trash    -        -        -
    trash    request  hold     hold     paid     holds
    trash    join     approve  approve  paid     -
    trash    leave    trash    -        paid     -
    trash    kick     trash    -        paid     -
    trash    unban    trash    -        -        -
    """.splitlines()
    if line.strip()
}

#: How somebody came into a state.
PASTS: Final[Mapping[str, tuple[str, ...]]] = {
    "none": (),
    "wait": ("start a",),
    "hold": ("start a", "ask"),
    "approve": ("start a", "out>member"),
    "cancel": ("start a", "out>member", "member>out"),
    "trash": ("start a", "out>member", "member>banned by admin"),
}

#: What each event is in Telegram's words.
WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "start": ("start b",),
    "restart": ("start a", "start"),
    "request": ("ask",),
    "join": (
        "out>member",
        "out>member by admin",
        "out>admin by admin",
        "out>creator",
        "out>restricted",
        "restricted_out>restricted",
        "restricted_out>member by admin",
        "banned>member by admin",
        "banned>restricted by admin",
    ),
    "leave": ("member>out", "admin>out", "restricted>restricted_out"),
    "kick": (
        "member>out by admin",
        "member>banned by admin",
        "restricted>restricted_out by admin",
        "restricted>banned by admin",
        "admin>banned by admin",
        "out>banned by admin",
    ),
    "unban": ("banned>out by admin", "banned>restricted_out by admin"),
}

#: What is no event at all.
NOTHING: Final = (
    "member>admin by admin",
    "admin>member by admin",
    "admin>admin by admin",
    "member>restricted by admin",
    "restricted>member by admin",
    "restricted>restricted by admin",
    "restricted_out>out by admin",
)

STEP_S: Final = 10
FIRST_PERSON: Final = 60_000_000
FIRST_MESSAGE: Final = 1_000_000
STEPS_MAX: Final = 4
MANNERS: Final = ("in time", "late", "twice", "through two bots")


@dataclass(frozen=True)
class Person:
    """Somebody in a state, to whom something happens, told in some manner."""

    id: int
    state: str
    event: str
    way: str
    manner: str

    @property
    def steps(self) -> tuple[str, ...]:
        return (*PASTS[self.state], self.way)


def everybody() -> Iterator[Person]:
    ids = count(FIRST_PERSON)
    for manner in MANNERS:
        for state in PASTS:
            for event, ways in WAYS.items():
                yield from (Person(next(ids), state, event, way, manner) for way in ways if not (state == "none" and way == "start a"))
    for state in PASTS:
        yield from (Person(next(ids), state, "nothing", way, "in time") for way in NOTHING)


EVERYBODY: Final = tuple(everybody())


@dataclass(frozen=True)
class Sights:
    """What there was before everybody's event and after it, and how often the bot had written to them."""

    before: Mapping[int, Seen]
    after: Mapping[int, Seen]
    welcomed: tuple[Mapping[tuple[int, int], int], Mapping[tuple[int, int], int]]
    elsewhere: Mapping[int, Seen]
    """What the other bot wrote down for itself."""
    watch: Watch


def deed(watch: Watch, person: Person, number: int, *, tg: int | None = None) -> Deed:
    """The person's step with this number."""
    step, second = person.steps[number], number * STEP_S
    what, _, rest = step.partition(" ")
    if what == "start":
        if person.manner == "twice":
            return start_again(watch, person.id, second, rest, FIRST_MESSAGE + STEPS_MAX * (person.id - FIRST_PERSON) + number)
        return start(watch, person.id, second, rest)
    if what == "ask":
        return request(watch, person.id, second, tg=tg)
    return change(watch, person.id, second, what, by=ADMIN if rest == "by admin" else None, tg=tg)


@pytest.fixture(scope="module")
def sights(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sights]:
    folder = tmp_path_factory.mktemp("cells")
    with (
        started() as server,
        new_database(local, template) as url,
        town(url, without_queues(local.amqp_url), folder, server) as here,
    ):
        yield play(here)


def play(here: Town) -> Sights:
    """Everybody's past, then everybody's event."""
    watch = here.watch(welcome="Welcome")
    other = here.bot(watch.chat)
    other_tg = next(tg for tg, bot in here.bots.items() if bot == other)
    here.open()
    by_manner = {manner: [person for person in EVERYBODY if person.manner == manner] for manner in MANNERS}
    in_time = by_manner["in time"]
    here.do([{"do": "say", "person": person.id, "bot": watch.tg, "text": "hello"} for person in by_manner["twice"]])
    here.do([deed(watch, person, number) for person in in_time for number in range(len(person.steps) - 1)])
    here.settle()
    before, welcomed = here.look(watch), here.welcomes()

    def last(person: Person) -> int:
        return len(person.steps) - 1

    here.do([deed(watch, person, last(person)) for person in in_time])
    here.do(
        [deed(watch, person, number) for number in reversed(range(STEPS_MAX)) for person in by_manner["late"] if number <= last(person)]
    )
    here.do([deed(watch, person, number) for _ in range(2) for person in by_manner["twice"] for number in range(last(person) + 1)])
    both = [(person, number) for person in by_manner["through two bots"] for number in range(last(person) + 1)]
    here.do([deed(watch, person, number, tg=other_tg) for person, number in both if not person.steps[number].startswith("start")])
    here.do([deed(watch, person, number) for person, number in both])
    here.settle()
    return Sights(
        before=before,
        after=here.look(watch),
        welcomed=(welcomed, here.welcomes()),
        elsewhere=here.look(replace(watch, bot=other)),
        watch=watch,
    )


def expected(person: Person) -> tuple[str, ...]:
    """The cell; nothing at all is a row of its own."""
    return (person.state, "-", "-", "-") if person.event == "nothing" else PLAIN[person.state, person.event]


def past_words(person: Person) -> list[tuple[str, str]]:
    """What the journal has of the way into the state."""
    words = {"ask": "request", "out>member": "join", "member>out": "leave", "member>banned by admin": "kick"}
    return [(words[step], "paid") for step in PASTS[person.state] if not step.startswith("start")]


def counted_before(state: str) -> frozenset[str]:
    counted = {"wait": ("starts",), "hold": ("starts", "holds"), "approve": ("starts", "confirms")}
    return frozenset({"none": (), **counted}.get(state, ("starts", "confirms", "unsubs")))


def name(person: Person) -> str:
    return f"{person.manner}-{person.state}-{person.event}-{person.way}"


def test_the_plain_table_has_every_cell() -> None:
    assert set(PLAIN) == {("none" if state is None else state.name.lower(), event.value) for state, event in TABLE}


@pytest.mark.parametrize("person", [person for person in EVERYBODY if person.manner == "in time"], ids=name)
def test_told_in_time_an_event_does_what_its_cell_says(sights: Sights, person: Person) -> None:
    before, after = sights.before.get(person.id, Seen()), sights.after.get(person.id, Seen())
    status, postback, entry, counter = expected(person)
    assert before.status == person.state
    assert before.counted == counted_before(person.state)
    click = person.way.partition(" ")[2] if person.way.startswith("start ") else before.click
    assert (after.status, after.click) == (status, click)
    told = ((postback, click, ""),) if postback != "-" else ()
    assert after.postbacks[len(before.postbacks) :] == told
    assert after.urls[len(before.urls) :] == tuple(f"http://tracker.example/{word}?click={told_click}" for word, told_click, _ in told)
    assert sorted(after.journal) == sorted([*before.journal, *([(person.event, entry)] if entry != "-" else [])])
    assert after.counted == before.counted | ({counter} - {"-"})
    was, now = (welcomes.get((sights.watch.tg, person.id), 0) for welcomes in sights.welcomed)
    assert now - was == (person.event in {"start", "restart"})


@pytest.mark.parametrize("person", [person for person in EVERYBODY if person.manner != "in time"], ids=name)
def test_however_it_is_told_the_same_comes_of_it(sights: Sights, person: Person) -> None:
    """Late, twice, or through two bots: status, click, journal and counters are those of the cell; each step is told once."""
    seen = sights.after.get(person.id, Seen())
    status, postback, entry, counter = expected(person)
    assert seen.status == status
    assert seen.journal == tuple(sorted([*past_words(person), *([(person.event, entry)] if entry != "-" else [])]))
    assert seen.counted == counted_before(person.state) | ({counter} - {"-"})
    starts = sum(step.startswith("start") for step in person.steps)
    assert sights.welcomed[1].get((sights.watch.tg, person.id), 0) == starts
    told = [word for word, _, rule in seen.postbacks if not rule]
    if status != "none":
        assert told[-1] == status or (told[-1] == "wait" and person.event == "start")
    if person.manner != "late":
        past = {"none": 0, "wait": 1, "hold": 2, "approve": 2, "cancel": 3, "trash": 3}[person.state]
        assert len(told) == len(seen.postbacks) == past + (postback != "-")


@pytest.mark.parametrize("person", [person for person in EVERYBODY if person.manner == "through two bots"], ids=name)
def test_a_bot_without_a_campaign_keeps_its_own_entries(sights: Sights, person: Person) -> None:
    words = [word for word, _ in past_words(person)] + ([person.event] if expected(person)[2] != "-" else [])
    assert sights.elsewhere.get(person.id, Seen()).journal == tuple(sorted((word, "organic") for word in words))
