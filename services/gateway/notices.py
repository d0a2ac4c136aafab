"""notices/*: what the account's owner was told."""

from sqlalchemy import Connection

from services.gateway.answers import Reply, date
from services.gateway.params import Page
from shared.db import notices
from shared.db.accounts import Caller
from shared.domain.notices import NoticeKind, text


def list_notices(tx: Connection, caller: Caller, page: Page) -> Reply:
    """The account's notices, newest first, in the owner's language; `delivered` is when the service bot brought one, if it did."""
    rows, total = notices.get_notices(tx, caller.id, limit=page.limit, offset=page.offset)
    data = [
        {
            "id": row["id"],
            "kind": row["kind"],
            "text": text(NoticeKind(row["kind"]), row["params"], caller.lang),
            "time": date(row["created"]),
            "delivered": date(row["delivered"]),
        }
        for row in rows
    ]
    return Reply(data, total)
