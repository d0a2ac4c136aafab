"""Any life, reported in any order, any number of times and in any batches, comes to what the plain model says of it."""

import random
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain import fold as folding
from shared.domain.fold import Folded, Held, Kept, Owed, fold
from shared.domain.leads import TABLE, Attribution, Cell, Counter, Event, Key, LeadStatus, Sighting
from tests.sim.lives import MIDNIGHT, Case, campaign, case
from tests.sim.model import Outcome, tell

EXAMPLES: Final = 400
CASES: Final = 4000
SEED: Final = 20_260_501

#: What a lead in a state has surely been counted in.
COUNTED: Final = {
    None: frozenset[Counter](),
    LeadStatus.WAIT: frozenset({Counter.STARTS}),
    LeadStatus.HOLD: frozenset({Counter.STARTS, Counter.HOLDS}),
    LeadStatus.APPROVE: frozenset({Counter.STARTS, Counter.CONFIRMS}),
    LeadStatus.CANCEL: frozenset({Counter.STARTS, Counter.CONFIRMS, Counter.UNSUBS}),
    LeadStatus.TRASH: frozenset({Counter.STARTS, Counter.CONFIRMS, Counter.UNSUBS}),
}


@dataclass
class Books:
    """What somebody has written who did all that the folds said, and nothing else."""

    kept: Kept = field(default_factory=Kept)
    days: Tally[tuple[str, int]] = field(default_factory=Tally)
    journal: dict[int, tuple[str, str]] = field(default_factory=dict)
    welcomes: dict[int, str] = field(default_factory=dict)
    owed: list[Owed] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def write(self, folded: Folded, numbers: dict[Key, int]) -> None:
        """Write it down. An entry that is there is not written again, nor does a paid one turn organic."""
        self.kept = folded.kept
        for entry in folded.entries:
            number = numbers[entry.sighting.key]
            assert entry.new is (number not in self.journal)
            assert entry.new or entry.attribution is Attribution.PAID
            self.journal[number] = (entry.action.name.lower(), entry.attribution.value)
        for count in folded.counts:
            self.days[count.counter.value, (count.day - MIDNIGHT.date()).days] += count.change
        for welcome in folded.welcomes:
            number = numbers[welcome.start.key]
            assert number not in self.welcomes
            self.welcomes[number] = welcome.click
        self.owed += folded.owed
        self.held += folded.held


def check(one: Case) -> None:
    """Hold a case to the model: seen as it happened, in one batch, and as it arrived."""
    expected = tell(one.world, one.life)
    every = [pair for batch in one.batches for pair in batch]
    numbers = {sighting.key: number for number, sighting in every}
    in_time = sorted(every, key=lambda pair: pair[0])
    for batches in ([[pair] for pair in in_time], [in_time], [list(reversed(in_time))]):
        books = arrive(one, batches, numbers)
        compare(books, expected)
        told_in_time(books, expected, numbers)
    books = arrive(one, one.batches, numbers)
    compare(books, expected)
    told_late(books, expected, numbers)


def arrive(one: Case, batches: Iterable[list[tuple[int, Sighting]]], numbers: dict[Key, int]) -> Books:
    books, terms = Books(), campaign(one.world)
    for batch in batches:
        arrived = [sighting for _, sighting in batch]
        seen = books.kept.latest.seen
        if seen is not None and arrived and all(sighting.at > seen for sighting in arrived):
            before = books.kept  # what is newer than everything needs no facts
            books.write(fold(terms, before.ahead(), arrived), numbers)
            books.kept = replace(books.kept, base=before.base, facts=before.facts + books.kept.facts)
        else:
            books.write(fold(terms, books.kept, arrived), numbers)
    again = fold(terms, books.kept, [sighting for batch in batches for _, sighting in batch])
    assert replace(again, aside=()) == Folded(kept=books.kept)
    return books


def compare(books: Books, expected: Outcome) -> None:
    """What does not depend on the order of arrival."""
    lead = books.kept.latest
    assert ("none" if lead.status is None else lead.status.name.lower()) == expected.status
    assert lead.click == expected.click
    assert (_second(lead.start_time), _second(lead.join_time)) == (expected.started, expected.joined)
    assert {(counter, day) for (counter, day), count in books.days.items() if count} == set(expected.days.items())
    assert all(count in {0, 1} for count in books.days.values())
    assert books.journal == expected.journal
    assert set(books.welcomes) == set(expected.welcomes)


