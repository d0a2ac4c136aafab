"""Who plays: accounts, and things that go back and forth between two of them each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from shared.domain.plans import PLANS, PlanCode
from tests.chaos.records import Holdings
from tests.world import Account, World

#: Accounts without a limit, with one that leaves a few slots, with no slot left, and without a paid plan.
OPEN: Final = 24
TIGHT: Final = 6
FULL: Final = 2
UNPAID: Final = 2

#: Bots that move, and campaigns that move between two bots in one chat.
BOTS: Final = 60
CAMPAIGNS: Final = 30

LIMIT: Final = PLANS[PlanCode.CAT].campaigns_max
TIGHT_SLOTS: Final = 3
LEADS: Final = 20


@dataclass(frozen=True, slots=True)
class Thing:
    """A bot or a campaign, and the two accounts it goes between; the first has it at the start."""

    kind: str
    id: int
    homes: tuple[Account, Account]
    campaigns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Everybody and everything, and who has what at the start."""

    accounts: Sequence[Account]
    things: Sequence[Thing]
    full: Sequence[Account]
    unpaid: Sequence[Account]
    first: Holdings
    limits: Mapping[int, int]


def make_cast(world: World, random: Random) -> Cast:
    """The same for the same `random` on an empty database.

    Bots go between any two accounts, so that transfers cross each other in every direction; a tight account is the second home of many
    and has room for few of them.
    """
    bots: dict[int, int] = {}
    campaigns: dict[int, tuple[int, int]] = {}

    def add_bot(owner: Account, number: int, *, leads: int = 0) -> int:
        bot, added = world.bot_with_campaigns(owner, number, leads=leads)
        bots[bot] = owner.id
        campaigns.update(dict.fromkeys(added, (owner.id, bot)))
        return bot

    open_ = [world.account() for _ in range(OPEN)]
    tight = [world.account(plan=PlanCode.CAT) for _ in range(TIGHT)]
    full = [world.account(plan=PlanCode.CAT) for _ in range(FULL)]
    unpaid = [world.account(plan=PlanCode.KITTEN, lasts=None) for _ in range(UNPAID)]
    for account in tight:
        add_bot(account, LIMIT - TIGHT_SLOTS)
    for account in full:
        add_bot(account, LIMIT)
    things = []
    for number in range(BOTS):
        home, away = random.choice(open_), random.choice(tight) if number % 3 == 0 else random.choice(open_)
        while away is home:
            away = random.choice(open_)
        carries = number % 3
        things.append(Thing("bot", add_bot(home, carries, leads=LEADS if number % 5 == 0 else 0), (home, away), carries))
    for number in range(CAMPAIGNS):
        home, away = random.sample(open_, 2)
        chat = world.chat()
        here, there = world.bot(home, chat), world.bot(away, chat)
        bots |= {here: home.id, there: away.id}
        campaign = world.campaign(home, here, chat, leads=LEADS if number % 5 == 0 else 0)
        campaigns[campaign] = (home.id, here)
        things.append(Thing("camp", campaign, (home, away), 1))
    return Cast(
        accounts=[*open_, *tight, *full, *unpaid],
        things=things,
        full=full,
        unpaid=unpaid,
        first=Holdings(bots, campaigns),
        limits={account.id: LIMIT for account in (*tight, *full)},
    )
