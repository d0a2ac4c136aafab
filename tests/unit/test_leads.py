"""Leads: every cell of the table, and which of the things a bot saw count for a campaign."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from shared.domain.fold import Count, Folded, Kept, Rule
from shared.domain.leads import (
    ACTIONS,
    TABLE,
    Action,
    Aside,
    Attribution,
    Campaign,
    Cell,
    Change,
    Counter,
    Event,
    Holding,
    LeadStatus,
    Membership,
    Sighting,
    Span,
    Weight,
    event_of,
    weigh,
)
from tests.sim.story import (
    APPROVE,
    BANNED,
    BOT,
    CAMPAIGN,
    CANCEL,
    HOLD,
    IN,
    OTHER,
    OUT,
    STRANGER,
    TRASH,
    WAIT,
    Story,
    at,
    change,
    held,
    join,
    journal,
    kick,
    leave,
    net,
    owed,
    request,
    start,
    unban,
)

DOC: Final = Path(__file__).parents[2] / "docs" / "lead-states.md"
STATES: Final = (None, *LeadStatus)

#: How each state is reached, and how each event looks from there.
WAYS: Final[dict[LeadStatus | None, tuple[Sighting, ...]]] = {
    None: (),
    WAIT: (start(1),),
    HOLD: (start(1), request(2)),
    APPROVE: (start(1), join(2)),
    CANCEL: (start(1), join(2), leave(3)),
    TRASH: (start(1), join(2), kick(3)),
}
LOOKS: Final[dict[Event, tuple[Sighting, ...]]] = {
    Event.START: (start(10, "new"),),
    Event.RESTART: (start(10, ""), start(10, "a")),
    Event.REQUEST: (request(10),),
    Event.JOIN: (change(10, OUT, IN), change(10, OUT, IN, own=False), change(10, BANNED, IN, own=False)),
    Event.LEAVE: (change(10, IN, OUT),),
    Event.KICK: (change(10, IN, OUT, own=False), change(10, IN, BANNED, own=False), change(10, OUT, BANNED, own=False)),
    Event.UNBAN: (change(10, BANNED, OUT, own=False),),
}

#: The specification's table, said again by hand: state, events, next state, postback.
SAID: Final = [
    ("none", "start restart", "wait", "wait"),
    ("none", "request join leave kick unban", "none", ""),
    ("wait", "start", "wait", "wait"),
    ("wait", "request", "hold", "hold"),
    ("wait hold", "join", "approve", "approve"),
    ("wait", "leave kick unban", "wait", ""),
    ("hold", "leave kick unban request", "hold", ""),
    ("approve", "request join unban", "approve", ""),
    ("hold", "start", "hold", "wait"),
    ("approve", "start", "approve", "wait"),
    ("approve", "leave", "cancel", "cancel"),
    ("approve", "kick", "trash", "trash"),
    ("cancel trash", "join", "approve", "approve"),
    ("cancel trash", "request", "hold", "hold"),
    ("cancel trash", "start", "wait", "wait"),
    ("cancel", "leave kick unban restart", "cancel", ""),
    ("trash", "leave kick unban restart", "trash", ""),
    ("wait", "restart", "wait", ""),
    ("hold", "restart", "hold", ""),
    ("approve", "restart", "approve", ""),
]


def name(state: LeadStatus | None) -> str:
    return "none" if state is None else state.name.lower()


def test_the_table_has_each_cell_and_says_what_was_specified() -> None:
    assert set(TABLE) == set(product(STATES, Event))
    said = {(state, event): row[2:] for row in SAID for state, event in product(row[0].split(), row[1].split())}
    assert sum(len(row[0].split()) * len(row[1].split()) for row in SAID) == len(said) == len(TABLE)
    assert said == {
        (name(state), event.value): (name(cell.next), name(cell.postback) if cell.postback is not None else "")
        for (state, event), cell in TABLE.items()
    }


def test_the_journal_has_an_entry_of_each_membership_event_and_of_nothing_else() -> None:
    for (state, event), cell in TABLE.items():
        expected = None if event not in ACTIONS else Attribution.ORGANIC if state is None else Attribution.PAID
        assert cell.journal is expected


def test_a_counter_hangs_on_each_way_into_its_state_and_the_window_on_each_way_out_of_approve() -> None:
    into = {HOLD: Counter.HOLDS, APPROVE: Counter.CONFIRMS, CANCEL: Counter.UNSUBS, TRASH: Counter.UNSUBS}
    for (state, _), cell in TABLE.items():
        moved = cell.next is not state
        expected = Counter.STARTS if state is None and moved else into.get(cell.next) if moved and cell.next is not None else None
        assert cell.counter is expected
        assert cell.windowed is (moved and cell.next in {CANCEL, TRASH})


@pytest.mark.parametrize(("state", "event"), [(s, e) for s, e in TABLE], ids=lambda x: x if isinstance(x, Event) else name(x))
def test_each_cell_is_what_happens(state: LeadStatus | None, event: Event) -> None:
    cell = TABLE[state, event]
    for sighting in LOOKS[event]:
        story = Story()
        story.arrives(*WAYS[state])
        assert story.status is state
        assert event_of(sighting, story.kept.latest.click) is event or (state is None and event is Event.RESTART)
        folded = story.arrives(sighting)
        assert story.status is cell.next
        assert [o.status for o in folded.owed] == ([] if cell.postback is None else [cell.postback])
        assert journal(folded) == ([] if cell.journal is None else [(ACTIONS[event], cell.journal, True)])
        new = cell.counter is not None and (cell.counter, at(0).date()) not in {(c.counter, c.day) for c in _counts_of(WAYS[state])}
        assert net(folded.counts) == ([(cell.counter, 0, 1)] if new else [])
        assert len(folded.welcomes) == (event in {Event.START, Event.RESTART})


def _counts_of(way: Iterable[Sighting]) -> tuple[Count, ...]:
    return Story().arrives(*way).counts


def test_the_page_shows_the_table_and_the_diagram_as_they_are() -> None:
    page = DOC.read_text()
    rows = re.findall(r"^\| (none|wait|hold|approve|cancel|trash) \| (\w+) \| (\w+) \|(.*)\|(.*)\|(.*)\|$", page, re.MULTILINE)
    assert [(a, b, c, d.strip(), e.strip(), f.strip()) for a, b, c, d, e, f in rows] == [
        (name(state), event.value, name(cell.next), _says(cell), cell.journal or "", cell.counter or "")
        for (state, event), cell in TABLE.items()
    ]
    drawn = {(a, event, b) for a, b, events in re.findall(r"^ +(\w+) --> (\w+): (.+)$", page, re.MULTILINE) for event in events.split(", ")}
    assert drawn == {(name(s), e.value, name(cell.next)) for (s, e), cell in TABLE.items() if cell.next is not s}


def _says(cell: Cell) -> str:
    return "" if cell.postback is None else name(cell.postback) + (" inside the window" if cell.windowed else "")


@pytest.mark.parametrize("state", Membership)
def test_a_change_between_two_ways_of_being_in_or_out_is_nothing(state: Membership) -> None:
    assert event_of(change(1, state, state)) is None
    folded = Story().arrives(start(0), change(1, state, state, own=False))
    assert folded.entries == ()
    assert [reason for _, reason in folded.aside] == [Aside.UNCHANGED]


# Clicks and welcomes


def test_each_accepted_start_is_welcomed_and_only_a_new_click_replaces_the_old_one() -> None:
    story = Story()
    for second, click, kept, postbacks in [
        (1, "", "", 1),
        (2, "", "", 0),
        (3, "a", "a", 1),
        (4, "a", "a", 0),
        (5, "", "a", 0),
        (6, "A", "A", 1),
    ]:
        folded = story.arrives(start(second, click))
        assert [w.click for w in folded.welcomes] == [kept]
        assert [o.click for o in folded.owed] == [kept] * postbacks
    assert story.arrives(start(6, "A"), start(1, "")).welcomes == ()
    assert story.kept.latest.start_time == at(1)


def test_an_earlier_start_that_comes_late_is_welcomed_too() -> None:
    story = Story()
    story.arrives(start(5, "b"))
    folded = story.arrives(start(1, "a"))
    assert [w.click for w in folded.welcomes] == ["a"]
    assert held(folded) == [(WAIT, Rule.SUPERSEDED)]
    assert (story.status, story.kept.latest.click, story.kept.latest.start_time) == (WAIT, "b", at(1))


# The unsub window


@pytest.mark.parametrize(
    ("window", "stay", "fires"), [(100, 99, True), (100, 100, True), (100, 101, False), (0, 10**8, True), (1, 1, True), (1, 2, False)]
)
@pytest.mark.parametrize(("way", "status"), [(leave, CANCEL), (kick, TRASH)])
def test_the_window_closes_after_its_last_second(
    window: int, stay: int, way: Callable[[float], Change], status: LeadStatus, fires: bool
) -> None:
    story = Story(Campaign(holdings=CAMPAIGN.holdings, epoch_since=CAMPAIGN.epoch_since, unsub_window=window))
    story.arrives(start(1), join(2))
    folded = story.arrives(way(2 + stay))
    assert story.status is status
    assert [o.status for o in folded.owed] == ([status] if fires else [])
    assert held(folded) == ([] if fires else [(status, Rule.WINDOW_CLOSED)])
    assert [c.counter for c in folded.counts] == [Counter.UNSUBS]


def test_the_window_counts_from_the_latest_join_also_when_it_comes_late() -> None:
    story = Story()
    story.arrives(start(1), join(2))
    assert held(story.arrives(leave(150))) == [(CANCEL, Rule.WINDOW_CLOSED)]
    folded = story.arrives(leave(50), join(60))
    assert owed(folded) == [(CANCEL, "a", 50), (APPROVE, "a", 60), (CANCEL, "a", 150)]
    assert story.kept.latest.join_time == at(60)


def test_a_window_edited_later_decides_nothing_anew() -> None:
    story = Story()
    story.arrives(start(1), join(2), leave(150))
    story.campaign = Campaign(holdings=CAMPAIGN.holdings, epoch_since=CAMPAIGN.epoch_since, unsub_window=0)
    assert owed(story.arrives(start(1.0, "a", message=99), request(3))) == []
    assert story.status is CANCEL


# Pauses, moves, epochs, deletion

PAUSED: Final = Campaign(
    holdings=CAMPAIGN.holdings, epoch_since=CAMPAIGN.epoch_since, unsub_window=100, pauses=(Span(since=at(10.4), until=at(20.6)),)
)


def test_while_paused_a_start_does_nothing_and_membership_changes_silently() -> None:
    story = Story(PAUSED)
    assert story.arrives(start(15)) == Folded(kept=Kept(), aside=((start(15), Aside.PAUSED),))
    story.arrives(start(1), join(2))
    folded = story.arrives(leave(15), start(16, "b"))
    assert (story.status, story.kept.latest.click) == (CANCEL, "a")
    assert (folded.owed, folded.welcomes, held(folded)) == ((), (), [(CANCEL, Rule.PAUSED)])
    assert net(folded.counts) == [(Counter.UNSUBS, 0, 1)]
    assert journal(folded) == [(Action.LEAVE, Attribution.PAID, True)]
    assert owed(story.arrives(unban(25))) == [], "nothing is caught up"
    assert owed(story.arrives(join(30))) == [(APPROVE, "a", 30)]


def test_a_late_step_from_a_pause_is_held_by_the_pause_and_a_late_step_from_before_it_is_owed() -> None:
    story = Story(PAUSED)
    story.arrives(start(1))
    assert story.arrives(join(15)).owed == ()
    assert owed(story.arrives(request(5))) == [(HOLD, "a", 5)]
    assert story.status is APPROVE


@pytest.mark.parametrize(("second", "paused"), [(9, False), (10, False), (11, True), (19, True), (20, False), (21, False)])
def test_the_seconds_of_pausing_and_resuming_count(second: int, paused: bool) -> None:
    assert weigh(PAUSED, start(second)) is (Aside.PAUSED if paused else Weight.FULL)
    assert weigh(PAUSED, join(second)) is (Weight.SILENT if paused else Weight.FULL)


def test_a_pause_that_lasts_holds_for_ever_and_whole_seconds_are_half_open() -> None:
    lasting = Campaign(holdings=CAMPAIGN.holdings, epoch_since=CAMPAIGN.epoch_since, unsub_window=0, pauses=(Span(since=at(10)),))
    assert [weigh(lasting, start(second)) for second in (9, 10, 10**6)] == [Weight.FULL, Aside.PAUSED, Aside.PAUSED]


MOVED: Final = Campaign(
    holdings=(Holding(bot=BOT, since=at(0), until=at(1000)), Holding(bot=OTHER, since=at(1000))), epoch_since=at(0), unsub_window=0
)
MONTH = 30 * 86400


@pytest.mark.parametrize(
    ("second", "bot", "counts"),
    [
        (999, BOT, Weight.FULL),
        (1000, BOT, Aside.MOVED),
        (1000 + MONTH - 1, BOT, Aside.MOVED),
        (1000 + MONTH, BOT, Aside.FOREIGN),
        (999, OTHER, Aside.FOREIGN),
        (1000, OTHER, Weight.FULL),
        (1000, STRANGER, Aside.FOREIGN),
    ],
)
def test_a_start_counts_by_the_bot_that_held_the_campaign(second: int, bot: int, counts: object) -> None:
    assert weigh(MOVED, start(second, bot=bot)) is counts


@pytest.mark.parametrize(
    ("second", "bot", "counts"),
    [(1060, BOT, True), (1061, BOT, False), (940, OTHER, True), (939, OTHER, False), (1000, STRANGER, False)],
)
def test_membership_has_a_minute_of_grace_with_both_bots(second: int, bot: int, counts: bool) -> None:
    for sighting in (request(second, bot=bot), change(second, OUT, IN, bot=bot)):
        assert weigh(MOVED, sighting) is (Weight.FULL if counts else Aside.FOREIGN)


def test_in_the_second_of_a_move_both_bots_hold_the_campaign() -> None:
    moved = Campaign(
        holdings=(Holding(bot=BOT, since=at(0), until=at(9.5)), Holding(bot=OTHER, since=at(9.5))), epoch_since=at(0), unsub_window=0
    )
    assert weigh(moved, start(9)) is weigh(moved, start(9, bot=OTHER)) is Weight.FULL
    assert (weigh(moved, start(10)), weigh(moved, start(8, bot=OTHER))) == (Aside.MOVED, Aside.FOREIGN)


def test_a_campaign_that_came_back_is_held_again() -> None:
    back = Campaign(holdings=(*MOVED.holdings[:1], Holding(bot=BOT, since=at(5000))), epoch_since=at(0), unsub_window=0)
    assert [weigh(back, start(second)) for second in (500, 2000, 5000)] == [Weight.FULL, Aside.MOVED, Weight.FULL]


def test_what_two_bots_saw_counts_once_and_two_starts_count_as_two() -> None:
    story = Story(MOVED)
    story.arrives(start(1))
    folded = story.arrives(change(990, OUT, IN), change(990, OUT, IN, bot=OTHER), request(980, bot=OTHER), request(980))
    assert [reason for _, reason in folded.aside] == [Aside.REPEATED, Aside.REPEATED]
    assert len(folded.entries) == 2
    assert len(story.arrives(start(995, "", message=7), start(995, "", message=8)).welcomes) == 2


def test_before_the_epoch_there_is_only_the_journal() -> None:
    fresh = Campaign(holdings=CAMPAIGN.holdings, epoch_since=at(10.5), unsub_window=0)
    story = Story(fresh)
    folded = story.arrives(start(8), join(9), request(9))
    assert (folded.lead, folded.welcomes, folded.owed, folded.counts) == (None, (), (), ())
    assert {e.attribution for e in folded.entries} == {Attribution.ORGANIC}
    assert [reason for _, reason in folded.aside] == [Aside.EARLIER]
    assert [w.click for w in story.arrives(start(10)).welcomes] == ["a"], "the second in which it begins belongs to it"
    assert story.status is WAIT
    assert journal(story.arrives(leave(9))) == [(Action.LEAVE, Attribution.ORGANIC, True)]
    assert story.arrives(join(9), leave(9), request(9)).entries == ()


def test_a_deleted_campaign_counts_nothing_any_more() -> None:
    deleted = Campaign(holdings=CAMPAIGN.holdings, epoch_since=CAMPAIGN.epoch_since, unsub_window=0, deleted=at(10.5))
    assert [weigh(deleted, what(10)) for what in (start, join, request)] == [Weight.FULL] * 3
    assert [weigh(deleted, what(11)) for what in (start, join, request)] == [Aside.DELETED] * 3
    assert weigh(replace(deleted, deleted=at(10)), start(10)) is Aside.DELETED
