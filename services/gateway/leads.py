"""leads/*: the account's leads."""

from datetime import UTC, datetime

from pydantic import Field
from sqlalchemy import Connection

from services.gateway.answers import Reply, date
from services.gateway.params import Id, Page, Status, UnixTime
from shared.db import leads
from shared.db.accounts import Caller
from shared.db.leads import LeadFilter


class Wanted(Page):
    """Which leads: of one campaign, in one status, started in a span of time, older than one already seen."""

    campaign: Id | None = None
    status: Status | None = None
    start_from: UnixTime | None = Field(default=None, validation_alias="from")
    start_to: UnixTime | None = Field(default=None, validation_alias="to")
    after: Id | None = None


def list_leads(tx: Connection, caller: Caller, wanted: Wanted) -> Reply:
    """The account's leads, newest first. A campaign that is not the account's has none."""
    rows, total = leads.get_leads(
        tx,
        caller.id,
        LeadFilter(
            campaign=wanted.campaign,
            status=wanted.status,
            start_from=_moment(wanted.start_from),
            start_to=_moment(wanted.start_to),
        ),
        after=wanted.after,
        limit=wanted.limit,
        offset=wanted.offset,
    )
    data = [
        {
            "id": row["id"],
            "campaign": row["campaign_id"],
            "subscriber": row["subscriber"],
            "username": row["username"],
            "click": row["click"],
            "status": row["status"],
            "start_time": date(row["start_time"]),
            "join_time": date(row["join_time"]),
            "updated": date(row["updated"]),
        }
        for row in rows
    ]
    return Reply(data, total)


def _moment(unix_time: int | None) -> datetime | None:
    return None if unix_time is None else datetime.fromtimestamp(unix_time, UTC)
