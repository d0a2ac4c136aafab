"""Private PostgreSQL and RabbitMQ, the one way `make run` and the tests have of getting them."""

import fcntl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared.local import postgres, rabbitmq
from shared.local.packages import Say, ServiceMissing
from shared.local.postgres import Postgres
from shared.local.rabbitmq import RabbitMQ

__all__ = ["Postgres", "RabbitMQ", "ServiceMissing", "Services", "StateInUse", "services"]


class StateInUse(RuntimeError):
    """Another Gatepost runs its servers from this state folder; taking them over would stop them under its feet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The two addresses, and handles for those servers that are ours to stop and to hurt."""

    database_url: str = field(repr=False)
    amqp_url: str = field(repr=False)
    postgres: Postgres | None
    rabbitmq: RabbitMQ | None


@contextmanager
def services(state: Path, say: Say, *, database_url: str | None = None, amqp_url: str | None = None) -> Iterator[Services]:
    """Both services for as long as the block runs: an existing one where its URL is given, else a private one.

    They start side by side and stop side by side, however the block ends; if one can't start, the other is stopped.
    """
    state.mkdir(parents=True, exist_ok=True)
    with _alone_in(state), ThreadPoolExecutor(max_workers=4) as pool:
        database = None if database_url else pool.submit(postgres.start, state, say=say)
        broker = None if amqp_url else pool.submit(rabbitmq.start, state, say=say)
        try:
            own_database = database.result() if database else None
            own_broker = broker.result() if broker else None
            yield Services(
                database_url=own_database.url if own_database else database_url or "",
                amqp_url=own_broker.url if own_broker else amqp_url or "",
                postgres=own_database,
                rabbitmq=own_broker,
            )
        finally:
            _stop_what_started(pool, database, broker)


def _stop_what_started(pool: ThreadPoolExecutor, database: Future[Postgres] | None, broker: Future[RabbitMQ] | None) -> None:
    """Stop both at once, each as soon as its own start has come to an end."""
    stops = [pool.submit(_stop_if_started, start) for start in (database, broker) if start is not None]
    for stop in stops:
        stop.result()


def _stop_if_started(start: Future[Postgres] | Future[RabbitMQ]) -> None:
    if start.exception() is None:
        start.result().stop()


@contextmanager
def _alone_in(state: Path) -> Iterator[None]:
    """Hold the state folder. The lock is the kernel's: it goes with the process, however that ends."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUse(f"Another Gatepost is running from {state}: stop it, or set GATEPOST_STATE.") from None
        yield
