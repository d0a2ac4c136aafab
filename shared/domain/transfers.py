"""Who may hand what to whom: the checks of a transfer, in their fixed order, and what a transfer changes.

A decision reads `Facts` and returns a `Move` or the `Refusal`s; nothing is written here. The ledger decides with it on locked rows,
the preview with the same functions on unlocked ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.domain import plans
from shared.domain.campaigns import CampaignStatus
from shared.domain.plans import PlanCode


class Kind(StrEnum):
    """What moves. The value is also the name of the parameter that holds the object's id."""

    BOT = "bot"
    CAMPAIGN = "camp"


class Reason(StrEnum):
    """Why a transfer is refused; part of the public API."""

    NOTFOUND = "notfound"
    SELF = "self"
    UNPAID = "unpaid"
    LIMIT = "limit"
    NOBOT = "nobot"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final answer to a transfer that may not happen: the reason, and the parameter to blame."""

    reason: Reason
    field: str

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return _SENTENCES[self.reason, self.field]


_SENTENCES = {
    (Reason.NOTFOUND, "token"): "No account has this recipient token.",
    (Reason.NOTFOUND, "bot"): "You have no connected bot with this id.",
    (Reason.NOTFOUND, "camp"): "You have no campaign with this id.",
    (Reason.SELF, "token"): "This recipient token is your own.",
    (Reason.UNPAID, "token"): "The recipient has no active paid plan.",
    (Reason.LIMIT, "token"): "The recipient does not have enough free campaign slots.",
    (Reason.NOBOT, "token"): "No bot of the recipient is an administrator of the campaign's chat.",
    (Reason.EXISTS, "token"): "Every fitting bot of the recipient already has a campaign in this chat.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A transfer as its sender asked for it, and the account its token named when it was looked up."""

    id: UUID
    kind: Kind
    sender: int
    object_id: int
    token: str
    keep_leads: bool
    recipient: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a transfer needs to know of an account. `active` counts its active campaigns."""

    id: int
    name: str
    token: str
    suspended: bool
    plan: PlanCode
    paid_until: datetime | None
    active: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """What a transfer needs to know of a bot. `campaigns` counts its non-deleted ones."""

    id: int
    account: int
    username: str
    connected: bool
    revoked: bool
    campaigns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What a transfer needs to know of a non-deleted campaign. `leads` counts those of the current epoch."""

    id: int
    account: int
    bot: int
    chat: int
    code: str
    chat_title: str
    status: CampaignStatus
    epoch: int
    own_templates: bool
    leads: int


