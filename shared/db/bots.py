"""Bots as their owner lists them, lets them go, and chooses for them. Warnings are worked out from the facts, so no flag is stale."""

from typing import Any, Final

from sqlalchemy import Connection, Text, bindparam, cast, exists, func, select, update

from shared.db import accounts
from shared.db.campaigns import IS_ADMIN
from shared.db.schema import bot, bot_chat, campaign, chat
from shared.domain.campaigns import CampaignStatus
from shared.messages import LISTENER_CHANNEL

_LACKS_ADMIN = exists().where(campaign.c.bot_id == bot.c.id, campaign.c.status != CampaignStatus.DELETED, ~IS_ADMIN)

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


_OWN: Final = (
    select(bot.c.id).where(bot.c.id == bindparam("bot"), bot.c.account_id == bindparam("account"), bot.c.disconnected.is_(None)).exists()
)
_IS_CONNECTED: Final = select(_OWN)
_TRACKED: Final = exists().where(
    campaign.c.bot_id == bot_chat.c.bot_id, campaign.c.chat_id == bot_chat.c.chat_id, campaign.c.status != CampaignStatus.DELETED
)
_FREE_CHATS = select(chat.c.tg_id, chat.c.title, chat.c.type).join(bot_chat, bot_chat.c.chat_id == chat.c.id)
_FREE = (bot_chat.c.bot_id == bindparam("bot"), bot_chat.c.admin, ~_TRACKED)
_CHATS: Final = _FREE_CHATS.where(*_FREE).order_by(chat.c.id).limit(bindparam("limit")).offset(bindparam("offset"))
_CHAT_COUNT: Final = select(func.count()).select_from(bot_chat).where(*_FREE)


def get_free_chats(tx: Connection, account_id: int, bot_id: int, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int] | None:
    """A page of the chats where a connected bot of the account could have a campaign, and how many there are; None without such a bot."""
    wanted = {"account": account_id, "bot": bot_id, "limit": limit, "offset": offset}
    if not tx.execute(_IS_CONNECTED, wanted).scalar_one():
        return None
    rows = tx.execute(_CHATS, wanted).mappings()
    return [dict(row) for row in rows], int(tx.execute(_CHAT_COUNT, wanted).scalar_one())


_DISCONNECT: Final = (
    update(bot)
    .where(bot.c.id == bindparam("bot"), bot.c.account_id == bindparam("account"))
    .values(disconnected=func.coalesce(bot.c.disconnected, func.clock_timestamp()))
    .returning(func.pg_notify(LISTENER_CHANNEL, cast(bot.c.id, Text)))
)


def disconnect(tx: Connection, account_id: int, bot_id: int) -> bool:
    """Disconnect a bot of the account, and tell the listener that has it; False when it is not the account's.

    The account is locked first: of a transfer of the bot and this the second finds no bot. One that is disconnected already stays so since
    then.
    """
    accounts.lock(tx, account_id)
    return tx.execute(_DISCONNECT, {"account": account_id, "bot": bot_id}).one_or_none() is not None


_SET_ANSWERS: Final = (
    update(bot)
    .where(bot.c.id == bindparam("bot"), bot.c.account_id == bindparam("account"), bot.c.disconnected.is_(None))
    .values(answers_moved=bindparam("answer"))
)


def set_answers_moved(tx: Connection, account_id: int, bot_id: int, *, answer: bool) -> bool:
    """Whether the bot answers starts with codes that have moved to another; False without such a connected bot."""
    return tx.execute(_SET_ANSWERS, {"account": account_id, "bot": bot_id, "answer": answer}).rowcount == 1
