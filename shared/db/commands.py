"""Commands: accepted by the gateway, taken by the ledger, answered once.

States: pending → done | refused | withdrawn, final; pending ⇄ parked. Every change is a conditional write under the row's lock.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Pipeline

from shared.db.connect import Raw
from shared.domain.transfers import Kind, Request
from shared.messages import OUTBOX_CHANNEL, OUTCOME_CHANNEL, Outcome, State, Wake, encode_outcomes

#: How many times a repeated request looks again for the command it met, before giving up for now.
JOIN_TRIES_MAX: Final = 5

#: A re-announcement waits for the sweep interval times a power of two, at most this one.
BACKOFF_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommand:
    """A transfer to accept. Two are the same request when all but `id` are equal."""

    id: UUID
    kind: Kind
    account: int
    object_id: int
    token: str
    keep_leads: bool
    idempotency_key: str | None

    def same_request(self, other: "NewCommand") -> bool:
        """Whether both ask for the same, whatever their keys."""
        mine = (self.kind, self.account, self.object_id, self.token, self.keep_leads)
        return mine == (other.kind, other.account, other.object_id, other.token, other.keep_leads)


@dataclass(frozen=True, slots=True)
class Standing:
    """A stored command, and its outcome where it has one."""

    command: NewCommand
    outcome: Outcome | None


_COLUMNS = "id, kind, account_id, object_id, token, keep_leads, idempotency_key, state, reason, field, message"

# A request without a key does not become a second command while an equal one is unfinished, with a key or without: the first condition
# sees the committed ones, the unique index settles a race between two without keys. Rows go in by the order of the unique keys, since an
# insert that meets another gateway's uncommitted row waits for it: two gateways that waited for each other would deadlock. The wake-up is
# part of the same statement, so that no command is ever committed without it.
ADD = f"""
    WITH new AS (
        SELECT * FROM unnest(
            %(ids)s::uuid[], %(kinds)s::text[], %(accounts)s::bigint[], %(objects)s::bigint[],
            %(tokens)s::text[], %(keeps)s::boolean[], %(keys)s::text[]
        ) AS n (id, kind, account_id, object_id, token, keep_leads, idempotency_key)
    ), added AS (
        INSERT INTO command (id, kind, account_id, object_id, token, keep_leads, idempotency_key)
        SELECT * FROM new
        WHERE idempotency_key IS NOT NULL OR NOT EXISTS (
            SELECT FROM command c
            WHERE c.state IN ('pending', 'parked')
              AND (c.account_id, c.object_id, c.kind, c.token, c.keep_leads)
                = (new.account_id, new.object_id, new.kind, new.token, new.keep_leads))
        ORDER BY account_id, coalesce(idempotency_key, ''), object_id, kind, token, keep_leads
        ON CONFLICT DO NOTHING
        RETURNING id
    ), woken AS (
        INSERT INTO outbox (wake, key) SELECT '{Wake.DECIDE_TRANSFERS}', id::text FROM added
    )
    SELECT id FROM added
"""

FIND_BY_KEY = f"SELECT {_COLUMNS} FROM command WHERE account_id = %(account)s AND idempotency_key = %(key)s"
FIND_EQUAL = f"""
    SELECT {_COLUMNS} FROM command
    WHERE (account_id, object_id, kind, token, keep_leads) = (%(account)s, %(object)s, %(kind)s, %(token)s, %(keep)s)
      AND state IN ('pending', 'parked')
    ORDER BY id LIMIT 1
"""

CLAIM_COLUMNS = "c.id, c.kind, c.account_id, c.object_id, c.token, c.keep_leads"

# The token is looked up without a lock; the decision verifies it once the account is locked.
CLAIM_OLDEST = f"""
    WITH c AS MATERIALIZED (
        SELECT * FROM command WHERE state = 'pending' AND attempts = 0 ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    SELECT {CLAIM_COLUMNS}, (SELECT a.id FROM account a WHERE a.transfer_token = c.token) FROM c ORDER BY c.id
"""
CLAIM_ONE = f"""
    WITH c AS MATERIALIZED (SELECT * FROM command WHERE state = 'pending' AND id = %(id)s FOR UPDATE SKIP LOCKED)
    SELECT {CLAIM_COLUMNS}, (SELECT a.id FROM account a WHERE a.transfer_token = c.token) FROM c
"""


def add(db: Raw, commands: Sequence[NewCommand]) -> set[UUID]:
    """Accept commands with their wake-ups, in one commit. Returns the ids accepted.

    A command left out met another one: the holder of its Idempotency-Key, or an equal unfinished one. `find` tells which.
    """
    rows = db.execute(
        ADD,
        {
            "ids": [c.id for c in commands],
            "kinds": [c.kind.value for c in commands],
            "accounts": [c.account for c in commands],
            "objects": [c.object_id for c in commands],
            "tokens": [c.token for c in commands],
            "keeps": [c.keep_leads for c in commands],
            "keys": [c.idempotency_key for c in commands],
        },
        prepare=True,
    )
    return {row[0] for row in rows}


def find(db: Raw, wanted: NewCommand) -> Standing | None:
    """The command that stands in the way of `wanted`; None when it has been finished meanwhile, and `wanted` may try again."""
    row = db.execute(
        FIND_EQUAL if wanted.idempotency_key is None else FIND_BY_KEY,
        {
            "account": wanted.account,
            "key": wanted.idempotency_key,
            "object": wanted.object_id,
            "kind": wanted.kind.value,
            "token": wanted.token,
            "keep": wanted.keep_leads,
        },
        prepare=True,
    ).fetchone()
    return _standing(row) if row else None


def get_outcomes(db: Raw, ids: Sequence[UUID]) -> list[tuple[UUID, Outcome]]:
    """The outcomes of those of the commands that are final."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM command WHERE id = ANY(%s) AND state IN ('done', 'refused', 'withdrawn')",
        [list(ids)],
        prepare=True,
    )
    standings = [_standing(row) for row in rows]
    return [(s.command.id, s.outcome) for s in standings if s.outcome is not None]