@dataclass(slots=True, kw_only=True)
class Facts:
    """The state a decision is made on. `carry_out` folds each decided move into it, so that the next one sees the result.

    `admins` names, per chat, the bots that are administrators there; `occupied` the (bot, chat) pairs that have a campaign.
    """

    now: datetime
    accounts: dict[int, Account]
    bots: dict[int, Bot]
    campaigns: dict[int, Campaign]
    admins: dict[int, frozenset[int]]
    occupied: set[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A transfer that may happen: each campaign before and after, and the bot when the bot itself moves."""

    request: Request
    recipient: Account
    sender: Account
    bot: Bot | None
    campaigns: tuple[tuple[Campaign, Campaign], ...]

    @property
    def leads(self) -> int:
        """How many leads go along, or go away."""
        return sum(before.leads for before, _ in self.campaigns)

    @property
    def title(self) -> str:
        """The moved thing as a person knows it."""
        if self.bot is not None:
            return f"@{self.bot.username}"
        campaign = self.campaigns[0][0]
        return f"{campaign.code} ({campaign.chat_title})"


def refusals(facts: Facts, request: Request) -> list[Refusal]:
    """Every reason against the transfer, in the order of the checks; the first is the answer, none means it may happen.

    A check whose subject is missing (no such account, no such object) has nothing to say.
    """
    recipient = _recipient(facts, request)
    found = moving(facts, request)
    field = request.kind.value
    reasons: list[Refusal] = []
    if recipient is None:
        reasons.append(Refusal(Reason.NOTFOUND, "token"))
    if found is None:
        reasons.append(Refusal(Reason.NOTFOUND, field))
    if recipient is None:
        return reasons
    if recipient.id == request.sender:
        reasons.append(Refusal(Reason.SELF, "token"))
    if not plans.is_paid(recipient.plan, recipient.paid_until, facts.now):
        reasons.append(Refusal(Reason.UNPAID, "token"))
    if found is not None and plans.exceeds(recipient.plan, active=recipient.active, adding=len(found)):
        reasons.append(Refusal(Reason.LIMIT, "token"))
    if found is not None and request.kind is Kind.CAMPAIGN:
        seats = _seats(facts, recipient, found[0].chat)
        if not seats:
            reasons.append(Refusal(Reason.NOBOT, "token"))
        elif all((seat.id, found[0].chat) in facts.occupied for seat in seats):
            reasons.append(Refusal(Reason.EXISTS, "token"))
    return reasons


def decide(facts: Facts, request: Request) -> Move | Refusal:
    """What becomes of the request on these facts."""
    reasons = refusals(facts, request)
    if reasons:
        return reasons[0]
    recipient, found = _recipient(facts, request), moving(facts, request)
    assert recipient is not None and found is not None, "refusals() answers for what is missing"  # noqa: PT018
    target = _target(facts, recipient, found[0].chat) if request.kind is Kind.CAMPAIGN else None
    return Move(
        request=request,
        sender=facts.accounts[request.sender],
        recipient=recipient,
        bot=facts.bots[request.object_id] if request.kind is Kind.BOT else None,
        campaigns=tuple(
            (
                campaign,
                replace(
                    campaign,
                    account=recipient.id,
                    bot=target.id if target else campaign.bot,
                    epoch=campaign.epoch if request.keep_leads else campaign.epoch + 1,
                    leads=campaign.leads if request.keep_leads else 0,
                ),
            )
            for campaign in found
        ),
    )


def carry_out(facts: Facts, move: Move) -> None:
    """Fold a decided move into the facts, as the database will hold them once it is written."""
    if move.bot is not None:
        facts.bots[move.bot.id] = replace(move.bot, account=move.recipient.id)
    for before, after in move.campaigns:
        facts.campaigns[after.id] = after
        if before.bot != after.bot:
            facts.occupied.discard((before.bot, before.chat))
            facts.occupied.add((after.bot, after.chat))
            _load(facts, before.bot, -1)
            _load(facts, after.bot, +1)
        if before.status is CampaignStatus.ACTIVE:
            _activate(facts, before.account, -1)
            _activate(facts, after.account, +1)


def moving(facts: Facts, request: Request) -> Sequence[Campaign] | None:
    """The campaigns that would move, by id; None where the object is not the sender's to give."""
    if request.kind is Kind.CAMPAIGN:
        campaign = facts.campaigns.get(request.object_id)
        return [campaign] if campaign is not None and campaign.account == request.sender else None
    bot = facts.bots.get(request.object_id)
    if bot is None or bot.account != request.sender or not bot.connected:
        return None
    return sorted((c for c in facts.campaigns.values() if c.bot == bot.id), key=lambda c: c.id)


def _recipient(facts: Facts, request: Request) -> Account | None:
    """The account the token names now: it was looked up before the lock and may have been regenerated since."""
    account = facts.accounts.get(request.recipient) if request.recipient is not None else None
    return account if account is not None and account.token == request.token and not account.suspended else None


def _seats(facts: Facts, recipient: Account, chat: int) -> list[Bot]:
    """The recipient's bots that can hold a campaign of this chat."""
    bots = (facts.bots[bot] for bot in facts.admins.get(chat, frozenset()) if bot in facts.bots)
    return [bot for bot in bots if bot.account == recipient.id and bot.connected and not bot.revoked]


def _target(facts: Facts, recipient: Account, chat: int) -> Bot:
    """The free seat with the fewest campaigns, then the lowest id."""
    free = [seat for seat in _seats(facts, recipient, chat) if (seat.id, chat) not in facts.occupied]
    return min(free, key=lambda seat: (seat.campaigns, seat.id))


def _load(facts: Facts, bot_id: int, change: int) -> None:
    if (bot := facts.bots.get(bot_id)) is not None:
        facts.bots[bot_id] = replace(bot, campaigns=bot.campaigns + change)


def _activate(facts: Facts, account_id: int, change: int) -> None:
    account = facts.accounts[account_id]
    facts.accounts[account_id] = replace(account, active=account.active + change)
