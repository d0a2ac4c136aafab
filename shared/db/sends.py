"""What bots are to say: rows of `send`, found and settled by the listener that leases the bot."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from shared.db.connect import Raw
from shared.db.media import Upload
from shared.domain.notices import Params

#: Notices of one account that are put into the queue at once, and those of all accounts.
NOTICES_OF_ONE: Final = 10
NOTICES_OF_ALL: Final = 200

#: A notice that could not be delivered for so long stays in the account's list only.
NOTICE_DAYS_MAX: Final = 7


class SendKind(StrEnum):
    """Why a bot speaks."""

    WELCOME = "welcome"  # to somebody who started a campaign
    MOVED = "moved"  # to somebody who started a campaign that is now at another bot
    NOTICE = "notice"  # the service bot, to an account's owner


class Verdict(StrEnum):
    """What came of an attempt."""

    SENT = "sent"  # Telegram has it
    BLOCKED = "blocked"  # there is nobody who would see it
    REFUSED = "refused"  # it will never be sent
    LATER = "later"  # it is to be tried again
    PAUSED = "paused"  # the bot may say nothing at all for a while


@dataclass(frozen=True, slots=True)
class Hand:
    """A bot as its listener leases it, and how many messages it may take in hand."""

    bot: int
    epoch: int
    room: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Due:
    """A message to be sent, with all that it is made of. What a kind has no use for is None. No repr, for the button's address.

    `holder` is the bot that has the campaign now, `language` that of the account which the speaking bot serves.
    """

    id: int
    bot: int
    epoch: int
    subscriber: int
    access_hash: int
    kind: str
    random_id: int
    attempts: int
    age_s: float
    at: datetime
    click: str
    username: str
    lead: int | None
    lead_status: int | None
    language: str | None
    campaign_status: int | None
    code: str | None
    account: int | None
    chat: int | None
    welcome: str | None
    button_text: str | None
    button_url: str | None
    holder: int | None
    holder_username: str | None
    holder_connected: bool | None
    answers_moved: bool | None
    media_type: int | None
    media_sha256: bytes | None
    media_name: str | None
    file_id: int | None
    file_hash: int | None
    file_reference: bytes | None
    notice: str | None
    params: Params | None
    owner: int | None

    @property
    def upload(self) -> Upload | None:
        """The file as Telegram has it from this bot already."""
        if self.file_id is None or self.file_hash is None or self.file_reference is None:
            return None
        return Upload(self.file_id, self.file_hash, self.file_reference)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one. `wait_s` is for LATER and PAUSED, `trouble` for all but SENT; it names no secret."""

    send: Due
    verdict: Verdict
    wait_s: float = 0.0
    trouble: str = ""


_FIND = """
    SELECT v.bot_id FROM bot_session v
    WHERE v.listener_id = %(listener)s AND v.send_after <= now()
      AND EXISTS (SELECT FROM send s WHERE s.bot_id = v.bot_id AND s.due <= now())
"""

