"""Plans: what an account may run, what it costs, and when it counts as paid."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: How long after its paid days an account still tracks, posts back and may send transfers.
GRACE = timedelta(days=7)

#: What one payment adds.
PAID_PERIOD = timedelta(seconds=30 * 86_400)

#: A plan's limit that is none, as the API writes it.
UNLIMITED = -1


class PlanCode(StrEnum):
    """The code of a plan; part of the public API."""

    KITTEN = "kitten"
    CAT = "cat"
    TIGER = "tiger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One row of the price list. Prices are whole US dollars and roubles for 30 days."""

    code: PlanCode
    name: str
    campaigns_max: int
    price_usd: int
    price_rub: int


PLANS = {
    plan.code: plan
    for plan in (
        Plan(code=PlanCode.KITTEN, name="Kitten", campaigns_max=1, price_usd=0, price_rub=0),
        Plan(code=PlanCode.CAT, name="Kitty", campaigns_max=15, price_usd=24, price_rub=2400),
        Plan(code=PlanCode.TIGER, name="Tiger", campaigns_max=UNLIMITED, price_usd=88, price_rub=8800),
    )
}


def is_paid(plan: PlanCode, paid_until: datetime | None, now: datetime) -> bool:
    """Whether the account may receive transfers: a paid plan whose days are not over."""
    return plan is not PlanCode.KITTEN and paid_until is not None and now < paid_until


def is_lapsed(plan: PlanCode, paid_until: datetime | None, now: datetime) -> bool:
    """Whether the API answers `unpaid`: a paid plan ran out more than the grace ago. The free plan never does."""
    return plan is not PlanCode.KITTEN and paid_until is not None and now > paid_until + GRACE


def exceeds(plan: PlanCode, *, active: int, adding: int) -> bool:
    """Whether `adding` campaigns would not fit beside the `active` ones. Adding none always fits, even above the limit."""
    limit = PLANS[plan].campaigns_max
    return adding > 0 and limit != UNLIMITED and active + adding > limit


def free_slots(plan: PlanCode, *, active: int) -> int:
    """How many more active campaigns the plan allows; `UNLIMITED` for a plan without a limit."""
    limit = PLANS[plan].campaigns_max
    return UNLIMITED if limit == UNLIMITED else max(0, limit - active)
