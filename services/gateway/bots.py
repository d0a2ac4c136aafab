"""bots/*: the account's bots."""

from sqlalchemy import Connection

from services.gateway.answers import Reply, date
from services.gateway.params import Page
from shared.db import bots
from shared.db.accounts import Caller
from shared.domain.campaigns import bot_state


def list_bots(tx: Connection, caller: Caller, page: Page) -> Reply:
    """The account's bots, disconnected ones too."""
    rows, total = bots.get_bots(tx, caller.id, limit=page.limit, offset=page.offset)
    data = []
    for row in rows:
        status, reason = bot_state(connected=row["disconnected"] is None, revoked=row["token_revoked"], lacks_admin=row["lacks_admin"])
        data.append(
            {
                "id": row["id"],
                "tg": row["tg_id"],
                "username": row["username"],
                "name": row["name"],
                "status": status,
                "reason": reason,
                "created": date(row["created"]),
            }
        )
    return Reply(data, total)
