"""What a fold owes and takes back when things come late, and what it needs to keep."""

from dataclasses import replace
from itertools import permutations

import pytest

from shared.domain.fold import Folded, Rule, Told, fold, settle
from shared.domain.leads import Action, Aside, Attribution, Counter, LeadStatus, Sighting, Span
from tests.sim.story import (
    APPROVE,
    BANNED,
    CAMPAIGN,
    CANCEL,
    HOLD,
    IN,
    OUT,
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
)

# Late arrivals


def test_the_first_story_of_the_page() -> None:
    story = Story()
    folded = story.arrives(join(2))
    assert (folded.lead, journal(folded)) == (None, [(Action.JOIN, Attribution.ORGANIC, True)])
    folded = story.arrives(start(1, "A"))
    assert owed(folded) == [(WAIT, "A", 1), (APPROVE, "A", 2)]
    assert journal(folded) == [(Action.JOIN, Attribution.PAID, False)]
    assert owed(story.arrives(start(6, "B"))) == [(WAIT, "B", 6)]
    folded = story.arrives(kick(4))
    assert (story.status, owed(folded), held(folded)) == (WAIT, [], [(TRASH, Rule.SUPERSEDED)])
    folded = story.arrives(join(5))
    assert (story.status, owed(folded), held(folded)) == (APPROVE, [], [(APPROVE, Rule.SUPERSEDED)])
    assert story.kept.told == Told(says=WAIT, standing=APPROVE)


def test_the_second_story_of_the_page() -> None:
    story = Story()
    assert [o.number for o in story.arrives(start(1, "A"), join(2), leave(9)).owed] == [1, 2, 3]
    folded = story.arrives(kick(5))
    assert (owed(folded), held(folded), folded.owed[0].correction, folded.owed[0].number) == ([(TRASH, "A", 5)], [], True, 4)
    folded = story.arrives(join(7))
    assert (owed(folded), held(folded), folded.owed[0].number) == ([(CANCEL, "A", 9)], [(APPROVE, Rule.SUPERSEDED)], 5)
    assert story.status is CANCEL


def test_a_state_that_was_never_told_is_told_with_the_click_of_now() -> None:
    story = Story()
    assert owed(story.arrives(start(5, "B"))) == [(WAIT, "B", 5)]
    folded = story.arrives(start(1, "A"), join(2))
    assert owed(folded) == [(APPROVE, "B", 2)]
    assert held(folded) == [(WAIT, Rule.SUPERSEDED)]


def test_a_state_reached_in_a_pause_was_not_told_by_a_new_click_after_it() -> None:
    story = Story(replace(CAMPAIGN, pauses=(Span(since=at(10), until=at(20)),)))
    story.arrives(start(1, "A"), join(15))
    assert owed(story.arrives(start(30, "B"))) == [(WAIT, "B", 30)]
    folded = story.arrives(join(5))
    assert (story.status, owed(folded)) == (APPROVE, [(APPROVE, "B", 5)])


def test_a_counters_day_moves_and_a_hold_that_was_none_is_taken_back() -> None:
    day = 86400
    story = Story()
    story.arrives(start(day), request(day + 1), join(day + 2))
    assert net(story.arrives(start(0, "b")).counts) == [(Counter.STARTS, 1, -1), (Counter.STARTS, 0, 1)]
    assert net(story.arrives(join(1)).counts) == [(Counter.HOLDS, 1, -1), (Counter.CONFIRMS, 1, -1), (Counter.CONFIRMS, 0, 1)]


def test_each_counter_counts_once_for_ever() -> None:
    story = Story()
    story.arrives(start(1), request(2), join(3), leave(4))
    folded = story.arrives(start(5, "b"), request(6), join(7), kick(8))
    assert folded.counts == ()
    assert [o.status for o in folded.owed] == [WAIT, HOLD, APPROVE, TRASH]


def test_a_day_ends_at_midnight_utc() -> None:
    assert net(Story().arrives(start(43199)).counts) == [(Counter.STARTS, 0, 1)]
    assert net(Story().arrives(start(43200)).counts) == [(Counter.STARTS, 1, 1)]