def told_in_time(books: Books, expected: Outcome, numbers: dict[Key, int]) -> None:
    """What was seen as it happened is told as the model tells it."""
    assert _said(books.owed, numbers) == expected.owed
    assert [(h.status.name.lower(), h.rule.value, numbers[h.sighting.key]) for h in books.held] == expected.held
    assert not any(postback.correction for postback in books.owed)
    assert books.welcomes == expected.welcomes


def told_late(books: Books, expected: Outcome, numbers: dict[Key, int]) -> None:
    """Each step is told once or has its rule; the last one told is the lead's state, unless a rule holds that back."""
    assert [postback.number for postback in books.owed] == list(range(1, len(books.owed) + 1))
    first = [numbers[postback.sighting.key] for postback in books.owed if not postback.correction]
    assert len(first) == len(set(first))
    dates = [postback.sighting.at for postback in books.owed if not postback.correction]
    assert dates == sorted(dates), "a step that lies before one that was told is superseded"
    owed = {(status, number) for status, _, number in _said(books.owed, numbers)}
    held = {(h.status.name.lower(), h.rule.value, numbers[h.sighting.key]) for h in books.held}
    for status, _, number in expected.owed:
        assert (status, number) in owed or (status, "superseded", number) in held
    for status, rule, number in expected.held:
        assert (status, number) in owed or (status, rule, number) in held
    if expected.status != "none" and not expected.silent:
        said = [status for status, _, _ in _said(books.owed, numbers)]
        while said[-1] != expected.status:
            assert said.pop() == "wait", "a new click may wait while the state stands"


def _said(owed: Iterable[Owed], numbers: dict[Key, int]) -> list[tuple[str, str, int]]:
    return [(postback.status.name.lower(), postback.click, numbers[postback.sighting.key]) for postback in owed]


def _second(moment: datetime | None) -> int | None:
    return None if moment is None else int((moment - MIDNIGHT).total_seconds())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return case(lambda below: draw(st.integers(0, below - 1)))


@given(cases())
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_arrivals_the_outcome_is_what_happened(one: Case) -> None:
    check(one)


class Watched(dict[tuple[LeadStatus | None, Event], Cell]):
    """The table, and which of its cells were used."""

    def __init__(self) -> None:
        super().__init__(TABLE)
        self.used: set[tuple[LeadStatus | None, Event]] = set()

    def __getitem__(self, key: tuple[LeadStatus | None, Event]) -> Cell:
        self.used.add(key)
        return super().__getitem__(key)


@pytest.fixture(scope="module")
def users() -> Mapping[tuple[LeadStatus | None, Event], list[Case]]:
    """Many seeded cases, each held to the model, by the cells they use."""
    dice = random.Random(SEED)
    users: dict[tuple[LeadStatus | None, Event], list[Case]] = {key: [] for key in TABLE}
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(CASES):
            one = case(dice.randrange)
            table = Watched()
            patch.setattr(folding, "TABLE", table)
            check(one)
            for key in table.used:
                users[key].append(one)
    return users


def mutants(state: LeadStatus | None, event: Event) -> Iterator[Cell]:
    """The cell with one thing changed, left out what cannot make a difference.

    That is a counter which has surely counted before, a postback for no lead, and a window where nobody joined.
    """
    cell = TABLE[state, event]
    statuses = (None, *LeadStatus)
    yield from (replace(cell, next=status) for status in statuses if status is not cell.next)
    if cell.next is not None:
        yield from (replace(cell, postback=status) for status in statuses if status is not cell.postback)
    yield from (replace(cell, journal=journal) for journal in (None, *Attribution) if journal is not cell.journal)
    for counter in (None, *Counter):
        if counter is not cell.counter and {counter, cell.counter} - {None} - COUNTED[state]:
            yield replace(cell, counter=counter)
    if cell.postback is not None and state is not None:
        yield replace(cell, windowed=not cell.windowed)


@pytest.mark.parametrize(
    ("state", "event"), [*TABLE], ids=lambda part: part.value if isinstance(part, Event) else "none" if part is None else part.name.lower()
)
def test_each_mutant_of_a_row_is_found(
    state: LeadStatus | None,
    event: Event,
    users: Mapping[tuple[LeadStatus | None, Event], list[Case]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for mutant in mutants(state, event):
        monkeypatch.setattr(folding, "TABLE", {**TABLE, (state, event): mutant})
        assert any(differs(one) for one in users[state, event]), f"nothing notices {mutant}"


def differs(one: Case) -> bool:
    """Whether the case is no longer what the model says, or cannot be folded at all."""
    try:
        check(one)
    except (AssertionError, KeyError):
        return True
    return False
