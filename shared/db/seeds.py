"""Rows as an account's own work would leave them, written in bulk: for the demo, the tests and the benchmarks."""

from typing import Any, Final

from sqlalchemy import Connection, insert, text, update

from shared.db.schema import account, bot, bot_chat, campaign, campaign_bot, campaign_pause, chat, lead_counter
from shared.db.telegram_schema import bot_inbox
from shared.domain.campaigns import CampaignStatus


def set_templates(tx: Connection, account_id: int, **templates: str) -> None:
    """The account's global postback templates; those not named stay as they are."""
    tx.execute(update(account).where(account.c.id == account_id).values(templates))


def add_bot(tx: Connection, account_id: int, *, tg_id: int, username: str, name: str) -> int:
    """A connected bot."""
    values = {"account_id": account_id, "created_by": account_id, "tg_id": tg_id, "username": username, "name": name}
    bot_id = int(tx.execute(insert(bot).values(values).returning(bot.c.id)).scalar_one())
    tx.execute(insert(bot_inbox).values(bot_id=bot_id))
    return bot_id


def add_chat(tx: Connection, *, tg_id: int, title: str, kind: str = "channel") -> int:
    """A chat nobody administers yet."""
    return int(tx.execute(insert(chat).values(tg_id=tg_id, title=title, type=kind).returning(chat.c.id)).scalar_one())


def make_admin(tx: Connection, bot_id: int, chat_id: int) -> None:
    """The bot becomes an administrator of the chat."""
    tx.execute(insert(bot_chat).values(bot_id=bot_id, chat_id=chat_id, admin=True))


def add_campaign(tx: Connection, account_id: int, bot_id: int, chat_id: int, *, code: str, **settings: Any) -> int:
    """An active campaign, with its binding and its counters. `settings` are further columns."""
    values = {"account_id": account_id, "created_by": account_id, "bot_id": bot_id, "chat_id": chat_id, "code": code, **settings}
    campaign_id = int(tx.execute(insert(campaign).values(values).returning(campaign.c.id)).scalar_one())
    tx.execute(insert(campaign_bot).values(campaign_id=campaign_id, bot_id=bot_id))
    tx.execute(insert(lead_counter).values(campaign_id=campaign_id, epoch=0))
    if settings.get("status") == CampaignStatus.PAUSED:
        tx.execute(insert(campaign_pause).values(campaign_id=campaign_id))
    return campaign_id


# Subscribers, clicks, dates and statuses are spread by arithmetic on the row's number, so that the same call makes the same leads.
_LEADS: Final = text(
    """
    WITH added AS (
        INSERT INTO lead (campaign_id, epoch, subscriber, username, click, status, start_time, join_time, updated, seen,
                          member, starts_day, holds_day, confirms_day, unsubs_day)
        SELECT :campaign, c.lead_epoch, :first + i, 'user_' || (:first + i), md5((:first + i)::text), s.status, s.at,
               CASE WHEN s.status IN (2, 3, 4) THEN s.at + interval '2 minutes' END, s.at + interval '5 minutes',
               s.at + interval '5 minutes', (ARRAY['', '', 'in', 'out', 'banned'])[1 + s.status], s.day,
               CASE WHEN s.status = 1 THEN s.day END, CASE WHEN s.status IN (2, 3, 4) THEN s.day END,
               CASE WHEN s.status IN (3, 4) THEN s.day END
        FROM campaign c, generate_series(0, :count - 1) AS i,
             LATERAL (SELECT (ARRAY[2, 2, 2, 2, 0, 0, 1, 3, 3, 4])[1 + (i * 7) % 10] AS status,
                             now() - (i % 43200) * interval '1 minute' AS at,
                             ((now() - (i % 43200) * interval '1 minute') AT TIME ZONE 'UTC')::date AS day) AS s
        WHERE c.id = :campaign
        RETURNING epoch, status, start_time
    ), by_day AS (
        INSERT INTO daily (campaign_id, epoch, day, starts, holds, confirms, unsubs)
        SELECT :campaign, epoch, (start_time AT TIME ZONE 'UTC')::date, count(*), count(*) FILTER (WHERE status = 1),
               count(*) FILTER (WHERE status IN (2, 3, 4)), count(*) FILTER (WHERE status IN (3, 4))
        FROM added GROUP BY 1, 2, 3
        ON CONFLICT (campaign_id, epoch, day) DO UPDATE SET
            starts = daily.starts + excluded.starts, holds = daily.holds + excluded.holds,
            confirms = daily.confirms + excluded.confirms, unsubs = daily.unsubs + excluded.unsubs
    )
    UPDATE lead_counter n SET
        starts = n.starts + a.total, holds = n.holds + a.hold, confirms = n.confirms + a.approve + a.cancel + a.trash,
        unsubs = n.unsubs + a.cancel + a.trash, n_wait = n.n_wait + a.wait, n_hold = n.n_hold + a.hold,
        n_approve = n.n_approve + a.approve, n_cancel = n.n_cancel + a.cancel, n_trash = n.n_trash + a.trash
    FROM (SELECT epoch, count(*) AS total, count(*) FILTER (WHERE status = 0) AS wait, count(*) FILTER (WHERE status = 1) AS hold,
                 count(*) FILTER (WHERE status = 2) AS approve, count(*) FILTER (WHERE status = 3) AS cancel,
                 count(*) FILTER (WHERE status = 4) AS trash
          FROM added GROUP BY epoch) AS a
    WHERE n.campaign_id = :campaign AND n.epoch = a.epoch
    """
)


def add_leads(tx: Connection, campaign_id: int, count: int, *, first_subscriber: int) -> None:
    """So many leads of a campaign's current epoch, with counters and daily rows. Subscribers are numbered from `first_subscriber`."""
    tx.execute(text("SET LOCAL statement_timeout = 0"))
    tx.execute(_LEADS, {"campaign": campaign_id, "count": count, "first": first_subscriber})
