"""The outbox: wake-ups that a transaction wrote beside its work, until a relay has them confirmed by RabbitMQ.

A relay claims rows under a lease, publishes, and deletes what was confirmed. No lock is held while it waits for RabbitMQ, and a relay that
dies in between costs one lease and perhaps a repeated wake-up, never a lost one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.db.connect import Raw
from shared.messages import Wake

# A commit that does not wait for the disk. What a crash of the server takes back of leases and deletions makes wake-ups come twice,
# which harms nobody.
_AT_ONCE = "(SELECT set_config('synchronous_commit', 'off', true)) AS at_once"


@dataclass(frozen=True, slots=True)
class Row:
    """One wake-up waiting to be published."""

    id: int
    wake: Wake
    key: str
    swept: bool


def claim(db: Raw, *, limit: int, lease_s: float) -> list[Row]:
    """Take up to `limit` rows, oldest first, that no relay has under lease."""
    rows = db.execute(
        f"""
        WITH free AS (
            SELECT id FROM outbox WHERE claimed_until < now() ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        UPDATE outbox SET claimed_until = now() + %(lease)s * interval '1 s' FROM free, {_AT_ONCE} WHERE outbox.id = free.id
        RETURNING outbox.id, wake, key, swept
        """,
        {"limit": limit, "lease": lease_s},
        prepare=True,
    )
    return sorted((Row(i, Wake(wake), key, swept) for i, wake, key, swept in rows), key=lambda row: row.id)


def delete(db: Raw, rows: Sequence[Row]) -> None:
    """Forget rows whose wake-ups RabbitMQ has confirmed."""
    db.execute(f"DELETE FROM outbox USING {_AT_ONCE} WHERE id = ANY(%s)", [[row.id for row in rows]], prepare=True)


def free(db: Raw, rows: Sequence[Row]) -> None:
    """Give rows back at once: they could not be published."""
    db.execute("UPDATE outbox SET claimed_until = '-infinity' WHERE id = ANY(%s)", [[row.id for row in rows]])


def count(db: Raw) -> int:
    """How many wake-ups wait to be published."""
    row = db.execute("SELECT count(*) FROM outbox").fetchone()
    assert row is not None, "an aggregate always answers"
    return int(row[0])
