"""How every process connects: one way, with limits that keep a stopped or cut-off process from holding anybody up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy import exc as sqlalchemy_errors

#: The driver's own connection, for the hot paths.
Raw = psycopg.Connection[tuple[Any, ...]]

IDLE_IN_TRANSACTION_MS: Final = 5_000
LOCK_WAIT_MS: Final = 5_000
STATEMENT_MS: Final = 10_000
CONNECT_S: Final = 5
TCP_USER_TIMEOUT_MS: Final = 10_000

#: The server ends what a stopped process left open after these; without them its locks stay for as long as it is stopped.
SESSION_LIMITS: Final = {
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
    "lock_timeout": LOCK_WAIT_MS,
    "statement_timeout": STATEMENT_MS,
    "client_connection_check_interval": 1_000,
}

#: Errors that say "not now", not "wrong": the work may be done again. Deadlocks and lock timeouts, a server that goes down or
#: is away, a statement or a session that ran into its limit.
EXPECTED: Final = (
    psycopg.OperationalError,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.IdleInTransactionSessionTimeout,
)

#: The same as SQLAlchemy wraps them.
AWAY: Final = (psycopg.OperationalError, sqlalchemy_errors.OperationalError, sqlalchemy_errors.TimeoutError)


def connect(url: str, *, name: str, limits: dict[str, int] = SESSION_LIMITS) -> Raw:
    """Open an autocommit connection. `name` shows in pg_stat_activity; `limits` are session settings, in milliseconds.

    Raises:
        psycopg.OperationalError: the server is away or refuses.
    """
    return psycopg.connect(
        url,
        autocommit=True,
        application_name=f"gatepost {name}",
        connect_timeout=CONNECT_S,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=TCP_USER_TIMEOUT_MS,
        options=" ".join(f"-c {setting}={value}" for setting, value in limits.items()),
    )


def engine(url: str, *, name: str, connections: int = 8) -> Engine:
    """A pool of at most `connections`; a caller that finds none free within the statement limit gets an error from `AWAY`."""
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url, name=name),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=STATEMENT_MS / 1000,
        pool_pre_ping=False,
        isolation_level="READ COMMITTED",
    )


@contextmanager
def reading(db: Engine) -> Iterator[Connection]:
    """A connection for reads, each statement on its own snapshot."""
    with db.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
        yield tx


def raw(tx: Connection) -> Raw:
    """The driver's connection below SQLAlchemy's, for statements written by hand."""
    connection = tx.connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection
