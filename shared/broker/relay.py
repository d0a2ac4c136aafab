"""The relay: outbox → RabbitMQ, and the sweeps that find what no message announced.

The only publisher of the system. Any number may run: rows are claimed under a lease.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

import psycopg
import structlog

from shared.broker.rabbitmq import BROKER_AWAY, Publisher
from shared.db import commands, inbox, outbox, purge
from shared.db.connect import Raw, connect
from shared.failpoints import failpoint
from shared.messages import KEYS_MAX, OUTBOX_CHANNEL

#: Rows claimed at once.
CLAIM_ROWS_MAX: Final = 500

#: How long claimed rows are left to the relay that claimed them.
LEASE_S: Final = 10.0

#: How long the relay waits for a poke before it looks by itself.
POLL_S: Final = 1.0

#: Rows one sweep announces.
SWEEP_ROWS_MAX: Final = 1_000

#: Age at which a command without an Idempotency-Key has nobody left who waits for it: far beyond every gateway's deadline.
ABANDONED_S: Final = 600.0

#: Between two tries to reach a service that is away.
RECONNECT_S: Final = 0.5

log = structlog.get_logger("relay")


def run(database_url: str, amqp_url: str, *, sweep_s: float, stop: threading.Event) -> None:
    """Relay until `stop` is set, through any number of losses of PostgreSQL and RabbitMQ.

    1. Connect to both. A RabbitMQ just met may have lost its data, so everything waiting is due for an announcement.
    2. Sweep when it is time.
    3. Publish what the outbox holds, some at a time.
    4. When it is empty, wait for a poke, or for the poll interval.
    """
    while not stop.is_set():
        publisher = Publisher(amqp_url)
        try:
            with connect(database_url, name="relay") as db:
                publisher.connect()
                db.execute(f"LISTEN {OUTBOX_CHANNEL}")
                log.info("relay_connected")
                _relay(db, publisher, sweep_s=sweep_s, stop=stop)
        except (*BROKER_AWAY, psycopg.OperationalError) as error:
            log.warning("relay_waits", error=type(error).__name__)
            stop.wait(RECONNECT_S)
        finally:
            publisher.close()


def _relay(db: Raw, publisher: Publisher, *, sweep_s: float, stop: threading.Event) -> None:
    sweep(db, interval_s=0)
    swept_at = time.monotonic()
    while not stop.is_set():
        if time.monotonic() - swept_at >= sweep_s:
            sweep(db, interval_s=sweep_s)
            swept_at = time.monotonic()
        if empty_outbox(db, publisher):
            continue  # there may be more, but neither a sweep nor a stop waits until there is not
        publisher.keep_alive()
        for _ in db.notifies(timeout=min(POLL_S, sweep_s), stop_after=1):
            pass


def empty_outbox(db: Raw, publisher: Publisher) -> int:
    """Publish one claim's worth of wake-ups, as few messages as may be, and forget those confirmed. Returns how many rows it was.

    Raises:
        one of `BROKER_AWAY`: the rows not confirmed are given back.
    """
    rows = outbox.claim(db, limit=CLAIM_ROWS_MAX, lease_s=LEASE_S)
    if not rows:
        return 0
    failpoint("relay.claimed")
    try:
        for batch in _messages(rows):
            publisher.publish(batch[0].wake, [row.key for row in batch], swept=batch[0].swept)
    except BROKER_AWAY:
        outbox.free(db, rows)
        raise
    failpoint("relay.published")
    outbox.delete(db, rows)
    return len(rows)


def sweep(db: Raw, *, interval_s: float) -> None:
    """Announce again what has waited longer than its interval, with 0 everything that waits, and withdraw what nobody waits for."""
    abandoned = commands.withdraw_abandoned(db, older_than_s=ABANDONED_S, limit=SWEEP_ROWS_MAX)
    found = commands.announce_overdue(db, interval_s=interval_s, limit=SWEEP_ROWS_MAX)
    purges = purge.announce_overdue(db, interval_s=interval_s, limit=SWEEP_ROWS_MAX)
    bots = inbox.announce_overdue(db, interval_s=interval_s, limit=SWEEP_ROWS_MAX)
    weeks = inbox.keep_partitions(db)
    if found or purges or bots or weeks or abandoned:
        log.info("swept", commands=found, purges=purges, bots=bots, weeks=weeks, abandoned=abandoned)


def _messages(rows: Sequence[outbox.Row]) -> Iterator[list[outbox.Row]]:
    """Rows that fit into one message each: of one kind, at most so many keys."""
    for _, group in groupby(sorted(rows, key=lambda row: (row.wake, row.swept)), key=lambda row: (row.wake, row.swept)):
        same = list(group)
        size = KEYS_MAX[same[0].wake]
        yield from (same[start : start + size] for start in range(0, len(same), size))
