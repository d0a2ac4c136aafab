"""Campaigns: as their owner lists them, and the writes that make, change and end them.

Whatever changes one locks account, bot and campaign in this order (`lock`), and reads the facts in the next statement. Warnings are worked
out from the facts, so that no flag can go stale.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_not

from shared.db import accounts, leads
from shared.db.schema import POSTBACKS, account, bot, bot_chat, campaign, campaign_bot, campaign_pause, chat, current_counter
from shared.db.telegram_schema import media
from shared.domain.campaigns import CampaignStatus, Room, Settings
from shared.domain.plans import PlanCode

#: Codes that are tried before giving up: with 36^8 of them not even the second is needed.
CODE_TRIES_MAX: Final = 5

_SETTINGS: Final = ("welcome", "media", "button_text", "button_url", *POSTBACKS, "unsub_window")

IS_ADMIN: Final = exists().where(bot_chat.c.bot_id == campaign.c.bot_id, bot_chat.c.chat_id == campaign.c.chat_id, bot_chat.c.admin)


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
    case((bot.c.disconnected.is_not(None), True), else_=~IS_ADMIN).label("warning"),
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
_CAMPAIGN: Final = _OWN_CAMPAIGNS.add_columns(*(campaign.c[name] for name in _SETTINGS)).where(campaign.c.id == bindparam("campaign"))


def get_campaigns(tx: Connection, account_id: int, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page of the account's non-deleted campaigns, oldest first; and how many there are."""
    rows = tx.execute(_CAMPAIGNS, {"account": account_id, "limit": limit, "offset": offset}).mappings()
    return [dict(row) for row in rows], int(tx.execute(_CAMPAIGN_COUNT, {"account": account_id}).scalar_one())


def get_campaign(tx: Connection, account_id: int, campaign_id: int) -> dict[str, Any] | None:
    """One non-deleted campaign of the account with all its settings."""
    row = tx.execute(_CAMPAIGN, {"account": account_id, "campaign": campaign_id}).mappings().one_or_none()
    return dict(row) if row else None


