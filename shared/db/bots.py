"""Bots and campaigns as their owner lists them. Warnings are worked out from the facts, so that no flag can go stale."""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, exists, func, select

from shared.db.schema import POSTBACKS, bot, bot_chat, campaign, chat, current_counter
from shared.domain.campaigns import CampaignStatus

_IS_ADMIN = exists().where(bot_chat.c.bot_id == campaign.c.bot_id, bot_chat.c.chat_id == campaign.c.chat_id, bot_chat.c.admin)
_LACKS_ADMIN = exists().where(campaign.c.bot_id == bot.c.id, campaign.c.status != CampaignStatus.DELETED, ~_IS_ADMIN)

_BOTS: Final = (
    select(
        *(bot.c[name] for name in ("id", "tg_id", "username", "name", "disconnected", "token_revoked", "created")),
        _LACKS_ADMIN.label("lacks_admin"),
    )
    .where(bot.c.account_id == bindparam("account"))
    .order_by(bot.c.id)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_BOT_COUNT: Final = select(func.count()).select_from(bot).where(bot.c.account_id == bindparam("account"))


def get_bots(tx: Connection, account_id: int, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page of the account's bots, disconnected ones too, oldest first; and how many there are."""
    rows = tx.execute(_BOTS, {"account": account_id, "limit": limit, "offset": offset}).mappings()
    return [dict(row) for row in rows], int(tx.execute(_BOT_COUNT, {"account": account_id}).scalar_one())


def _counter(name: str) -> Any:
    return func.coalesce(current_counter.c[name], 0).label(name)


_CAMPAIGN_COLUMNS = (
    campaign.c.id,
    campaign.c.code,
    campaign.c.bot_id,
    bot.c.username.label("bot_username"),
    chat.c.tg_id.label("chat"),
    chat.c.title.label("chat_title"),
    campaign.c.status,
    case((bot.c.disconnected.is_not(None), True), else_=~_IS_ADMIN).label("warning"),
    _counter("starts"),
    _counter("confirms"),
    _counter("unsubs"),
    campaign.c.created,
)
_OWN_CAMPAIGNS = (
    select(*_CAMPAIGN_COLUMNS)
    .join(bot, bot.c.id == campaign.c.bot_id)
    .join(chat, chat.c.id == campaign.c.chat_id)
    .outerjoin(current_counter, current_counter.c.campaign_id == campaign.c.id)
    .where(campaign.c.account_id == bindparam("account"), campaign.c.status != CampaignStatus.DELETED)
)
_CAMPAIGNS: Final = _OWN_CAMPAIGNS.order_by(campaign.c.id).limit(bindparam("limit")).offset(bindparam("offset"))
_CAMPAIGN_COUNT: Final = (
    select(func.count())
    .select_from(campaign)
    .where(campaign.c.account_id == bindparam("account"), campaign.c.status != CampaignStatus.DELETED)
)
_CAMPAIGN: Final = _OWN_CAMPAIGNS.add_columns(
    *(campaign.c[name] for name in ("welcome", "media", "button_text", "button_url", *POSTBACKS, "unsub_window"))
).where(campaign.c.id == bindparam("campaign"))


def get_campaigns(tx: Connection, account_id: int, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page of the account's non-deleted campaigns, oldest first; and how many there are."""
    rows = tx.execute(_CAMPAIGNS, {"account": account_id, "limit": limit, "offset": offset}).mappings()
    return [dict(row) for row in rows], int(tx.execute(_CAMPAIGN_COUNT, {"account": account_id}).scalar_one())


def get_campaign(tx: Connection, account_id: int, campaign_id: int) -> dict[str, Any] | None:
    """One non-deleted campaign of the account with all its settings."""
    row = tx.execute(_CAMPAIGN, {"account": account_id, "campaign": campaign_id}).mappings().one_or_none()
    return dict(row) if row else None
