"""Databases with a full queue of waiting commands, to be copied for each measurement."""

from typing import Final

from benchmarks import world
from benchmarks.ground import Ground
from shared.db.connect import connect

#: More than any worker finishes in a round, and divisible by each number of pgbench's clients.
COMMANDS: Final = 48_000

#: Bots that the accounts of one pair pass to and fro. Enough that neighbouring batches of several workers never have the same.
PAIR_BOTS: Final = 400

#: The share of finished commands that must have been carried out.
DONE_MIN: Final = 0.99

_DISJOINT: Final = "bench_full_queue"
_PAIR: Final = "bench_pair_queue"


def disjoint(ground: Ground) -> str:
    """Transfers of as many bots, each with a campaign, between accounts of their own. The name of the database."""
    if not ground.exists(_DISJOINT):
        ground.say(f"queue: {COMMANDS:,} waiting transfers of as many bots, each with a campaign, between accounts of their own")
        with connect(ground.create(_DISJOINT), name="bench", limits={}) as db:
            world.add_pairs(db, COMMANDS)
            world.fill_queue(db, pairs=COMMANDS)
    return _DISJOINT


def check(url: str) -> None:
    """What was finished was nearly all carried out: a refusal costs less than a transfer, and would make the figure a lie.

    Several workers on one pair may take a bot's way back before its way there, which is then refused.
    """
    with connect(url, name="bench", limits={}) as db:
        done, finished = db.execute("SELECT count(*) FILTER (WHERE state = 'done'), count(finished) FROM command").fetchall()[0]
    assert done >= max(1, finished * DONE_MIN), f"only {done} of {finished} commands were carried out"


def one_pair(ground: Ground) -> str:
    """Transfers between two accounts, to and fro. The name of the database."""
    if not ground.exists(_PAIR):
        ground.say(f"queue: {COMMANDS:,} waiting transfers of {PAIR_BOTS} bots, each with a campaign, between two accounts")
        with connect(ground.create(_PAIR), name="bench", limits={}) as db:
            world.add_pairs(db, PAIR_BOTS)
            world.fill_pair(db, COMMANDS, bots=PAIR_BOTS)
    return _PAIR
