"""camp/*: the account's campaigns."""

from typing import Any

from sqlalchemy import Connection

from services.gateway.answers import ApiError, Code, Reply, date
from services.gateway.params import Id, Page, Params, object_id
from shared.db import bots
from shared.db.accounts import Caller
from shared.db.schema import POSTBACKS


class CampaignId(Params):
    """One campaign."""

    id: Id = object_id("camp")


def list_campaigns(tx: Connection, caller: Caller, page: Page) -> Reply:
    """The account's campaigns that are not deleted."""
    rows, total = bots.get_campaigns(tx, caller.id, limit=page.limit, offset=page.offset)
    return Reply([_summary(row) for row in rows], total)


def get_campaign(tx: Connection, caller: Caller, wanted: CampaignId) -> Reply:
    """One campaign with all its settings."""
    row = bots.get_campaign(tx, caller.id, wanted.id)
    if row is None:
        raise ApiError(Code.NOTFOUND, "You have no campaign with this id.", field="id")
    settings = ("welcome", "media", "button_text", "button_url", *POSTBACKS, "unsub_window")
    return Reply({**_summary(row), **{name: row[name] for name in settings}})


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "code": row["code"],
        "bot": row["bot_id"],
        "bot_username": row["bot_username"],
        "chat": row["chat"],
        "chat_title": row["chat_title"],
        "status": row["status"],
        "warning": int(row["warning"]),
        "starts": row["starts"],
        "confirms": row["confirms"],
        "unsubs": row["unsubs"],
        "created": date(row["created"]),
    }