_TAKE = """
    SELECT s.id, s.bot_id AS bot, v.epoch, s.subscriber, coalesce(p.access_hash, 0) AS access_hash, s.kind, s.random_id, s.attempts,
           extract(epoch FROM now() - s.at)::float8 AS age_s, s.at, s.click, s.username,
           s.lead_id AS lead, l.status AS lead_status, a.lang AS language,
           c.status AS campaign_status, c.code, c.account_id AS account, t.tg_id AS chat, c.welcome, c.button_text, c.button_url,
           c.bot_id AS holder, h.username AS holder_username, h.disconnected IS NULL AS holder_connected, b.answers_moved,
           m.type AS media_type, m.sha256 AS media_sha256, m.name AS media_name,
           u.file_id, u.access_hash AS file_hash, u.file_reference, n.kind AS notice, n.params, a.owner_tg_id AS owner
    FROM unnest(%(bots)s::bigint[], %(epochs)s::bigint[], %(rooms)s::integer[]) AS hand (bot_id, epoch, room)
    JOIN bot_session v ON v.bot_id = hand.bot_id AND v.epoch = hand.epoch AND v.listener_id = %(listener)s AND v.send_after <= now()
    CROSS JOIN LATERAL (
        SELECT * FROM send WHERE bot_id = hand.bot_id AND due <= now() AND id <> ALL(%(busy)s::bigint[]) ORDER BY due, id LIMIT hand.room
    ) AS s
    LEFT JOIN peer p ON p.bot_id = s.bot_id AND p.peer_id = s.subscriber
    LEFT JOIN bot b ON b.id = s.bot_id
    LEFT JOIN notice n ON n.id = s.notice_id
    LEFT JOIN account a ON a.id = coalesce(b.account_id, n.account_id)
    LEFT JOIN campaign c ON c.id = s.campaign_id
    LEFT JOIN chat t ON t.id = c.chat_id
    LEFT JOIN bot h ON h.id = c.bot_id
    LEFT JOIN current_lead l ON l.id = s.lead_id
    LEFT JOIN media m ON m.id = c.media
    LEFT JOIN media_upload u ON u.bot_id = s.bot_id AND u.sha256 = m.sha256
"""

_SETTLE = """
    WITH mine AS MATERIALIZED (
        SELECT r.*
        FROM jsonb_to_recordset(%(outcomes)s) AS r (id bigint, bot bigint, epoch bigint, verdict text, wait_s float8, trouble text)
        JOIN bot_session v ON v.bot_id = r.bot AND v.epoch = r.epoch AND v.listener_id = %(listener)s
        JOIN listener o ON o.id = v.listener_id AND o.expires_at > now()
    ), put_off AS (
        UPDATE send SET due = now() + make_interval(secs => mine.wait_s), attempts = attempts + 1, trouble = mine.trouble
        FROM mine WHERE send.id = mine.id AND mine.verdict = 'later'
    ), gone AS (
        DELETE FROM send USING mine WHERE send.id = mine.id AND mine.verdict IN ('sent', 'blocked', 'refused')
        RETURNING send.bot_id, send.subscriber, send.notice_id, mine.verdict
    ), blocks AS (
        INSERT INTO blocked (bot_id, subscriber) SELECT DISTINCT bot_id, subscriber FROM gone WHERE verdict = 'blocked' ORDER BY 1, 2
        ON CONFLICT DO NOTHING
    ), unblocks AS (
        DELETE FROM blocked USING gone WHERE blocked.bot_id = gone.bot_id AND blocked.subscriber = gone.subscriber AND verdict = 'sent'
    )
    UPDATE notice SET delivered = CASE gone.verdict WHEN 'sent' THEN now() END, given_up = gone.verdict <> 'sent'
    FROM gone WHERE notice.id = gone.notice_id
"""

_UNLINK = """
    WITH lost AS (
        SELECT a.id FROM send s
        JOIN notice n ON n.id = s.notice_id
        JOIN account a ON a.id = n.account_id AND a.owner_tg_id = s.subscriber AND a.owner_linked <= n.created
        JOIN bot_session v ON v.bot_id = s.bot_id AND v.listener_id = %(listener)s AND v.epoch = %(epoch)s
        WHERE s.id = ANY(%(sends)s) ORDER BY a.id FOR UPDATE OF a
    )
    UPDATE account SET owner_tg_id = NULL, owner_linked = NULL FROM lost WHERE account.id = lost.id
"""

_PAUSE = """
    UPDATE bot_session SET send_after = greatest(send_after, now() + make_interval(secs => %(wait_s)s))
    WHERE bot_id = %(bot)s AND listener_id = %(listener)s AND epoch = %(epoch)s
"""

