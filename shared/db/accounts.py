"""Accounts: who calls, what they pay for, and their transfer token."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from shared.db.connect import Raw
from shared.db.schema import POSTBACKS, account, bot, campaign
from shared.domain.campaigns import CampaignStatus
from shared.domain.notices import Language
from shared.domain.plans import PlanCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An account as a request's credential is checked against it. `now` is the database's clock at that moment."""

    id: int
    name: str
    lang: Language
    key_hash: bytes
    suspended: bool
    plan: PlanCode
    paid_until: datetime | None
    now: datetime


_CALLERS: Final = (
    "SELECT id, name, lang, key_hash, suspended, plan, paid_until, clock_timestamp() FROM account WHERE id = ANY(%(ids)s::bigint[])"
)


def get_callers(db: Raw, ids: Sequence[int]) -> dict[int, Caller]:
    """The accounts among these ids."""
    rows = db.execute(_CALLERS, {"ids": list(ids)}, prepare=True)
    return {
        i: Caller(
            id=i,
            name=name,
            lang=Language(lang),
            key_hash=bytes(key_hash),
            suspended=suspended,
            plan=PlanCode(plan),
            paid_until=paid_until,
            now=now,
        )
        for i, name, lang, key_hash, suspended, plan, paid_until, now in rows
    }


def add(tx: Connection, *, name: str, login: str, key_hash: bytes, transfer_token: str) -> int:
    """Create an account on the free plan and return its id."""
    row = insert(account).values(name=name, login=login, key_hash=key_hash, transfer_token=transfer_token)
    return int(tx.execute(row.returning(account.c.id)).scalar_one())


def set_plan(tx: Connection, account_id: int, plan: PlanCode, lasts: timedelta | None) -> bool:
    """Put an account on a plan, from now for so long (None: without end). False when there is no such account.

    The account is locked by the UPDATE itself, as everything that changes a slot must do.
    """
    until = None if lasts is None else func.now() + lasts
    changed = update(account).where(account.c.id == account_id).values(plan=plan.value, paid_until=until)
    return tx.execute(changed).rowcount == 1


_LOCK: Final = select(account.c.id).where(account.c.id == bindparam("account")).with_for_update(key_share=True)


def lock(tx: Connection, account_id: int) -> None:
    """Hold the account, as whatever changes an owner or a slot must do first; facts are read in the next statement.

    Who meets the holder waits, for at most the lock timeout.
    """
    tx.execute(_LOCK, {"account": account_id}).one()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An account as the operator sees it: no key, no token."""

    id: int
    name: str
    login: str
    plan: PlanCode
    paid_until: datetime | None
    suspended: bool
    bots: int
    active: int


_ACTIVE = (
    select(func.count())
    .where(campaign.c.account_id == account.c.id, campaign.c.status == CampaignStatus.ACTIVE)
    .scalar_subquery()
    .label("active")
)
_KEPT = (
    select(func.count())
    .where(campaign.c.account_id == account.c.id, campaign.c.status != CampaignStatus.DELETED)
    .scalar_subquery()
    .label("campaigns")
)
_CONNECTED = select(func.count()).where(bot.c.account_id == account.c.id, bot.c.disconnected.is_(None)).scalar_subquery().label("bots")
_LISTED = (
    select(*(account.c[name] for name in ("id", "name", "login", "plan", "paid_until", "suspended")), _CONNECTED, _ACTIVE)
    .where(account.c.id > bindparam("after"))
    .order_by(account.c.id)
    .limit(bindparam("limit"))
)


def get_all(tx: Connection, *, after: int, limit: int) -> list[Listed]:
    """A page of all accounts by id; `bots` counts the connected ones, `active` the active campaigns."""
    rows = tx.execute(_LISTED, {"after": after, "limit": limit}).mappings()
    return [Listed(**{**row, "plan": PlanCode(row["plan"])}) for row in rows]


_PROFILE = select(
    *(account.c[name] for name in ("id", "name", "login", "lang", "plan", "paid_until", *POSTBACKS, "notify_tariff", "notify_leads")),
    _KEPT,
).where(account.c.id == bindparam("account"))


def get_profile(tx: Connection, account_id: int) -> dict[str, Any]:
    """The account's own view of itself; `campaigns` counts the non-deleted ones."""
    return dict(tx.execute(_PROFILE, {"account": account_id}).mappings().one())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """What anybody holding a transfer token may learn: a name, and whether the account could receive."""

    name: str
    plan: PlanCode
    paid_until: datetime | None
    active: int
    now: datetime


_RECIPIENT = select(account.c.name, account.c.plan, account.c.paid_until, _ACTIVE, func.clock_timestamp().label("now")).where(
    account.c.transfer_token == bindparam("token"), ~account.c.suspended
)


def find_recipient(tx: Connection, token: str) -> Recipient | None:
    """The account with this token, unless it is suspended."""
    row = tx.execute(_RECIPIENT, {"token": token}).one_or_none()
    if row is None:
        return None
    return Recipient(name=row.name, plan=PlanCode(row.plan), paid_until=row.paid_until, active=row.active, now=row.now)


_TOKEN = select(account.c.transfer_token).where(account.c.id == bindparam("account"))
_SET_TOKEN = update(account).where(account.c.id == bindparam("account")).values(transfer_token=bindparam("token"))


def get_transfer_token(tx: Connection, account_id: int) -> str:
    """The account's transfer token."""
    return str(tx.execute(_TOKEN, {"account": account_id}).scalar_one())


def set_transfer_token(tx: Connection, account_id: int, token: str) -> None:
    """Replace the transfer token. The old one is dead once this commits.

    A transfer that holds the account's lock commits first, to the old token; one that has not locked it yet finds the token changed.
    """
    tx.execute(_SET_TOKEN, {"account": account_id, "token": token})
