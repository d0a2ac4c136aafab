"""A campaign with millions of leads in the real table, every index there, and an empty one beside it."""

import time
from typing import Final

from benchmarks import world
from benchmarks.ground import Ground
from benchmarks.rounds import Effort
from shared.db import seeds
from shared.db.connect import connect, engine

DATABASE: Final = "bench_leads"
LEADS: Final = 5_000_000
LEADS_QUICK: Final = 400_000
CHUNK: Final = 100_000
SAY_EVERY_S: Final = 10.0

#: The first pairs' campaigns are the ones that are compared; the bots of the others make the load beside the purge.
BIG, EMPTY = world.CAMPAIGN, world.CAMPAIGN + 1
COMPARED: Final = 2
PAIRS: Final = 1_024


def count(effort: Effort) -> int:
    return LEADS_QUICK if effort.quick else LEADS


def database(ground: Ground, effort: Effort) -> str:
    """The database, made when it is not there yet. Both campaigns can go to and fro: each side has a bot in their chats."""
    if ground.exists(DATABASE):
        return ground.url(DATABASE)
    url = ground.create(DATABASE)
    with connect(url, name="bench", limits={}) as db:
        world.add_pairs(db, PAIRS)
        world.add_second_bots(db, COMPARED)
    _load(ground, url, count(effort))
    with connect(url, name="bench", limits={}) as db:
        world.settle(db)
        db.execute("CHECKPOINT")
    return url


def _load(ground: Ground, url: str, leads: int) -> None:
    pool = engine(url, name="bench", connections=1)
    started = said = time.monotonic()
    for first in range(0, leads, CHUNK):
        with pool.begin() as tx:
            seeds.add_leads(tx, BIG, min(CHUNK, leads - first), first_subscriber=10_000_000_000 + first)
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            ground.say(f"leads: {first + CHUNK:,} of {leads:,} loaded")
    pool.dispose()
    ground.say(f"leads: {leads:,} loaded in {time.monotonic() - started:.0f} s")
