"""Sessions of bots, and the listeners that lease them.

A listener is alive until `expires_at`, which it renews. A session belongs to the listener it names; every change of owner raises its epoch,
and whatever an owner writes names listener and epoch, so that one that lost a session writes nothing more. A listener that is not alive any
more loses its sessions some seconds later, so that it has long noticed by its own clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from shared.db.connect import Raw
from shared.db.inbox import UpdateState
from shared.db.telegram_schema import SERVICE_BOT
from shared.domain.notices import NoticeKind

#: What is written of a trouble.
TROUBLE_LENGTH_MAX: Final = 200

#: Rows of listeners that ended without saying so are kept this long, for people who look.
_ENDED_KEPT: Final = "1 day"


class Owner(NamedTuple):
    """Who writes to a session: the listener, and the session's epoch when it leased it."""

    listener: UUID
    bot: int
    epoch: int


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """A bot's connection as it is kept. Token and auth key are sealed. No repr: nothing of it belongs into a log.

    `state` None: never logged in. `disconnected`: its owner disconnected the bot; all that is left is to log out. `troubled`: a trouble is
    noted.
    """

    bot: int
    epoch: int
    token: bytes
    auth_key: bytes | None
    dc: int | None
    address: str
    port: int | None
    state: UpdateState | None
    disconnected: bool
    troubled: bool


def register(db: Raw, listener: UUID, *, name: str, capacity: int, lease_s: float) -> None:
    """Begin, or begin anew after a lease that ran out: alive, and without any session."""
    with db.transaction():
        db.execute("UPDATE bot_session SET listener_id = NULL WHERE listener_id = %s", [listener])
        db.execute(
            """
            INSERT INTO listener (id, name, capacity, expires_at) VALUES (%s, %s, %s, now() + %s * interval '1 s')
            ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
            """,
            [listener, name, capacity, lease_s],
        )
        db.execute(
            f"""
            DELETE FROM listener WHERE expires_at < now() - interval '{_ENDED_KEPT}'
                AND NOT EXISTS (SELECT FROM bot_session s WHERE s.listener_id = listener.id)
            """
        )


def renew(db: Raw, listener: UUID, *, lease_s: float) -> bool:
    """Stay alive. False when it is too late: the sessions may have gone to others."""
    rows = db.execute(
        "UPDATE listener SET expires_at = now() + %s * interval '1 s' WHERE id = %s AND expires_at > now()",
        [lease_s, listener],
        prepare=True,
    )
    return rows.rowcount == 1


def resign(db: Raw, listener: UUID) -> None:
    """End: sessions are free at once. To be called when nothing of this listener is connected any more."""
    with db.transaction():
        db.execute("UPDATE bot_session SET listener_id = NULL WHERE listener_id = %s", [listener])
        db.execute("DELETE FROM listener WHERE id = %s", [listener])


@dataclass(frozen=True, slots=True)
class Overview:
    """What a listener needs to know of all: capacities of those alive, how many sessions there are to share, and its own.

    `held` has the epoch of each session that names this listener, and whether its bot was disconnected.
    """

    capacities: Sequence[int]
    sessions: int
    held: Mapping[int, tuple[int, bool]]


#: Sessions that want a listener: of connected bots with a good token, of bots to be logged out, and the service bot's.
_WANTED: Final = "(b.id IS NULL OR NOT b.token_revoked OR b.disconnected IS NOT NULL)"


def look(db: Raw, listener: UUID) -> Overview:
    """How things stand."""
    row = db.execute(
        f"""
        SELECT (SELECT coalesce(array_agg(capacity), '{{}}') FROM listener WHERE expires_at > now()),
               (SELECT count(*) FROM bot_session s LEFT JOIN bot b ON b.id = s.bot_id WHERE s.retry_at <= now() AND {_WANTED})
        """,
        prepare=True,
    ).fetchone()
    assert row is not None, "aggregates always answer"
    held = db.execute(
        """
        SELECT s.bot_id, s.epoch, b.disconnected IS NOT NULL FROM bot_session s LEFT JOIN bot b ON b.id = s.bot_id
        WHERE s.listener_id = %s
        """,
        [listener],
        prepare=True,
    )
    return Overview(row[0], row[1], {bot: (epoch, disconnected) for bot, epoch, disconnected in held})


