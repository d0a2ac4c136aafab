"""Notices of an account, and the owner to whom the service bot brings them."""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from shared.db.schema import account, notice
from shared.db.telegram_schema import SERVICE_BOT, bot_session

_NOTICES: Final = (
    select(notice.c.id, notice.c.kind, notice.c.params, notice.c.created, notice.c.delivered)
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


def set_link_code(tx: Connection, account_id: int, code: str) -> bool:
    """Give the account the code that links its owner, once; the one before is worth nothing any more. False if there is none."""
    return tx.execute(update(account).where(account.c.id == account_id).values(link_code=code)).rowcount == 1


def get_service_username(tx: Connection) -> str:
    """The service bot's username as Telegram said it at its last login; empty if it has never logged in."""
    return tx.execute(select(bot_session.c.username).where(bot_session.c.bot_id == SERVICE_BOT)).scalar_one_or_none() or ""
