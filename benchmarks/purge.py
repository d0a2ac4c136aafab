"""The purge of millions of dropped leads, and what transfers beside it feel."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks import api, leads, world
from benchmarks.campaign import owner
from benchmarks.ground import Ground
from benchmarks.load import Found, Load, Order
from benchmarks.processes import processes
from benchmarks.rounds import Effort
from benchmarks.table import Required, Row, against, alone
from shared.db import purge
from shared.db.connect import Raw, connect
from shared.messages import OUTBOX_CHANNEL

#: The load beside it, sent at this rate whatever the answers do.
RATE: Final = 100.0
CLIENTS: Final = 16

#: A p99 needs many figures, so a window lasts this many times as long as other measurements.
WINDOWS: Final = 2.0
START_S: Final = 10.0


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """Windows with the purge at work take turns with windows in which it is held still."""
    url = leads.database(ground, effort)
    without: list[Found] = []
    during: list[Found] = []
    speeds: list[float] = []
    with processes(ground) as running, connect(url, name="bench", limits={}) as db, connect(url, name="bench", limits={}) as lock:
        port = running.gatepost(url)
        load = Load(running, leads.PAIRS, first=leads.COMPARED)
        order = Order(port=port, clients=CLIENTS, seconds=effort.seconds * WINDOWS, rate=RATE)
        load.run(order)
        epoch = _drop(db, port)
        for number in range(effort.rounds):
            with _held(lock):
                without.append(load.run(order))
            _start(db, epoch)
            before, started = _deleted(db), time.monotonic()
            during.append(load.run(order))
            speeds.append((_deleted(db) - before) / (time.monotonic() - started))
            ground.say(f"round {number + 1}/{effort.rounds}  without: {without[-1]}, during: {during[-1]}, {speeds[-1]:,.0f} leads/s gone")
    ground.drop(leads.DATABASE)
    return _rows(effort, without, during, speeds)


def _rows(effort: Effort, without: list[Found], during: list[Found], speeds: list[float]) -> list[Row]:
    beside = f"transfers at {RATE:.0f}/s during the purge"
    p99 = [found.p99 for found in during], [found.p99 for found in without]
    p50 = [found.p50 for found in during], [found.p50 for found in without]
    return [
        alone(f"purge of {leads.count(effort):,} leads beside {RATE:.0f} transfers/s", speeds, "leads/s", Required("≥", 10_000, "/s")),
        against(f"{beside}: p99; without it", p99[0], p99[1], "ms", Required("≤", 1.5)),
        against(f"{beside}: p50; without it", p50[0], p50[1], "ms"),
    ]


def _drop(db: Raw, port: int) -> int:
    """Hand the big campaign over without its leads, as anybody would. Returns the epoch that is to be purged."""
    sender = owner(db, leads.BIG)
    api.transfer_campaign(port, sender, leads.BIG, world.other(sender), keep=False)
    assert api.get_total(port, world.other(sender), leads.BIG) == 0, "the recipient sees leads that were dropped"
    return int(db.execute("SELECT epoch FROM purge WHERE campaign_id = %s", [leads.BIG]).fetchall()[0][0])


@contextmanager
def _held(lock: Raw) -> Iterator[None]:
    """Hold the purge as another worker would: the ledger passes it over and nobody announces it."""
    with lock.transaction():
        lock.execute("SELECT FROM purge WHERE campaign_id = %s FOR UPDATE", [leads.BIG])
        yield


def _start(db: Raw, epoch: int) -> None:
    """Announce the purge again, and see that it is at work."""
    purge.announce(db, leads.BIG, epoch)
    db.execute(f"NOTIFY {OUTBOX_CHANNEL}")
    before, deadline = _deleted(db), time.monotonic() + START_S
    while _deleted(db) == before:
        assert time.monotonic() < deadline, "the purge does not start again"
        time.sleep(0.01)


def _deleted(db: Raw) -> int:
    """How far it got.

    Raises:
        RuntimeError: it is finished, and there is nothing left to measure.
    """
    row = db.execute("SELECT deleted FROM purge WHERE campaign_id = %s", [leads.BIG]).fetchone()
    if row is None:
        raise RuntimeError("the purge ended before the measurement did: it needs more leads")
    return int(row[0])