_SESSION: Final = """
    s.bot_id, s.epoch, s.token, s.auth_key, s.dc, s.address, s.port, s.pts, s.qts, s.seq, s.date,
    EXISTS (SELECT FROM bot b WHERE b.id = s.bot_id AND b.disconnected IS NOT NULL), s.trouble <> ''
"""


def lease(db: Raw, listener: UUID, *, take_over_s: float, limit: int) -> list[Session]:
    """Take up to so many sessions that nobody has, or only a listener that has not been alive for `take_over_s`.

    Of two listeners that want one session one gets it, the other goes without; so does a listener that is not alive.
    """
    rows = db.execute(
        f"""
        WITH free AS (
            SELECT s.bot_id FROM bot_session s LEFT JOIN bot b ON b.id = s.bot_id
            WHERE s.retry_at <= now() AND {_WANTED}
              AND NOT EXISTS (
                  SELECT FROM listener l WHERE l.id = s.listener_id AND l.expires_at > now() - %(take_over)s * interval '1 s')
            ORDER BY s.bot_id LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED
        )
        UPDATE bot_session s SET listener_id = %(listener)s, epoch = s.epoch + 1 FROM free
        WHERE s.bot_id = free.bot_id AND EXISTS (SELECT FROM listener l WHERE l.id = %(listener)s AND l.expires_at > now())
        RETURNING {_SESSION}
        """,
        {"listener": listener, "take_over": take_over_s, "limit": limit},
        prepare=True,
    )
    return [_session(row) for row in rows]


def get(db: Raw, owner: Owner) -> Session | None:
    """The session as it is now; None when it is not the listener's any more."""
    row = db.execute(f"SELECT {_SESSION} FROM bot_session s WHERE {_OWN}", owner._asdict()).fetchone()
    return _session(row) if row else None


def _session(row: Sequence[Any]) -> Session:
    bot, epoch, token, auth_key, dc, address, port, pts, qts, seq, date, disconnected, troubled = row
    state = None if pts is None else UpdateState(pts, qts or 0, seq or 0, date)
    return Session(bot, epoch, token, auth_key, dc, address, port, state, disconnected, troubled)


_OWN: Final = """
    s.bot_id = %(bot)s AND s.epoch = %(epoch)s AND s.listener_id = %(listener)s
    AND EXISTS (SELECT FROM listener l WHERE l.id = s.listener_id AND l.expires_at > now())
"""


def _write(db: Raw, owner: Owner, assignments: str, **values: object) -> bool:
    """Change the owner's session. False, and nothing is written, when it is not the owner's any more."""
    statement = f"UPDATE bot_session s SET {assignments} WHERE {_OWN}"
    return db.execute(statement, {**owner._asdict(), **values}).rowcount == 1


def keep_key(db: Raw, owner: Owner, auth_key: bytes, *, dc: int, address: str, port: int) -> bool:
    """Keep a new auth key, sealed, and where it is valid. False when the session is not the owner's any more."""
    return _write(
        db,
        owner,
        "auth_key = %(auth_key)s, dc = %(dc)s, address = %(address)s, port = %(port)s",
        auth_key=auth_key,
        dc=dc,
        address=address,
        port=port,
    )


def drop_key(db: Raw, owner: Owner, trouble: str) -> bool:
    """Forget an auth key that Telegram does not accept any more; how far updates are taken in stays. False as above."""
    return _write(db, owner, "auth_key = NULL, trouble = %(trouble)s", trouble=trouble[:TROUBLE_LENGTH_MAX])


def put_off(db: Raw, owner: Owner, seconds: float, trouble: str) -> bool:
    """Let go of a session that nobody shall try again for a while. False as above."""
    return _write(
        db,
        owner,
        "listener_id = NULL, retry_at = now() + %(seconds)s * interval '1 s', trouble = %(trouble)s",
        seconds=seconds,
        trouble=trouble[:TROUBLE_LENGTH_MAX],
    )