def test_a_start_by_somebody_inside_waits_until_they_come_again() -> None:
    story = Story()
    story.arrives(join(1), start(2))
    assert story.status is WAIT
    story.arrives(leave(3))
    assert story.status is WAIT
    story.arrives(join(4))
    assert story.status is APPROVE


# One second


@pytest.mark.parametrize(
    ("before", "second", "status"),
    [
        ((start(1), join(2)), (leave(5), join(5)), APPROVE),
        ((start(1),), (join(5), leave(5)), CANCEL),
        ((start(1), join(2), leave(3)), (join(5), leave(5)), CANCEL),
        ((start(1), join(2)), (change(5, IN, BANNED, own=False), change(5, BANNED, OUT), change(5, OUT, IN)), APPROVE),
        ((start(1), join(2)), (change(5, IN, OUT), change(5, OUT, IN), change(5, IN, BANNED, own=False)), TRASH),
        ((start(1),), (change(5, IN, OUT), change(5, OUT, BANNED), change(5, OUT, IN)), CANCEL),
        ((), (start(5), request(5), join(5)), APPROVE),
        ((), (start(5), request(5), join(5), leave(5)), CANCEL),
        ((start(1), join(2), leave(3)), (start(5, "b"), request(5)), HOLD),
    ],
)
def test_within_a_second_the_chain_of_membership_decides_then_start_request_join_leave(
    before: tuple[Sighting, ...], second: tuple[Sighting, ...], status: LeadStatus
) -> None:
    for order in permutations(second):
        story = Story()
        story.arrives(*before)
        for sighting in order:
            story.arrives(sighting)
        assert story.status is status


def test_the_later_of_two_starts_in_a_second_is_the_one_with_the_higher_number() -> None:
    for order in permutations((start(5, "a", message=9), start(5, "b", message=10))):
        story = Story()
        story.arrives(*order)
        assert story.kept.latest.click == "b"


# What is kept


def test_nothing_comes_of_what_was_seen_before() -> None:
    story = Story()
    everything = (start(1), request(2), join(3), leave(4))
    story.arrives(*everything)
    again = story.arrives(*reversed(everything))
    assert again == Folded(kept=story.kept, aside=tuple((s, Aside.REPEATED) for s in reversed(everything)))


def test_what_changed_is_what_is_to_be_written() -> None:
    story = Story()
    story.arrives(start(1), join(2))
    assert [f.sighting for f in story.arrives(leave(3)).changed] == [leave(3)]
    assert {f.sighting for f in story.arrives(start(0, "z")).changed} == {start(0, "z")}


def test_facts_folded_away_leave_the_lead_as_it_is_and_a_late_one_follows_them() -> None:
    story = Story()
    story.arrives(start(1), join(2), leave(50), request(60))
    story.kept = settle(story.kept, at(50))
    assert [f.sighting for f in story.kept.facts] == [leave(50), request(60)]
    assert story.kept.base.status is APPROVE
    assert settle(story.kept, at(50)) is story.kept
    folded = story.arrives(join(55))
    assert (story.status, held(folded), owed(folded)) == (APPROVE, [], [(APPROVE, "a", 55)])
    story.kept = settle(story.kept, at(1000))
    assert owed(story.arrives(kick(3))) == [(TRASH, "a", 3)]


def test_what_is_dated_before_the_epoch_is_only_journalled_also_after_facts_that_were_folded_away() -> None:
    story = Story(replace(CAMPAIGN, epoch_since=at(0)))
    story.arrives(start(1), request(2))
    story.kept = settle(story.kept, at(100))
    folded = story.arrives(join(-5))
    assert (story.status, folded.owed, folded.counts) == (HOLD, (), ())
    assert journal(folded) == [(Action.JOIN, Attribution.ORGANIC, True)]


def test_what_is_dated_after_everything_needs_no_facts() -> None:
    story, short = Story(), Story()
    for sighting in (start(1), join(2), leave(3), start(4, "b"), request(5), join(6)):
        slow = story.arrives(sighting)
        quick = fold(CAMPAIGN, short.kept.ahead(), [sighting])
        short.kept = quick.kept
        assert (quick.owed, quick.entries, quick.counts, quick.welcomes) == (slow.owed, slow.entries, slow.counts, slow.welcomes)
        assert quick.kept.latest == slow.kept.latest
        assert quick.changed == slow.changed
