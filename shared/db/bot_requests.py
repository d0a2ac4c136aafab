"""Requests to connect a bot: accepted by the gateway, taken by a listener under a lease, answered once; and the connecting itself.

States: pending → done | refused | withdrawn, all final. Each try raises `attempts`, which also fences: the outcome is the last taker's to
write. The token goes with the outcome.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.db.connect import Raw
from shared.domain.bots import Action, Plan, Refusal
from shared.messages import LISTENER_CHANNEL, OUTCOME_CHANNEL, Outcome, State, encode_outcomes

#: Unfinished requests of one account; those that come in the same moment are not counted against each other.
UNFINISHED_MAX: Final = 20


def token_place(request: UUID) -> str:
    """Where a request's sealed token belongs."""
    return f"bot_request.token:{request}"


# What the gateway does


def add(db: Raw, request: UUID, account: int, sealed_token: bytes) -> bool:
    """Accept a request; False if the account has too many that are not answered yet."""
    done = db.execute(
        """
        INSERT INTO bot_request (id, account_id, token) SELECT %(id)s, %(account)s, %(token)s
        WHERE (SELECT count(*) FROM bot_request WHERE account_id = %(account)s AND state = 'pending') < %(most)s
        """,
        {"id": request, "account": account, "token": sealed_token, "most": UNFINISHED_MAX},
        prepare=True,
    )
    return done.rowcount == 1


def withdraw(db: Raw, request: UUID, *, left: bool) -> bool:
    """Withdraw a request that no listener has taken yet, or, with `left`, that none is at work on now; and tell the gateways.

    One that is being taken or finished in this moment, or is final, is not withdrawn: the caller gets False and waits on.
    """
    row = db.execute(
        """
        WITH free AS (
            SELECT id FROM bot_request
            WHERE id = %(id)s AND state = 'pending' AND (attempts = 0 OR %(left)s AND taken_until < now()) FOR UPDATE SKIP LOCKED
        ), done AS (
            UPDATE bot_request r SET state = 'withdrawn', token = NULL, finished = clock_timestamp() FROM free WHERE r.id = free.id
            RETURNING 1
        )
        SELECT pg_notify(%(channel)s, %(payload)s) FROM done
        """,
        {"id": request, "left": left, "channel": OUTCOME_CHANNEL, "payload": encode_outcomes([(request, Outcome(State.WITHDRAWN))])[0]},
    ).fetchone()
    return row is not None


def get_outcomes(db: Raw, ids: Sequence[UUID]) -> list[tuple[UUID, Outcome]]:
    """The outcomes of those of the requests that are final."""
    rows = db.execute(
        "SELECT id, state, reason, field, message FROM bot_request WHERE id = ANY(%s) AND state <> 'pending'", [list(ids)], prepare=True
    )
    return [(request, Outcome(State(state), *rest)) for request, state, *rest in rows]


@dataclass(frozen=True, slots=True)
class Connected:
    """The bot that a request connected."""

    id: int
    username: str
    name: str


def get_connected(db: Raw, request: UUID) -> Connected:
    """What came of a request that is done."""
    row = db.execute(
        "SELECT b.id, b.username, b.name FROM bot_request r JOIN bot b ON b.id = r.bot_id WHERE r.id = %s", [request], prepare=True
    ).fetchone()
    assert row is not None, "a request that is done names its bot"
    return Connected(*row)


