"""The removal of leads that a transfer dropped. They are invisible from its commit on; here they become physically gone.

One row per (campaign, epoch) is the work and its lock. A turn deletes a bounded batch in one transaction and remembers how far it got.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db.connect import Raw
from shared.messages import OUTBOX_CHANNEL, Wake

#: Tables keyed by (campaign_id, epoch) that hold little and go in one statement each, when the leads are gone.
SMALL_TABLES: Final = ("daily", "lead_counter")

_DELETE_LEADS = """
    WITH doomed AS (
        SELECT id FROM lead WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s AND id > %(after)s ORDER BY id LIMIT %(limit)s
    ), gone AS (
        DELETE FROM lead USING doomed WHERE lead.id = doomed.id RETURNING lead.id
    )
    SELECT count(*), coalesce(max(id), 0) FROM gone
"""
#: What hangs on the leads, and goes after them in batches. A delivery that is still owed is sent first, unseen.
_DELETE_REST: Final = (
    """
    WITH doomed AS (
        SELECT id FROM journal WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s ORDER BY id LIMIT %(limit)s
    ), gone AS (
        DELETE FROM journal USING doomed WHERE journal.id = doomed.id RETURNING journal.id
    )
    SELECT count(*) FROM gone
    """,
    """
    WITH gone AS (
        DELETE FROM fact WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM fact WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s LIMIT %(limit)s))
        RETURNING 1
    )
    SELECT count(*) FROM gone
    """,
    """
    WITH doomed AS (
        SELECT id FROM delivery WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s AND state <> 'pending' ORDER BY id LIMIT %(limit)s
    ), gone AS (
        DELETE FROM delivery USING doomed WHERE delivery.id = doomed.id RETURNING delivery.id
    )
    SELECT count(*) FROM gone
    """,
)


def delete_batch(db: Raw, campaign: int, epoch: int, *, limit: int) -> tuple[int, bool] | None:
    """Delete up to `limit` leads, or, when none are left, about as many rows of what hung on them.

    Returns the number and whether everything is gone now.

    None when there is nothing to do here: another worker holds the purge, or it is finished.
    """
    subject: dict[str, int] = {"campaign": campaign, "epoch": epoch, "limit": limit}
    with db.transaction():
        row = db.execute(
            "SELECT after_lead FROM purge WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s FOR UPDATE SKIP LOCKED", subject
        ).fetchone()
        if row is None:
            return None
        leads, last = _one(db, _DELETE_LEADS, {**subject, "after": row[0]})
        if leads:
            db.execute(
                """
                UPDATE purge SET deleted = deleted + %(n)s, after_lead = %(last)s, announced_at = now(), announced = 0
                WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s
                """,
                {**subject, "n": leads, "last": last},
                prepare=True,
            )
            return leads, False
        rest = 0
        for statement in _DELETE_REST:
            (gone,) = _one(db, statement, subject)
            rest += gone
            if rest >= limit:
                return rest, False
        for table in (*SMALL_TABLES, "purge"):
            db.execute(f"DELETE FROM {table} WHERE campaign_id = %(campaign)s AND epoch = %(epoch)s", subject)
        return rest, True


def announce(db: Raw, campaign: int, epoch: int) -> None:
    """Ask for another turn, at the tail of the queue."""
    db.execute(
        f"""INSERT INTO outbox (wake, key) SELECT '{Wake.PURGE_LEADS}', campaign_id || ':' || epoch FROM purge
            WHERE campaign_id = %s AND epoch = %s RETURNING pg_notify('{OUTBOX_CHANNEL}', '')""",
        [campaign, epoch],
    )


def announce_overdue(db: Raw, *, interval_s: float, limit: int) -> int:
    """Write a wake-up for each purge that made no progress since its last announcement for the interval. Returns how many."""
    rows = db.execute(
        f"""
        WITH due AS (
            SELECT campaign_id, epoch FROM purge WHERE announced_at <= now() - %(interval)s * interval '1 s' * (1 << least(announced, 3))
            ORDER BY announced_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ), noted AS (
            UPDATE purge SET announced_at = now(), announced = least(announced + 1, 3)
            FROM due WHERE (purge.campaign_id, purge.epoch) = (due.campaign_id, due.epoch)
        )
        INSERT INTO outbox (wake, key, swept) SELECT '{Wake.PURGE_LEADS}', campaign_id || ':' || epoch, true FROM due
        """,
        {"interval": interval_s, "limit": limit},
    )
    return rows.rowcount


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to purge: how many epochs, how many leads, and since when the oldest waits."""

    epochs: int
    leads: int
    oldest: datetime | None


def get_backlog(db: Raw) -> Backlog:
    """The purge backlog."""
    row = db.execute("SELECT count(*), coalesce(sum(greatest(leads - deleted, 0)), 0)::bigint, min(requested) FROM purge").fetchone()
    assert row is not None, "an aggregate always answers"
    return Backlog(*row)


def _one(db: Raw, sql: str, params: dict[str, int]) -> tuple[int, ...]:
    row = db.execute(sql, params, prepare=True).fetchone()
    assert row is not None, "an aggregate always answers"
    return row