def withdraw(db: Raw, command: UUID) -> bool:
    """Withdraw a command that nobody has taken, and tell the gateways.

    A command whose row is locked has been taken and one that is final has its answer: for both the caller gets False and waits on.
    """
    outcome = Outcome(State.WITHDRAWN)
    row = db.execute(
        """
        WITH free AS (
            SELECT id FROM command WHERE id = %(id)s AND state IN ('pending', 'parked') FOR UPDATE SKIP LOCKED
        ), done AS (
            UPDATE command SET state = 'withdrawn', finished = clock_timestamp() FROM free WHERE command.id = free.id RETURNING 1
        )
        SELECT pg_notify(%(channel)s, %(payload)s) FROM done
        """,
        {"id": command, "channel": OUTCOME_CHANNEL, "payload": encode_outcomes([(command, outcome)])[0]},
    ).fetchone()
    return row is not None


def claim_oldest(tx: Raw, pipeline: Pipeline, limit: int) -> list[Request]:
    """Lock the oldest waiting commands that were never tried alone; those of another worker are passed over."""
    rows = tx.execute(CLAIM_OLDEST, {"limit": limit}, prepare=True)
    pipeline.sync()
    return [_request(row) for row in rows]


def claim_one(tx: Raw, pipeline: Pipeline, command: UUID) -> list[Request]:
    """Lock this command; empty when it is finished, parked or another worker's."""
    rows = tx.execute(CLAIM_ONE, {"id": command}, prepare=True)
    pipeline.sync()
    return [_request(row) for row in rows]


def count_attempt(db: Raw, command: UUID, *, attempts_max: int) -> bool:
    """Count one more try before it is made. False when it is not to be tried: taken, finished, or parked just now for too many."""
    row = db.execute(
        """
        WITH free AS (SELECT id FROM command WHERE id = %(id)s AND state = 'pending' FOR UPDATE SKIP LOCKED)
        UPDATE command SET
            attempts = attempts + (attempts < %(max)s)::int::smallint,
            state = CASE WHEN attempts < %(max)s THEN 'pending' ELSE 'parked' END,
            trouble = CASE WHEN attempts < %(max)s OR trouble <> '' THEN trouble
                      ELSE 'the worker died ' || %(max)s || ' times while it was at work on this command' END
        FROM free WHERE command.id = free.id RETURNING state
        """,
        {"id": command, "max": attempts_max},
    ).fetchone()
    return row is not None and row[0] == State.PENDING


@contextmanager
def held(db: Raw, command: UUID) -> Iterator[bool]:
    """Whether this session alone may try the command one by one; so that two careful workers do not both count the same try.

    The lock goes with the session, however that ends.
    """
    name = "hashtextextended(%s::uuid::text, 0)"
    mine = bool(db.execute(f"SELECT pg_try_advisory_lock({name})", [command], prepare=True).fetchone() == (True,))
    try:
        yield mine
    finally:
        if mine and not db.closed:
            db.execute(f"SELECT pg_advisory_unlock({name})", [command], prepare=True)


def give_attempt_back(db: Raw, command: UUID) -> None:
    """Uncount a try that ended for a reason which says nothing against the command, such as a deadlock or a database gone away."""
    db.execute("UPDATE command SET attempts = attempts - 1 WHERE id = %s AND state = 'pending' AND attempts > 0", [command])


def note_trouble(db: Raw, command: UUID, trouble: str) -> None:
    """Keep what went wrong in the last try, for the operator."""
    db.execute("UPDATE command SET trouble = %s WHERE id = %s AND state = 'pending'", [trouble[:500], command])


def get_untried(db: Raw, limit: int) -> list[UUID]:
    """The oldest waiting commands by fewest attempts: what a worker goes through one by one after a death."""
    rows = db.execute("SELECT id FROM command WHERE state = 'pending' ORDER BY attempts, id LIMIT %s", [limit])
    return [row[0] for row in rows]