def well(db: Raw, owner: Owner) -> bool:
    """Forget the last trouble: the bot is connected. False as above."""
    return _write(db, owner, "trouble = ''")


def release(db: Raw, listener: UUID, bots: Sequence[int]) -> None:
    """Give sessions back, so that others can take them. To be called when they are disconnected."""
    db.execute("UPDATE bot_session SET listener_id = NULL WHERE listener_id = %s AND bot_id = ANY(%s)", [listener, list(bots)])


def revoke(db: Raw, owner: Owner, tried: bytes, trouble: str) -> bool:
    """Mark a bot whose token Telegram refuses, tell its owner, and let go of its session.

    False, and nothing is written, when the session is not the owner's any more, or the token that was tried (as sealed) has been replaced.
    The service bot is nobody's: its session only waits for another token.
    """
    with db.transaction():
        bot = db.execute(
            "SELECT account_id, username FROM bot WHERE id = %s AND disconnected IS NULL FOR NO KEY UPDATE", [owner.bot]
        ).fetchone()
        freed = db.execute(
            f"""
            UPDATE bot_session s SET auth_key = NULL, listener_id = NULL, trouble = %(trouble)s,
                retry_at = CASE WHEN s.bot_id = {SERVICE_BOT} THEN 'infinity' ELSE s.retry_at END
            WHERE s.token = %(tried)s AND {_OWN}
            """,
            {**owner._asdict(), "tried": tried, "trouble": trouble[:TROUBLE_LENGTH_MAX]},
        )
        if freed.rowcount and bot is not None:
            db.execute("UPDATE bot SET token_revoked = true WHERE id = %s", [owner.bot])
            db.execute(
                "INSERT INTO notice (account_id, kind, params) VALUES (%s, %s, %s)",
                [bot[0], NoticeKind.BOT_TOKEN_REVOKED, Jsonb({"title": f"@{bot[1]}"})],
            )
    return freed.rowcount == 1


def forget(db: Raw, owner: Owner) -> bool:
    """Delete the session of a disconnected bot that is logged out, with what it had to say and nobody will say any more.

    False when the bot was connected again, or the session is not own.
    """
    row = db.execute(
        f"""
        WITH gone AS (
            DELETE FROM bot_session s
            WHERE {_OWN} AND EXISTS (SELECT FROM bot b WHERE b.id = s.bot_id AND b.disconnected IS NOT NULL) RETURNING s.bot_id
        ), unsaid AS (
            DELETE FROM send USING gone WHERE send.bot_id = gone.bot_id
        )
        SELECT count(*) FROM gone
        """,
        owner._asdict(),
    ).fetchone()
    return row == (1,)


def get_service_token(db: Raw) -> bytes | None:
    """The service bot's token, sealed; None if there is no service bot yet."""
    row = db.execute("SELECT token FROM bot_session WHERE bot_id = %s", [SERVICE_BOT]).fetchone()
    return bytes(row[0]) if row else None


def put_service_token(db: Raw, token: bytes, instead_of: bytes | None) -> bool:
    """Give the service bot another sealed token, if it still has the one it is instead of; it will log in anew.

    False when another listener was quicker.
    """
    if instead_of is None:
        try:
            db.execute("INSERT INTO bot_session (bot_id, token) VALUES (%s, %s)", [SERVICE_BOT, token])
        except psycopg.errors.UniqueViolation:
            return False
        return True
    rows = db.execute(
        """
        UPDATE bot_session SET token = %s, auth_key = NULL, dc = NULL, address = '', port = NULL, pts = NULL, qts = NULL, seq = NULL,
            date = NULL, listener_id = NULL, epoch = epoch + 1, retry_at = '-infinity', trouble = ''
        WHERE bot_id = %s AND token = %s
        """,
        [token, SERVICE_BOT, instead_of],
    )
    return rows.rowcount == 1