_QUEUE_NOTICES = f"""
    INSERT INTO send (bot_id, subscriber, kind, notice_id, random_id, at)
    SELECT v.bot_id, a.owner_tg_id, 'notice', n.id, ('x' || left(md5('notice ' || n.id), 16))::bit(64)::bigint, n.created
    FROM bot_session v
    JOIN account a ON a.owner_tg_id IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT id, created FROM notice
        WHERE account_id = a.id AND delivered IS NULL AND NOT given_up
          AND created >= greatest(a.owner_linked, now() - interval '{NOTICE_DAYS_MAX} days')
        ORDER BY created, id LIMIT {NOTICES_OF_ONE}
    ) AS n
    WHERE v.bot_id = %(bot)s AND v.listener_id = %(listener)s AND v.epoch = %(epoch)s
      AND NOT EXISTS (SELECT FROM send WHERE send.bot_id = v.bot_id AND send.notice_id = n.id)
    ORDER BY n.id LIMIT {NOTICES_OF_ALL}
"""


def put_username(db: Raw, listener: UUID, *, bot: int, epoch: int, username: str) -> None:
    """Keep what Telegram calls the bot, for links to it. Nothing is written for a bot that has another listener by now."""
    db.execute(
        "UPDATE bot_session SET username = %s WHERE bot_id = %s AND listener_id = %s AND epoch = %s AND username <> %s",
        [username, bot, listener, epoch, username],
    )


def find_bots(db: Raw, listener: UUID) -> list[int]:
    """The bots of this listener that have something to say now."""
    return [row[0] for row in db.execute(_FIND, {"listener": listener}, prepare=True)]


def take(db: Raw, listener: UUID, hands: Sequence[Hand], *, busy: Sequence[int]) -> list[Due]:
    """What these bots are to say now, the longest due first, without those that are in hand already.

    Nothing is written: a bot has one listener, and Telegram takes no message twice. A bot that is no longer this listener's, or is
    told by Telegram to wait, gets nothing.
    """
    with db.cursor(row_factory=class_row(Due)) as cursor:
        subject = {
            "listener": listener,
            "bots": [hand.bot for hand in hands],
            "epochs": [hand.epoch for hand in hands],
            "rooms": [hand.room for hand in hands],
            "busy": list(busy),
        }
        return cursor.execute(_TAKE, subject, prepare=True).fetchall()


def settle(db: Raw, listener: UUID, outcomes: Sequence[Outcome]) -> None:
    """Record what came of them: those that are settled go, with a mark for who cannot be reached, none for who was; the rest is put off.

    What a bot's former listener has to say is passed over; its successor finds out for itself. An owner whom the service bot cannot
    reach is no longer linked, so that nobody tries for ever. A notice that goes unsent for whatever reason is given up, and not queued
    again; it stays in the list as undelivered.
    """
    for bot, epoch, wait_s in sorted({(o.send.bot, o.send.epoch, o.wait_s) for o in outcomes if o.verdict is Verdict.PAUSED}):
        db.execute(_PAUSE, {"listener": listener, "bot": bot, "epoch": epoch, "wait_s": wait_s}, prepare=True)
    lost = [o.send for o in outcomes if o.send.kind == SendKind.NOTICE and o.verdict is Verdict.BLOCKED]
    if lost:
        db.execute(_UNLINK, {"listener": listener, "epoch": lost[0].epoch, "sends": [send.id for send in lost]}, prepare=True)
    db.execute(_SETTLE, {"listener": listener, "outcomes": Jsonb([_row(outcome) for outcome in outcomes])}, prepare=True)


def queue_notices(db: Raw, listener: UUID, *, bot: int, epoch: int) -> None:
    """Let the service bot tell owners who have linked it what they were not told yet. A notice always has the same random id."""
    db.execute(_QUEUE_NOTICES, {"listener": listener, "bot": bot, "epoch": epoch}, prepare=True)


def _row(outcome: Outcome) -> dict[str, Any]:
    send = outcome.send
    return {
        "id": send.id,
        "bot": send.bot,
        "epoch": send.epoch,
        "verdict": outcome.verdict,
        "wait_s": outcome.wait_s,
        "trouble": outcome.trouble,
    }
