"""Notices of an account."""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select

from shared.db.schema import notice

_NOTICES: Final = (
    select(notice.c.id, notice.c.kind, notice.c.params, notice.c.created)
    .where(notice.c.account_id == bindparam("account"))
    .order_by(notice.c.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_COUNT: Final = select(func.count()).select_from(notice).where(notice.c.account_id == bindparam("account"))


def get_notices(tx: Connection, account_id: int, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page of the account's notices, newest first; and how many there are."""
    rows = tx.execute(_NOTICES, {"account": account_id, "limit": limit, "offset": offset}).mappings()
    return [dict(row) for row in rows], int(tx.execute(_COUNT, {"account": account_id}).scalar_one())