_ACTIVE: Final = (
    select(func.count())
    .select_from(campaign)
    .where(campaign.c.account_id == bindparam("account"), campaign.c.status == CampaignStatus.ACTIVE)
    .scalar_subquery()
)
_LOCK_BOT: Final = (
    select(bot.c.id).where(bot.c.id == bindparam("bot"), bot.c.account_id == bindparam("account")).with_for_update(key_share=True)
)
_FIND_CHAT: Final = select(chat.c.id).where(or_(chat.c.tg_id == bindparam("chat"), chat.c.former_tg_id == bindparam("chat")))
_ROOM: Final = (
    select(
        account.c.plan,
        _ACTIVE.label("active"),
        (bot.c.disconnected.is_(None) & ~bot.c.token_revoked).label("fit"),
        exists().where(bot_chat.c.bot_id == bot.c.id, bot_chat.c.chat_id == bindparam("chat"), bot_chat.c.admin).label("admin"),
        exists()
        .where(campaign.c.bot_id == bot.c.id, campaign.c.chat_id == bindparam("chat"), campaign.c.status != CampaignStatus.DELETED)
        .label("taken"),
    )
    .select_from(bot)
    .join(account, account.c.id == bot.c.account_id)
    .where(account.c.id == bindparam("account"), bot.c.id == bindparam("bot"))
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a campaign is to run, under locks. `chat` is our id; 0 for one nobody knows."""

    bot: int
    chat: int
    room: Room


def lock_place(tx: Connection, account_id: int, bot_id: int, chat_tg_id: int) -> Place | None:
    """Lock the account and its bot, and look at the chat through the bot's eyes; None when the bot is not the account's.

    Who else would take the slot, move the bot or change what it may do there waits; who did so before is seen.
    """
    accounts.lock(tx, account_id)
    if tx.execute(_LOCK_BOT, {"bot": bot_id, "account": account_id}).one_or_none() is None:
        return None
    chat_id = tx.execute(_FIND_CHAT, {"chat": chat_tg_id}).scalar() or 0
    row = tx.execute(_ROOM, {"account": account_id, "bot": bot_id, "chat": chat_id}).one()
    return Place(bot_id, chat_id, Room(plan=PlanCode(row.plan), active=row.active, fit=row.fit, admin=row.admin, taken=row.taken))


_LOCK_BOT_OF: Final = (
    select(bot.c.id)
    .join(campaign, campaign.c.bot_id == bot.c.id)
    .where(campaign.c.id == bindparam("campaign"), campaign.c.account_id == bindparam("account"))
    .with_for_update(of=bot, key_share=True)
)
_LOCK_CAMPAIGN: Final = (
    select(campaign.c.id)
    .where(campaign.c.id == bindparam("campaign"), campaign.c.account_id == bindparam("account"))
    .with_for_update(key_share=True)
)
_LOCKED: Final = (
    select(
        campaign.c.id,
        campaign.c.status,
        campaign.c.bot_id,
        chat.c.tg_id.label("chat"),
        chat.c.former_tg_id.label("former_chat"),
        account.c.plan,
        _ACTIVE.label("active"),
        bot.c.disconnected.is_(None).label("connected"),
        *(campaign.c[name] for name in _SETTINGS),
    )
    .join(bot, bot.c.id == campaign.c.bot_id)
    .join(chat, chat.c.id == campaign.c.chat_id)
    .join(account, account.c.id == campaign.c.account_id)
    .where(campaign.c.id == bindparam("campaign"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A campaign of the account, deleted ones too, with its account, bot and itself locked. `active` counts the account's active ones."""

    id: int
    status: CampaignStatus
    bot: int
    chats: tuple[int, ...]
    plan: PlanCode
    active: int
    connected: bool
    settings: Settings


def lock(tx: Connection, account_id: int, campaign_id: int) -> Locked | None:
    """Lock a campaign of the account, in the order of all; None when it is not the account's, or has just gone to another."""
    accounts.lock(tx, account_id)
    wanted = {"account": account_id, "campaign": campaign_id}
    if tx.execute(_LOCK_BOT_OF, wanted).one_or_none() is None:
        return None
    tx.execute(_LOCK_CAMPAIGN, wanted).one()
    row = tx.execute(_LOCKED, wanted).mappings().one()
    return Locked(
        id=row["id"],
        status=CampaignStatus(row["status"]),
        bot=row["bot_id"],
        chats=tuple(known for known in (row["chat"], row["former_chat"]) if known is not None),
        plan=PlanCode(row["plan"]),
        active=row["active"],
        connected=row["connected"],
        settings=Settings(**{name: row[name] for name in _SETTINGS}),
    )


# A row that is being named must not be thrown away as unused in the same moment.
_MEDIA: Final = (
    select(media.c.type)
    .where(
        media.c.id == bindparam("media"),
        or_(
            media.c.account_id == bindparam("account"),
            exists().where(campaign.c.media == media.c.id, campaign.c.account_id == bindparam("account")),
        ),
    )
    .with_for_update(of=media, read=True, key_share=True)
)


def find_media(tx: Connection, account_id: int, reference: str) -> int | None:
    """The type of a file that the account uploaded or that one of its campaigns came with; None where it is neither."""
    found = tx.execute(_MEDIA, {"media": reference, "account": account_id}).scalar()
    return None if found is None else int(found)


class NoCode(Exception):
    """Every code that was tried is somebody's already, which says that the source of codes is broken."""


def add(tx: Connection, account_id: int, place: Place, settings: Settings, media_type: int, new_code: Callable[[], str]) -> tuple[int, str]:
    """Make an active campaign with its binding and its counters, at a place that is locked. Returns its id and its code.

    A code that exists already, of whatever campaign there ever was, is not taken again: another is tried.

    Raises:
        NoCode
    """
    values = {**asdict(settings), "media_type": media_type, "account_id": account_id, "created_by": account_id}
    for _ in range(CODE_TRIES_MAX):
        code = new_code()
        row = insert_or_not(campaign).values(**values, bot_id=place.bot, chat_id=place.chat, code=code, epoch_since=func.clock_timestamp())
        added = tx.execute(row.on_conflict_do_nothing(index_elements=[campaign.c.code]).returning(campaign.c.id)).scalar()
        if added is not None:
            tx.execute(insert(campaign_bot).values(campaign_id=added, bot_id=place.bot, from_date=func.clock_timestamp()))
            leads.add_counter(tx, added)
            return int(added), code
    raise NoCode


def set_settings(tx: Connection, locked: Locked, settings: Settings, media_type: int) -> None:
    """Give a locked campaign these settings. What is owed already stays as it was rendered."""
    tx.execute(update(campaign).where(campaign.c.id == locked.id).values(**asdict(settings), media_type=media_type))


def pause(tx: Connection, locked: Locked) -> None:
    """Pause a locked campaign that is active. From the moment on by the database's clock its starts do nothing."""
    _set_status(tx, locked, CampaignStatus.PAUSED)
    tx.execute(insert(campaign_pause).values(campaign_id=locked.id, since=func.clock_timestamp()))


def resume(tx: Connection, locked: Locked) -> None:
    """Let a locked campaign that is paused go on. Nothing is caught up."""
    _set_status(tx, locked, CampaignStatus.ACTIVE)
    pauses = campaign_pause.c
    tx.execute(update(campaign_pause).where(pauses.campaign_id == locked.id, pauses.until.is_(None)).values(until=func.clock_timestamp()))


def delete(tx: Connection, locked: Locked) -> None:
    """Delete a locked campaign for ever. Its bot still holds it for what happened before; what is dated later is nothing to it."""
    _set_status(tx, locked, CampaignStatus.DELETED, deleted=func.clock_timestamp())


def _set_status(tx: Connection, locked: Locked, status: CampaignStatus, **values: Any) -> None:
    tx.execute(update(campaign).where(campaign.c.id == locked.id).values(status=status, **values))
