"""Events that ingest workers set aside, because they failed or killed their worker again and again."""

from dataclasses import dataclass
from datetime import datetime

from shared.db import inbox
from shared.db.connect import Raw


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


def release(db: Raw, event: int) -> bool:
    """Let a parked event be tried again from the start. False when it is not parked."""
    row = db.execute(
        "UPDATE inbox_event SET parked = false, attempts = 0, trouble = '' WHERE id = %s AND parked RETURNING bot_id", [event]
    ).fetchone()
    if row is not None:
        inbox.announce(db, [row[0]])
    return row is not None