# What a listener does


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A request under lease, with its sealed token. `attempt` counts from 1."""

    id: UUID
    account: int
    token: bytes
    attempt: int


def take(db: Raw, *, limit: int, per_account: int, lease_s: float) -> list[Taken]:
    """Take requests that nobody is at work on, for so long: of each account no more than so many at a time, its oldest first.

    Accounts take turns, so that one with a hundred bots to connect holds nobody up. Another listener's are passed over. What is pending is
    read once, and then by key as many rows as are taken.
    """
    rows = db.execute(
        """
        WITH pending AS (
            SELECT id, taken_until < now() AS waits,
                   row_number() OVER (PARTITION BY account_id, taken_until < now() ORDER BY id)
                   + count(*) FILTER (WHERE taken_until >= now()) OVER (PARTITION BY account_id) AS turn
            FROM bot_request WHERE state = 'pending'
        ), free AS MATERIALIZED (
            SELECT r.id
            FROM (SELECT id FROM pending WHERE waits AND turn <= %(per_account)s ORDER BY turn, id) AS w
            CROSS JOIN LATERAL (
                SELECT id FROM bot_request WHERE id = w.id AND state = 'pending' AND taken_until < now() FOR UPDATE SKIP LOCKED
            ) AS r
            LIMIT %(limit)s
        )
        UPDATE bot_request r SET taken_until = now() + %(lease)s * interval '1 s', attempts = attempts + 1
        FROM free WHERE r.id = free.id RETURNING r.id, r.account_id, r.token, r.attempts
        """,
        {"limit": limit, "per_account": per_account, "lease": lease_s},
        prepare=True,
    )
    return [Taken(id=i, account=account, token=bytes(token), attempt=attempt) for i, account, token, attempt in rows]


def withdraw_abandoned(db: Raw, *, older_than_s: float) -> int:
    """Withdraw requests so old that nobody waits for them: to connect a bot hours later is no longer what was asked. Returns how many."""
    return db.execute(
        """
        UPDATE bot_request SET state = 'withdrawn', token = NULL, finished = clock_timestamp()
        WHERE state = 'pending' AND taken_until < now() AND created < now() - %s * interval '1 s'
        """,
        [older_than_s],
        prepare=True,
    ).rowcount


def refuse(db: Raw, taken: Taken, refusal: Refusal) -> bool:
    """Answer a request with a refusal; False when it is no longer ours to answer."""
    return _finish(db, taken, Outcome(State.REFUSED, refusal.reason, "token", refusal.message), None)


def finish(tx: Raw, taken: Taken, bot: int) -> bool:
    """Answer a request, whose row is locked, with its bot, and tell the listeners that it has a new session."""
    tx.execute("SELECT pg_notify(%s, %s)", [LISTENER_CHANNEL, str(bot)])
    return _finish(tx, taken, Outcome(State.DONE), bot)


def _finish(db: Raw, taken: Taken, outcome: Outcome, bot: int | None) -> bool:
    row = db.execute(
        """
        WITH done AS (
            UPDATE bot_request SET state = %(state)s, reason = %(reason)s, field = %(field)s, message = %(message)s, bot_id = %(bot)s,
                token = NULL, finished = clock_timestamp()
            WHERE id = %(id)s AND state = 'pending' AND attempts = %(attempt)s RETURNING 1)
        SELECT pg_notify(%(channel)s, %(payload)s) FROM done
        """,
        {
            "id": taken.id,
            "attempt": taken.attempt,
            "state": outcome.state,
            "reason": outcome.reason,
            "field": outcome.field,
            "message": outcome.message,
            "bot": bot,
            "channel": OUTCOME_CHANNEL,
            "payload": encode_outcomes([(taken.id, outcome)])[0],
        },
    ).fetchone()
    return row is not None


# The connecting. Lock order: request → account → bots (by id) → session


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record of a Telegram bot, and its session's sealed token if that has an auth key."""

    id: int
    account: int
    disconnected: datetime | None
    revoked: bool
    sealed_token: bytes | None


LOCK_REQUEST: Final = "SELECT 1 FROM bot_request WHERE id = %s AND state = 'pending' AND attempts = %s FOR UPDATE"
LOCK_ACCOUNT: Final = "SELECT 1 FROM account WHERE id = %s FOR NO KEY UPDATE"
LOCK_BOTS: Final = "SELECT 1 FROM bot WHERE account_id = %s AND tg_id = %s ORDER BY id FOR NO KEY UPDATE"