def announce_overdue(db: Raw, *, interval_s: float, limit: int) -> int:
    """Write a wake-up for each command whose last announcement came to nothing for its interval, which doubles. Returns how many.

    The first repetition counts as a first announcement: what RabbitMQ lost is decided in batches. A command that was repeated or tried
    alone before may be here because it kills workers, and is marked as swept.
    """
    rows = db.execute(
        f"""
        WITH due AS (
            SELECT id, announced > 0 OR attempts > 0 AS again FROM command
            WHERE state = 'pending' AND announced_at <= now() - %(interval)s * interval '1 s' * (1 << least(announced, {BACKOFF_MAX}))
            ORDER BY attempts, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ), noted AS (
            UPDATE command SET announced_at = now(), announced = least(announced + 1, {BACKOFF_MAX}) FROM due WHERE command.id = due.id
        )
        INSERT INTO outbox (wake, key, swept) SELECT '{Wake.DECIDE_TRANSFERS}', id::text, again FROM due
        """,
        {"interval": interval_s, "limit": limit},
    )
    return rows.rowcount


def withdraw_abandoned(db: Raw, *, older_than_s: float, limit: int) -> int:
    """Withdraw waiting commands that nobody can still be waiting for. Returns how many.

    Without an Idempotency-Key the outcome can be told to the waiting request alone, and its gateway withdraws the command at the deadline.
    What is much older lost its gateway; to carry it out hours later could undo what its owner decided meanwhile.
    """
    rows = db.execute(
        """
        WITH old AS (
            SELECT id FROM command
            WHERE state = 'pending' AND idempotency_key IS NULL AND created <= now() - %(age)s * interval '1 s'
            ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        UPDATE command SET state = 'withdrawn', finished = clock_timestamp() FROM old WHERE command.id = old.id
        """,
        {"age": older_than_s, "limit": limit},
    )
    return rows.rowcount


def release(db: Raw, command: UUID) -> bool:
    """Let a parked command be tried again from the start. False when it is not parked."""
    row = db.execute(
        f"""
        WITH freed AS (
            UPDATE command SET state = 'pending', attempts = 0, announced = 0, announced_at = now(), trouble = ''
            WHERE id = %s AND state = 'parked' RETURNING id)
        INSERT INTO outbox (wake, key) SELECT '{Wake.DECIDE_TRANSFERS}', id::text FROM freed RETURNING pg_notify('{OUTBOX_CHANNEL}', '')
        """,
        [command],
    ).fetchone()
    return row is not None


@dataclass(frozen=True, slots=True)
class Load:
    """How many commands wait and are parked, and for how many seconds the oldest has waited."""

    pending: int
    parked: int
    oldest_s: float


def get_load(db: Raw) -> Load:
    """What the ledger has before it."""
    row = db.execute(
        """
        SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'parked'),
               coalesce(extract(epoch FROM now() - min(created) FILTER (WHERE state = 'pending')), 0)::float8
        FROM command WHERE state IN ('pending', 'parked')
        """
    ).fetchone()
    assert row is not None, "an aggregate always answers"
    return Load(*row)


def get_worker(db: Raw, command: UUID) -> str:
    """Which worker finished the command; empty for one that is unfinished, withdrawn or unknown."""
    row = db.execute("SELECT worker FROM command WHERE id = %s", [command]).fetchone()
    return row[0] if row else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A waiting or parked command, for the operator. Holds no token."""

    id: UUID
    kind: Kind
    account: int
    object_id: int
    state: State
    attempts: int
    created: datetime
    trouble: str


def get_unfinished(db: Raw, *, state: State, limit: int = 200) -> list[Unfinished]:
    """Commands in this state, oldest first."""
    rows = db.execute(
        "SELECT id, kind, account_id, object_id, state, attempts, created, trouble FROM command WHERE state = %s ORDER BY id LIMIT %s",
        [state.value, limit],
    )
    return [
        Unfinished(id=i, kind=Kind(k), account=a, object_id=o, state=State(s), attempts=n, created=c, trouble=t)
        for i, k, a, o, s, n, c, t in rows
    ]


def _request(row: tuple[Any, ...]) -> Request:
    command, kind, sender, object_id, token, keep_leads, recipient = row
    return Request(
        id=command,
        kind=Kind(kind),
        sender=sender,
        object_id=object_id,
        token=token,
        keep_leads=keep_leads,
        recipient=recipient,
    )


def _standing(row: tuple[Any, ...]) -> Standing:
    command, kind, account, object_id, token, keep, key, state, reason, field, message = row
    final = state in {State.DONE, State.REFUSED, State.WITHDRAWN}
    return Standing(
        NewCommand(
            id=command,
            kind=Kind(kind),
            account=account,
            object_id=object_id,
            token=token,
            keep_leads=keep,
            idempotency_key=key,
        ),
        Outcome(State(state), reason, field, message) if final else None,
    )
