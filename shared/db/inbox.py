"""Events of Telegram on their way in: taken in by listeners, announced to ingest workers, remembered so that each counts once.

A listener's checkpoint is one statement: events, peers, how far the bot's updates are taken in, and the wake-up are committed together or
not at all, and only while the listener owns the session.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import psycopg

from shared.db.connect import Raw
from shared.domain.events import Event
from shared.messages import OUTBOX_CHANNEL, Wake

#: A swept wake-up's interval is doubled at most so many times.
BACKOFF_MAX: Final = 3

#: How long it is remembered what a bot was told. Telegram repeats for a day or so.
REMEMBERED: Final = timedelta(days=8)

#: How long events of odd dates are remembered: older ones than any partition of their own, by their date.
ODD_REMEMBERED: Final = timedelta(days=60)

#: Milliseconds that partitions are waited for, and that those who write to them wait behind.
PARTITION_WAIT_MS: Final = 100

#: Odd events forgotten in one turn.
FORGET_ROWS_MAX: Final = 10_000

#: Partitions are made so long ahead, so that a relay may be away for a while.
AHEAD: Final = timedelta(days=15)

_WEEK: Final = timedelta(days=7)

#: Processes that make partitions take turns on this advisory lock.
_LOCK: Final = 7_283_452


class UpdateState(NamedTuple):
    """How far a bot's updates are taken in, in Telegram's numbers."""

    pts: int
    qts: int
    seq: int
    date: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a bot's client took in since the last one. Events have their content's keys; peers their access hashes.

    Without a state the events are stored and nothing else is said: Telegram may tell them again.
    """

    bot: int
    epoch: int
    state: UpdateState | None
    events: Mapping[bytes, Event] = field(default_factory=dict)
    peers: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of checkpoints.

    `own`: bots whose sessions were the listener's, with their epochs; checkpoints of others were passed over. `fresh`: how many events
    were new. `unsure`: bots that have new ones but were awake or locked, so that somebody has to look again.
    """

    own: Mapping[int, int]
    fresh: int
    unsure: Sequence[int]


_WAKE_UP: Final = f"""
    UPDATE bot_inbox SET awake = true, announced = 0, announced_at = now() FROM asleep WHERE bot_inbox.bot_id = asleep.bot_id
    RETURNING bot_inbox.bot_id
), told AS (
    INSERT INTO outbox (wake, key) SELECT '{Wake.APPLY_EVENTS}', bot_id::text FROM woken ORDER BY bot_id
    RETURNING pg_notify('{OUTBOX_CHANNEL}', '')
"""

# Nobody knows beforehand how many events there are, and a join of those given with those new would be one of each with each: a bot with a
# long backlog would never be done. IS TRUE keeps it a look-up in a table of hashes. IS NOT DISTINCT FROM keeps the few sessions that are
# written from being looked for among all that the listener has.
_STORE: Final = f"""
WITH own AS (
    UPDATE bot_session s SET
        pts = coalesce(c.pts, s.pts), qts = coalesce(c.qts, s.qts), seq = coalesce(c.seq, s.seq), date = coalesce(c.date, s.date),
        checked = now()
    FROM json_to_recordset(%(checkpoints)s) AS c(bot bigint, epoch bigint, pts int, qts int, seq int, date timestamptz)
    WHERE s.bot_id = c.bot AND s.epoch = c.epoch AND s.listener_id IS NOT DISTINCT FROM %(listener)s
      AND EXISTS (SELECT FROM listener l WHERE l.id = %(listener)s AND l.expires_at > now())
    RETURNING s.bot_id, s.epoch
), given AS (
    SELECT DISTINCT ON (e.bot, e.key) e.* FROM json_to_recordset(%(events)s) AS e(
        n int, bot bigint, epoch bigint, key bytea, kind text, at timestamptz, subscriber bigint, chat bigint, message bigint,
        username text, payload text, before text, after text, own boolean, title text, chat_type text)
    JOIN own ON own.bot_id = e.bot AND own.epoch = e.epoch ORDER BY e.bot, e.key, e.n
), fresh AS (
    INSERT INTO seen (bot_id, key, at) SELECT bot, key, at FROM given ORDER BY bot, key ON CONFLICT DO NOTHING RETURNING bot_id, key
), stored AS (
    INSERT INTO inbox_event (bot_id, kind, at, subscriber, chat, message, username, payload, before, after, own, title, chat_type)
    SELECT g.bot, g.kind, g.at, g.subscriber, g.chat, g.message, g.username, g.payload, g.before, g.after, g.own, g.title, g.chat_type
    FROM given g WHERE ((g.bot, g.key) IN (SELECT bot_id, key FROM fresh)) IS TRUE ORDER BY g.n
), met AS (
    INSERT INTO peer (bot_id, peer_id, access_hash)
    SELECT DISTINCT ON (p.bot, p.peer) p.bot, p.peer, p.hash
    FROM json_to_recordset(%(peers)s) AS p(bot bigint, epoch bigint, peer bigint, hash bigint)
    JOIN own ON own.bot_id = p.bot AND own.epoch = p.epoch ORDER BY p.bot, p.peer
    ON CONFLICT (bot_id, peer_id) DO UPDATE SET access_hash = excluded.access_hash WHERE peer.access_hash <> excluded.access_hash
), asleep AS (
    SELECT bot_id FROM bot_inbox WHERE NOT awake AND bot_id IN (SELECT bot_id FROM fresh) FOR UPDATE SKIP LOCKED
), woken AS ({_WAKE_UP})
SELECT (SELECT array_agg(ARRAY[bot_id, epoch]) FROM own), (SELECT count(*) FROM fresh), (SELECT count(*) FROM told),
       (SELECT array_agg(DISTINCT bot_id) FROM fresh WHERE bot_id NOT IN (SELECT bot_id FROM woken))
"""


def store(db: Raw, listener: UUID, checkpoints: Sequence[Checkpoint]) -> Stored:
    """Commit checkpoints, one for each bot, together with the wake-ups of bots that get new events and are not awake.

    A checkpoint of a session that the listener does not own any more, or whose epoch is an older one, writes nothing, also next to one of
    the same bot that does; its bot is not in `own` with its epoch. An event that was stored before is passed over.
    """
    row = db.execute(
        _STORE,
        {
            "listener": listener,
            "checkpoints": _json(
                [{"bot": c.bot, "epoch": c.epoch, **(c.state._asdict() if c.state else {})} for c in checkpoints],
            ),
            "events": _json([_row(n, c.epoch, key, event) for c in checkpoints for n, (key, event) in enumerate(c.events.items())]),
            "peers": _json(
                [{"bot": c.bot, "epoch": c.epoch, "peer": peer, "hash": hash_} for c in checkpoints for peer, hash_ in c.peers.items()]
            ),
        },
        prepare=True,
    ).fetchone()
    assert row is not None, "aggregates always answer"
    own, fresh, _, unsure = row
    return Stored(dict(own or ()), fresh, unsure or ())


def _row(n: int, epoch: int, key: bytes, event: Event) -> dict[str, object]:
    return {
        "n": n,
        "bot": event.bot,
        "epoch": epoch,
        "key": f"\\x{key.hex()}",
        "kind": event.kind,
        "at": event.at,
        "subscriber": event.subscriber,
        "chat": event.chat,
        "message": event.message,
        "username": event.username,
        "payload": event.payload,
        "before": event.before,
        "after": event.after,
        "own": event.own,
        "title": event.title,
        "chat_type": event.chat_type,
    }


def _json(rows: list[dict[str, object]]) -> str:
    return msgspec.json.encode(rows).decode()


_ANNOUNCE: Final = f"""
WITH asleep AS (
    SELECT i.bot_id FROM bot_inbox i
    WHERE NOT i.awake AND i.bot_id = ANY(%(bots)s)
      AND EXISTS (SELECT FROM inbox_event e WHERE e.bot_id = i.bot_id AND NOT e.parked)
    FOR UPDATE OF i SKIP LOCKED
), woken AS ({_WAKE_UP})
SELECT count(*) FROM told
"""


def announce(db: Raw, bots: Sequence[int]) -> int:
    """Write a wake-up for each of these bots that has events waiting and is not awake. Returns how many.

    Listener and ingest both call this after their commits. Whichever commits last sees what the other did; a bot that is locked here will
    be looked at by who holds it.
    """
    row = db.execute(_ANNOUNCE, {"bots": list(bots)}, prepare=True).fetchone()
    assert row is not None, "an aggregate always answers"
    return int(row[0])


def announce_overdue(db: Raw, *, interval_s: float, limit: int) -> int:
    """Write a wake-up for each bot whose last one came to nothing for its interval, which doubles. Returns how many.

    So it does for each bot that has none at all for the interval, although events wait.

    The first repetition counts as a first announcement, the second is marked as swept: an event may be killing workers.
    """
    rows = db.execute(
        f"""
        WITH due AS (
            SELECT bot_id, awake AND announced > 0 AS again FROM bot_inbox i
            WHERE announced_at <= now() - %(interval)s * interval '1 s' * CASE WHEN awake THEN 1 << announced ELSE 1 END
              AND (awake OR EXISTS (SELECT FROM inbox_event e WHERE e.bot_id = i.bot_id AND NOT e.parked))
            ORDER BY announced_at, bot_id LIMIT %(limit)s FOR UPDATE OF i SKIP LOCKED
        ), noted AS (
            UPDATE bot_inbox i SET awake = true, announced_at = now(),
                announced = CASE WHEN awake THEN least(announced + 1, {BACKOFF_MAX}) ELSE 0 END
            FROM due WHERE i.bot_id = due.bot_id
        )
        INSERT INTO outbox (wake, key, swept) SELECT '{Wake.APPLY_EVENTS}', bot_id::text, again FROM due
        """,
        {"interval": interval_s, "limit": limit},
    )
    return rows.rowcount


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is taken in and not yet applied: events, of how many bots, since when the oldest waits, and how many are parked."""

    events: int
    bots: int
    oldest: datetime | None
    parked: int


def get_backlog(db: Raw) -> Backlog:
    """The inbox's backlog."""
    row = db.execute(
        """
        SELECT count(*) FILTER (WHERE NOT parked), count(DISTINCT bot_id) FILTER (WHERE NOT parked),
               min(arrived) FILTER (WHERE NOT parked), count(*) FILTER (WHERE parked)
        FROM inbox_event
        """
    ).fetchone()
    assert row is not None, "an aggregate always answers"
    return Backlog(*row)


def keep_partitions(db: Raw) -> int:
    """Make the weeks of `seen` that will soon be needed, drop those that are over and out of Telegram's mind. Returns how many changed.

    A week for which events came while it had no partition takes them over. Whoever finds another process at it leaves it to that one, and
    whoever finds the table in use, as a backup uses it for hours, to the next time: waiting for it would hold up everybody.
    """
    try:
        return _keep_partitions(db)
    except psycopg.errors.LockNotAvailable:
        return 0


def _keep_partitions(db: Raw) -> int:
    with db.transaction():
        db.execute(f"SET LOCAL lock_timeout = {PARTITION_WAIT_MS}")
        row = db.execute("SELECT pg_try_advisory_xact_lock(%s), now()", [_LOCK]).fetchone()
        assert row is not None, "a function always answers"
        free, now = row
        if not free:
            return 0
        weeks = {name for (name,) in db.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'seen'::regclass")}
        wanted = _weeks(now - REMEMBERED, now + AHEAD)
        for name, since in wanted.items():
            if name not in weeks:
                _make_week(db, name, since)
        past = sorted(name for name in weeks - wanted.keys() - {"seen_default"} if name < min(wanted))
        for name in past:
            db.execute(f"DROP TABLE {name}")
        db.execute(
            "DELETE FROM seen_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM seen_default WHERE at < %s LIMIT %s))",
            [now - ODD_REMEMBERED, FORGET_ROWS_MAX],
        )
        return len(wanted.keys() - weeks) + len(past)


def _weeks(first: datetime, last: datetime) -> dict[str, datetime]:
    """Names of the partitions from one date to another, with their Mondays."""
    first = first.astimezone(UTC)
    monday = (first - timedelta(days=first.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    weeks: dict[str, datetime] = {}
    while monday <= last:
        weeks[f"seen_{monday:%Y%m%d}"] = monday
        monday += _WEEK
    return weeks


def _make_week(db: Raw, name: str, since: datetime) -> None:
    span = [since, since + _WEEK]
    db.execute("LOCK TABLE seen_default IN ACCESS EXCLUSIVE MODE")  # an event of that week that came after the move would be in the way
    db.execute(f"CREATE TABLE {name} (LIKE seen INCLUDING ALL)")
    db.execute(
        f"WITH moved AS (DELETE FROM seen_default WHERE at >= %s AND at < %s RETURNING *) INSERT INTO {name} SELECT * FROM moved", span
    )
    db.execute(f"ALTER TABLE seen ATTACH PARTITION {name} FOR VALUES FROM ('{span[0].isoformat()}') TO ('{span[1].isoformat()}')")
