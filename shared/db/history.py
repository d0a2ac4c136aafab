"""Transfers as their two sides see them. The other side appears by its display name only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, text

# A sender sees each of its commands, whatever became of it; a recipient only what it received.
_SIDES: Final = """
    SELECT c.id, c.kind, c.object_id, 'out' AS direction, c.keep_leads, c.state, c.reason, c.field, c.created, c.finished,
           t.title, t.leads, cardinality(t.campaigns) AS campaigns, other.name AS other
    FROM command c LEFT JOIN transfer t ON t.command_id = c.id LEFT JOIN account other ON other.id = t.to_account
    WHERE c.account_id = :account {which}
    UNION ALL
    SELECT t.command_id, t.kind, t.object_id, 'in', t.keep_leads, 'done', '', '', t.at, t.at,
           t.title, t.leads, cardinality(t.campaigns), other.name
    FROM transfer t JOIN account other ON other.id = t.from_account
    WHERE t.to_account = :account {which_in}
"""
_ONE: Final = text(_SIDES.format(which="AND c.id = :command", which_in="AND t.command_id = :command")).bindparams(
    bindparam("account"), bindparam("command")
)
_PAGE: Final = text(_SIDES.format(which="", which_in="") + " ORDER BY created DESC, id DESC LIMIT :limit OFFSET :offset")
_COUNT: Final = text(
    """SELECT (SELECT count(*) FROM command WHERE account_id = :account) + (SELECT count(*) FROM transfer WHERE to_account = :account)"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One transfer, finished or not, from one side. `title`, `other`, `campaigns` and `leads` are known once it happened."""

    id: UUID
    kind: str
    object_id: int
    direction: str
    keep_leads: bool
    state: str
    reason: str
    field: str
    created: datetime
    finished: datetime | None
    title: str | None
    leads: int | None
    campaigns: int | None
    other: str | None


def get_entry(tx: Connection, account_id: int, command: UUID) -> Entry | None:
    """The transfer with this id, when the account is one of its sides."""
    row = tx.execute(_ONE, {"account": account_id, "command": command}).mappings().first()
    return _entry(row) if row else None


def get_entries(tx: Connection, account_id: int, *, limit: int, offset: int) -> tuple[list[Entry], int]:
    """A page of the account's transfers in both directions, newest first; and how many there are."""
    rows = tx.execute(_PAGE, {"account": account_id, "limit": limit, "offset": offset}).mappings()
    return [_entry(row) for row in rows], int(tx.execute(_COUNT, {"account": account_id}).scalar_one())


def _entry(row: Any) -> Entry:
    return Entry(**row)
