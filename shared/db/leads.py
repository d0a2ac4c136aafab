"""Leads as their owner lists them: pages by key, totals from counters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, func, insert, literal, select, true
from sqlalchemy.sql.selectable import LateralFromClause

from shared.db.schema import campaign, current_counter, current_lead, lead, lead_counter
from shared.domain.leads import LeadStatus

_STATUS_COUNTERS: Final = {
    LeadStatus.WAIT: current_counter.c.n_wait,
    LeadStatus.HOLD: current_counter.c.n_hold,
    LeadStatus.APPROVE: current_counter.c.n_approve,
    LeadStatus.CANCEL: current_counter.c.n_cancel,
    LeadStatus.TRASH: current_counter.c.n_trash,
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

    def of_lead(self, leads: FromClause) -> list[ColumnElement[bool]]:
        """The conditions on a lead itself."""
        filters: list[ColumnElement[bool]] = []
        if self.status is not None:
            filters.append(leads.c.status == self.status)
        if self.start_from is not None:
            filters.append(leads.c.start_time >= self.start_from)
        if self.start_to is not None:
            filters.append(leads.c.start_time < self.start_to)
        return filters

    def of_campaign(self, account_id: int, rows: FromClause, campaign_column: str) -> list[ColumnElement[bool]]:
        """The conditions on its campaign: the account's, and the one that is wanted."""
        owned: list[ColumnElement[bool]] = [rows.c.account_id == account_id]
        return owned if self.campaign is None else [*owned, rows.c[campaign_column] == self.campaign]


def get_leads(
    tx: Connection, account_id: int, wanted: LeadFilter, *, after: int | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """A page of the account's leads, newest first, and how many fit the filter. `after` is the last id already seen."""
    newest = _newest(wanted, after, offset + limit)
    owned = wanted.of_campaign(account_id, campaign, "id")
    page = select(newest).select_from(campaign.join(newest, true())).where(*owned).order_by(newest.c.id.desc()).limit(limit).offset(offset)
    rows = [dict(row) for row in tx.execute(page).mappings()]
    dated = wanted.start_from is not None or wanted.start_to is not None
    return rows, _count(tx, account_id, wanted) if dated else _count_by_counters(tx, account_id, wanted)


def _newest(wanted: LeadFilter, after: int | None, limit: int) -> LateralFromClause:
    """The newest leads of one campaign, read from the end of its index.

    The campaign's epoch is joined here and not by the view `current_lead`: only with both key columns given does the index yield the order.
    """
    older = [lead.c.id < after] if after is not None else []
    return (
        select(*(lead.c[name] for name in _COLUMNS))
        .where(lead.c.campaign_id == campaign.c.id, lead.c.epoch == campaign.c.lead_epoch, *wanted.of_lead(lead), *older)
        .order_by(lead.c.id.desc())
        .limit(limit)
        .correlate(campaign)
        .lateral("newest")
    )


def _count_by_counters(tx: Connection, account_id: int, wanted: LeadFilter) -> int:
    counter = _ALL_COUNTERS if wanted.status is None else _STATUS_COUNTERS[wanted.status]
    owned = wanted.of_campaign(account_id, current_counter, "campaign_id")
    return int(tx.execute(select(func.coalesce(func.sum(counter), 0)).where(*owned)).scalar_one())


def _count(tx: Connection, account_id: int, wanted: LeadFilter) -> int:
    conditions = [*wanted.of_campaign(account_id, current_lead, "campaign_id"), *wanted.of_lead(current_lead)]
    return int(tx.execute(select(func.count()).select_from(current_lead).where(*conditions)).scalar_one())


def add_counter(tx: Connection, campaign_id: int) -> None:
    """A new campaign's totals, all zero."""
    tx.execute(insert(lead_counter).values(campaign_id=campaign_id, epoch=0))
