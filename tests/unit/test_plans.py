"""The price list, and what a plan allows when."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain import plans
from shared.domain.plans import PLANS, PlanCode

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
PAID = [PlanCode.CAT, PlanCode.TIGER]


def test_the_price_list_is_the_published_one() -> None:
    assert [(p.code, p.name, p.campaigns_max, p.price_usd, p.price_rub) for p in PLANS.values()] == [
        ("kitten", "Kitten", 1, 0, 0),
        ("cat", "Kitty", 15, 24, 2400),
        ("tiger", "Tiger", -1, 88, 8800),
    ]
    assert list(PLANS) == list(PlanCode)


@pytest.mark.parametrize("plan", PAID)
def test_a_plan_is_paid_until_its_very_end_and_not_at_it(plan: PlanCode) -> None:
    assert plans.is_paid(plan, NOW + TICK, NOW)
    assert not plans.is_paid(plan, NOW, NOW)
    assert not plans.is_paid(plan, NOW - TICK, NOW)
    assert not plans.is_paid(plan, None, NOW)


@pytest.mark.parametrize("until", [None, NOW - timedelta(days=99), NOW + timedelta(days=99)])
def test_the_free_plan_is_never_paid_and_never_lapses(until: datetime | None) -> None:
    assert not plans.is_paid(PlanCode.KITTEN, until, NOW)
    assert not plans.is_lapsed(PlanCode.KITTEN, until, NOW)


@pytest.mark.parametrize("plan", PAID)
def test_a_plan_lapses_when_more_than_seven_days_have_passed(plan: PlanCode) -> None:
    week = timedelta(days=7)
    assert not plans.is_lapsed(plan, NOW, NOW)
    assert not plans.is_lapsed(plan, NOW - week, NOW)
    assert plans.is_lapsed(plan, NOW - week - TICK, NOW)
    assert not plans.is_lapsed(plan, NOW + TICK, NOW)


def test_a_payment_adds_thirty_days_of_seconds() -> None:
    assert plans.PAID_PERIOD.total_seconds() == 30 * 86_400


@pytest.mark.parametrize(
    ("plan", "active", "adding", "over"),
    [
        (PlanCode.KITTEN, 0, 1, False),
        (PlanCode.KITTEN, 1, 1, True),
        (PlanCode.CAT, 14, 1, False),
        (PlanCode.CAT, 15, 1, True),
        (PlanCode.CAT, 0, 15, False),
        (PlanCode.CAT, 0, 16, True),
        (PlanCode.CAT, 16, 0, False),
        (PlanCode.CAT, 16, 1, True),
        (PlanCode.TIGER, 10**6, 10**6, False),
    ],
)
def test_what_is_added_must_fit_and_adding_nothing_always_does(plan: PlanCode, active: int, adding: int, over: bool) -> None:
    assert plans.exceeds(plan, active=active, adding=adding) is over


@pytest.mark.parametrize(
    ("plan", "active", "slots"),
    [
        (PlanCode.KITTEN, 0, 1),
        (PlanCode.KITTEN, 5, 0),
        (PlanCode.CAT, 0, 15),
        (PlanCode.CAT, 15, 0),
        (PlanCode.CAT, 16, 0),
        (PlanCode.TIGER, 0, -1),
        (PlanCode.TIGER, 99, -1),
    ],
)
def test_free_slots_are_never_below_none_and_minus_one_without_a_limit(plan: PlanCode, active: int, slots: int) -> None:
    assert plans.free_slots(plan, active=active) == slots
