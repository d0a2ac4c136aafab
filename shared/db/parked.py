"""Events that fail or kill their worker: each is tried alone, the tries are counted, and after too many it is set aside."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from shared.db import inbox
from shared.db.connect import Raw


@contextmanager
def held(db: Raw, bot: int) -> Iterator[bool]:
    """Whether this session alone may try the bot's events one by one; so that two careful workers do not both count the same try.

    The lock goes with the session, however that ends.
    """
    name = "hashtextextended('inbox ' || %s::bigint, 0)"
    mine = bool(db.execute(f"SELECT pg_try_advisory_lock({name})", [bot], prepare=True).fetchone() == (True,))
    try:
        yield mine
    finally:
        if mine and not db.closed:
            db.execute(f"SELECT pg_advisory_unlock({name})", [bot], prepare=True)


def get_untried(db: Raw, bot: int, *, share: int) -> list[int]:
    """The oldest `share` events of a bot, those with the fewest tries first; from now on the bot counts as not awake.

    They are those that a turn takes together, so that the one which killed a worker there is among them.
    """
    rows = db.execute(
        """
        WITH rested AS (UPDATE bot_inbox SET awake = false, announced = 0, announced_at = now() WHERE bot_id = %(bot)s)
        SELECT id FROM (
            SELECT id, attempts FROM inbox_event WHERE bot_id = %(bot)s AND NOT parked ORDER BY id LIMIT %(share)s) AS oldest
        ORDER BY attempts, id
        """,
        {"bot": bot, "share": share},
        prepare=True,
    )
    return [row[0] for row in rows]


def get_tried(db: Raw, bots: Sequence[int], *, share: int) -> set[int]:
    """Those of the bots among whose oldest `share` events one was tried alone before."""
    rows = db.execute(
        """
        SELECT b.bot FROM unnest(%s::bigint[]) AS b (bot) WHERE EXISTS (
            SELECT FROM (SELECT attempts FROM inbox_event WHERE bot_id = b.bot AND NOT parked ORDER BY id LIMIT %s) AS oldest
            WHERE attempts > 0)
        """,
        [list(bots), share],
        prepare=True,
    )
    return {bot for (bot,) in rows}


def count_attempt(db: Raw, event: int, *, attempts_max: int) -> bool:
    """Count one more try before it is made. False when it is not to be tried: applied meanwhile, or parked just now for too many."""
    row = db.execute(
        """
        UPDATE inbox_event SET
            attempts = attempts + (attempts < %(max)s)::int::smallint,
            parked = attempts >= %(max)s,
            trouble = CASE WHEN attempts < %(max)s OR trouble <> '' THEN trouble
                      ELSE 'the worker died ' || %(max)s || ' times while it was at work on this event' END
        WHERE id = %(event)s AND NOT parked RETURNING parked
        """,
        {"event": event, "max": attempts_max},
        prepare=True,
    ).fetchone()
    return row is not None and not row[0]


def give_attempt_back(db: Raw, event: int) -> None:
    """Uncount a try that ended for a reason which says nothing against the event, such as a deadlock or a database gone away."""
    db.execute("UPDATE inbox_event SET attempts = attempts - 1 WHERE id = %s AND NOT parked AND attempts > 0", [event], prepare=True)


def note_trouble(db: Raw, event: int, trouble: str) -> None:
    """Keep what went wrong in the last try, for the operator."""
    db.execute("UPDATE inbox_event SET trouble = %s WHERE id = %s AND NOT parked", [trouble[:500], event])


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event as an operator sees it: of which bot, what kind, since when, how often it was tried, and what went wrong."""

    id: int
    bot: int
    kind: str
    arrived: datetime
    attempts: int
    trouble: str


def get_parked(db: Raw, *, limit: int) -> list[ParkedEvent]:
    """The oldest ones."""
    rows = db.execute("SELECT id, bot_id, kind, arrived, attempts, trouble FROM inbox_event WHERE parked ORDER BY id LIMIT %s", [limit])
    return [ParkedEvent(*row) for row in rows]


def release(db: Raw, events: Sequence[int] | None) -> int:
    """Let parked events be tried again from the start: these, or all. How many; those that are not parked are passed over."""
    rows = db.execute(
        """
        UPDATE inbox_event SET parked = false, attempts = 0, trouble = '' WHERE parked AND (id = ANY(%(ids)s) OR %(all)s)
        RETURNING bot_id
        """,
        {"ids": list(events or ()), "all": events is None},
    ).fetchall()
    inbox.announce(db, sorted({bot for (bot,) in rows}))
    return len(rows)