def lock(tx: Raw, taken: Taken, tg_id: int) -> list[Record] | None:
    """Lock the request, its account and the account's records of this bot; then read these, and who else has it connected.

    None when the request is no longer ours: it was withdrawn, or another listener has taken it after the lease.
    """
    if tx.execute(LOCK_REQUEST, [taken.id, taken.attempt]).fetchone() is None:
        return None
    tx.execute(LOCK_ACCOUNT, [taken.account])
    tx.execute(LOCK_BOTS, [taken.account, tg_id])
    rows = tx.execute(
        """
        SELECT b.id, b.account_id, b.disconnected, b.token_revoked, s.token FROM bot b
        LEFT JOIN bot_session s ON s.bot_id = b.id AND s.auth_key IS NOT NULL
        WHERE b.tg_id = %(tg)s AND (b.account_id = %(account)s OR b.disconnected IS NULL) ORDER BY b.id
        """,
        {"tg": tg_id, "account": taken.account},
    )
    return [
        Record(id=i, account=account, disconnected=gone, revoked=revoked, sealed_token=None if token is None else bytes(token))
        for i, account, gone, revoked, token in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What Telegram says of a bot."""

    tg_id: int
    username: str
    name: str


def set_bot(tx: Raw, plan: Plan, account: int, who: Identity) -> int:
    """The bot's row, connected and called as Telegram calls it now; its id.

    Raises:
        psycopg.errors.UniqueViolation: another account has connected it in the same moment, and was first.
    """
    values = {"id": plan.bot, "account": account, "tg": who.tg_id, "username": who.username, "name": who.name}
    if plan.action is Action.CREATE:
        row = tx.execute(
            """
            WITH new AS (
                INSERT INTO bot (account_id, created_by, tg_id, username, name)
                VALUES (%(account)s, %(account)s, %(tg)s, %(username)s, %(name)s) RETURNING id
            ), inbox AS (INSERT INTO bot_inbox (bot_id) SELECT id FROM new)
            SELECT id FROM new
            """,
            values,
        ).fetchone()
    else:
        row = tx.execute(
            """
            UPDATE bot SET username = %(username)s, name = %(name)s, disconnected = NULL, token_revoked = false
            WHERE id = %(id)s RETURNING id
            """,
            values,
        ).fetchone()
    assert row is not None, "the row was inserted, or is locked"
    return int(row[0])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NewSession:
    """A login: sealed token and auth key, the data centre they belong to, and where updates stood. No repr, for the secrets' sake."""

    token: bytes
    auth_key: bytes
    dc: int
    address: str
    port: int
    username: str
    pts: int
    qts: int
    seq: int
    date: datetime


_UPDATE_STATE: Final = ", ".join(
    f"{column} = CASE WHEN %(keep)s AND s.pts IS NOT NULL THEN s.{column} ELSE excluded.{column} END"
    for column in ("pts", "qts", "seq", "date")
)


def set_session(tx: Raw, bot: int, session: NewSession, *, keep_state: bool) -> None:
    """Give the bot this session, for any listener to take; whoever holds the old one is fenced by the raised epoch.

    With `keep_state` updates go on from where the old session stood, if it ever stood anywhere; else from the login.
    """
    tx.execute(
        f"""
        INSERT INTO bot_session AS s (bot_id, token, auth_key, dc, address, port, username, pts, qts, seq, date)
        VALUES (%(bot)s, %(token)s, %(auth_key)s, %(dc)s, %(address)s, %(port)s, %(username)s, %(pts)s, %(qts)s, %(seq)s, %(date)s)
        ON CONFLICT (bot_id) DO UPDATE SET
            token = excluded.token, auth_key = excluded.auth_key, dc = excluded.dc, address = excluded.address, port = excluded.port,
            username = excluded.username, {_UPDATE_STATE},
            listener_id = NULL, epoch = s.epoch + 1, retry_at = '-infinity', send_after = '-infinity', trouble = '', checked = NULL
        """,
        {**asdict(session), "bot": bot, "keep": keep_state},
    )
