"""How every process connects: one way, with limits that keep a stopped or cut-off process from holding anybody up."""

from collections.abc import Iterator, Mapping
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

#: For a connection whose statements are few and find everything by key: each is planned once, and never reads a whole table. Left to itself
#: the server plans them anew every time, since it takes an array it has not seen for ten items long, and two look cheaper; planning is then
#: half of its work. And a plan made while a table was empty would read it whole for each key, for as long as the plan is kept.
BY_KEY: Final[Mapping[str, int | str]] = {**SESSION_LIMITS, "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}

#: Those of the expected errors that leave the connection well.
WAITED_TOO_LONG: Final = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)

#: Errors that say "not now", not "wrong": the work may be done again. Deadlocks and lock timeouts, a server that goes down or
#: is away, a statement or a session that ran into its limit.
EXPECTED: Final = (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout)

#: The same as SQLAlchemy wraps them, and its own word for a pool that has no connection left.
AWAY: Final = (*EXPECTED, sqlalchemy_errors.OperationalError, sqlalchemy_errors.TimeoutError)

#: PostgreSQL 17 can also end a transaction by its age, which closes the last gap: a process stopped in the middle of sending.
TRANSACTION_MS: Final = 20_000
_TRANSACTION_LIMIT_SINCE: Final = 170_000


def connect(url: str, *, name: str, limits: Mapping[str, int | str] = SESSION_LIMITS) -> Raw:
    """Open an autocommit connection. `name` shows in pg_stat_activity; `limits` are session settings, durations in milliseconds.

    Raises:
        psycopg.OperationalError: the server is away or refuses.
    """
    connection = psycopg.connect(url, autocommit=True, **_settings(name, limits))
    if limits and connection.info.server_version >= _TRANSACTION_LIMIT_SINCE:
        connection.execute(f"SET transaction_timeout = {TRANSACTION_MS}")
    return connection


async def connect_async(url: str, *, name: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """The same for the event loop, for connections that listen or poke and hold no transaction."""
    return await psycopg.AsyncConnection.connect(url, autocommit=True, **_settings(name, SESSION_LIMITS))


def _settings(name: str, limits: Mapping[str, int | str]) -> dict[str, Any]:
    return {
        "application_name": f"gatepost {name}",
        "connect_timeout": CONNECT_S,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
        "options": " ".join(f"-c {setting}={value}" for setting, value in limits.items()),
    }


@contextmanager
def pipelined(db: Raw) -> Iterator[psycopg.Pipeline]:
    """A transaction in a pipeline, committed at the end of the block.

    BEGIN travels with the statements after it and COMMIT with those before. The driver's own `transaction()` waits for an answer of its own
    at each end, which doubles the round trips of a short transaction. An error in what follows the last sync skips the COMMIT, and is
    raised at the end of the block.
    """
    try:
        with db.pipeline() as pipeline:
            db.execute("BEGIN", prepare=True)
            yield pipeline
            db.execute("COMMIT", prepare=True)
    except BaseException:
        if not db.closed:
            db.rollback()
        raise


def engine(url: str, *, name: str, connections: int = 8) -> Engine:
    """A pool of at most `connections`; a caller that finds none free within the statement limit gets `sqlalchemy.exc.TimeoutError`.

    Parameters are left out of its errors: they hold tokens, and errors are logged.
    """
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url, name=name),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=STATEMENT_MS / 1000,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
    )


@contextmanager
def reading(db: Engine) -> Iterator[Connection]:
    """A connection for reads, each statement on its own snapshot."""
    with _renewing(db), db.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
        yield tx


@contextmanager
def writing(db: Engine) -> Iterator[Connection]:
    """A transaction, committed at the end of the block."""
    with _renewing(db), db.begin() as tx:
        yield tx


def is_away(error: BaseException) -> bool:
    """Whether an error, the driver's or SQLAlchemy's, says that the database could not do it now."""
    if isinstance(error, sqlalchemy_errors.DBAPIError):
        return isinstance(error.orig, EXPECTED)
    return isinstance(error, (*EXPECTED, sqlalchemy_errors.TimeoutError))


@contextmanager
def _renewing(db: Engine) -> Iterator[None]:
    """Empty the pool when its server went away, so that its other connections, as dead as this one, fail nobody else."""
    try:
        yield
    except (psycopg.Error, sqlalchemy_errors.DBAPIError) as error:
        if is_away(error) and not isinstance(getattr(error, "orig", error), WAITED_TOO_LONG):
            db.dispose()
        raise


def raw(tx: Connection) -> Raw:
    """The driver's connection below SQLAlchemy's, for statements written by hand."""
    connection = tx.connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection
