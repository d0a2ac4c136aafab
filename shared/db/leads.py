"""Leads as their owner lists them: pages by key, totals from counters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, literal, select, true
from sqlalchemy.sql.selectable import LateralFromClause

from shared.db.schema import campaign, lead, lead_counter
from shared.domain.leads import LeadStatus

_STATUS_COUNTERS: Final = {
    LeadStatus.WAIT: lead_counter.c.n_wait,
    LeadStatus.HOLD: lead_counter.c.n_hold,
    LeadStatus.APPROVE: lead_counter.c.n_approve,
    LeadStatus.CANCEL: lead_counter.c.n_cancel,
    LeadStatus.TRASH: lead_counter.c.n_trash,
}
_ALL_COUNTERS: Final = sum(_STATUS_COUNTERS.values(), literal(0))
_COLUMNS: Final = ("id", "campaign_id", "subscriber", "username", "click", "status", "start_time", "join_time", "updated")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadFilter:
    """Which leads: of one campaign, in one status, with `start_from ≤ start_time < start_to`. None leaves a condition out."""

    campaign: int | None = None
    status: LeadStatus | None = None
    start_from: datetime | None = None
    start_to: datetime | None = None

    def of_lead(self) -> list[ColumnElement[bool]]:
        """The conditions on a lead itself."""
        filters: list[ColumnElement[bool]] = []
        if self.status is not None:
            filters.append(lead.c.status == self.status)
        if self.start_from is not None:
            filters.append(lead.c.start_time >= self.start_from)
        if self.start_to is not None:
            filters.append(lead.c.start_time < self.start_to)
        return filters

    def of_campaign(self, account_id: int) -> list[ColumnElement[bool]]:
        """The conditions on its campaign: the account's, and the one that is wanted."""
        owned: list[ColumnElement[bool]] = [campaign.c.account_id == account_id]
        return owned if self.campaign is None else [*owned, campaign.c.id == self.campaign]


def get_leads(
    tx: Connection, account_id: int, wanted: LeadFilter, *, after: int | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """A page of the account's leads, newest first, and how many fit the filter. `after` is the last id already seen."""
    owned, filters = wanted.of_campaign(account_id), wanted.of_lead()
    newest = _newest(filters, after, offset + limit)
    page = select(newest).select_from(campaign.join(newest, true())).where(*owned).order_by(newest.c.id.desc()).limit(limit).offset(offset)
    rows = [dict(row) for row in tx.execute(page).mappings()]
    dated = wanted.start_from is not None or wanted.start_to is not None
    return rows, _count(tx, owned, filters) if dated else _count_by_counters(tx, owned, wanted.status)


def _newest(filters: list[ColumnElement[bool]], after: int | None, limit: int) -> LateralFromClause:
    """The newest leads of one campaign, read from the end of its index.

    The campaign's epoch is joined here and not by the view `current_lead`: only with both key columns given does the index yield the order.
    """
    older = [lead.c.id < after] if after is not None else []
    return (
        select(*(lead.c[name] for name in _COLUMNS))
        .where(lead.c.campaign_id == campaign.c.id, lead.c.epoch == campaign.c.lead_epoch, *filters, *older)
        .order_by(lead.c.id.desc())
        .limit(limit)
        .correlate(campaign)
        .lateral("newest")
    )


def _count_by_counters(tx: Connection, owned: list[ColumnElement[bool]], status: LeadStatus | None) -> int:
    counter = _ALL_COUNTERS if status is None else _STATUS_COUNTERS[status]
    joined = campaign.join(lead_counter, (lead_counter.c.campaign_id == campaign.c.id) & (lead_counter.c.epoch == campaign.c.lead_epoch))
    return int(tx.execute(select(func.coalesce(func.sum(counter), 0)).select_from(joined).where(*owned)).scalar_one())


def _count(tx: Connection, owned: list[ColumnElement[bool]], filters: list[ColumnElement[bool]]) -> int:
    joined = campaign.join(lead, (lead.c.campaign_id == campaign.c.id) & (lead.c.epoch == campaign.c.lead_epoch))
    return int(tx.execute(select(func.count()).select_from(joined).where(*owned, *filters)).scalar_one())
