"""The ledger alone, with a full queue, against pgbench committing the same statements one transfer at a time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqlalchemy import DateTime

from benchmarks import pgbench, queues, workers, world
from benchmarks.ground import Ground
from benchmarks.rounds import Effort, take_turns
from benchmarks.table import Required, Row, against
from shared.db import commands
from shared.db.connect import connect
from shared.db.schema import metadata

CLIENTS: Final = (1, 8, 16)

#: One process waits for the disk at each commit, as pgbench with one client does, and so never reaches pgbench with eight: like is
#: compared with like, each at its best number of connections.
PROCESSES: Final = (1, 4)
SMALL_QUEUE: Final = "bench_small_queue"
TURN: Final = "bench_turn"


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """Each turn starts on a database of its own, with the same full queue."""
    script = make_script(ground)
    template = queues.disjoint(ground)

    def on_full_queue(call: Callable[[str], float]) -> float:
        rate = call(url := ground.create(TURN, template=template))
        queues.check(url)
        return round(rate)

    def ledger(mode: workers.Mode, processes: int) -> Callable[[], float]:
        return partial(on_full_queue, lambda url: workers.measure(url, mode, processes=processes, seconds=effort.seconds))

    def ceiling(clients: int) -> Callable[[], float]:
        limit = ["-T", str(max(1, round(effort.seconds)))]
        return partial(on_full_queue, lambda url: pgbench.run(ground, url, script, clients=clients, limit=limit))

    turns = {
        "batches": ledger("batch", 1),
        **{f"pgbench {n}": ceiling(n) for n in CLIENTS},
        "batches, 2 processes": ledger("batch", 2),
        **{f"single path {n}": ledger("single", n) for n in PROCESSES},
    }
    found = take_turns(effort.rounds, turns, ground.say)
    ground.drop(TURN)
    return _rows(found)


def _rows(found: dict[str, list[float]]) -> list[Row]:
    best = max((f"pgbench {n}" for n in CLIENTS), key=lambda name: median(found[name]))
    single = max((f"single path {n}" for n in PROCESSES), key=lambda name: median(found[name]))
    rows = {
        "batches of 20, 1 process": ("batches", Required("≥", 1.0)),
        "batches of 20, 2 processes": ("batches, 2 processes", None),
        "single path, 1 process": ("single path 1", None),
        f"single path, best of {PROCESSES} processes: {single.split()[-1]}": (single, Required("≥", 0.5)),
    }
    return [
        against(f"ledger: {what}; {best} clients", found[name], found[best], "transfers/s", required)
        for what, (name, required) in rows.items()
    ]


# The script


def make_script(ground: Ground) -> Path:
    """Record one real transfer, make it a script, and make sure that the script writes what the transfer wrote."""
    with connect(ground.create(SMALL_QUEUE), name="bench", limits={}) as db:
        world.add_pairs(db, 2)
        world.fill_queue(db, pairs=2)
    with connect(ground.create(TURN, template=SMALL_QUEUE), name="bench") as db:
        first = commands.get_untried(db, 1)
        statements = pgbench.record(db)
        workers.decide_one(db, first[0])
    by_ledger = everything(ground.url(TURN))
    file = ground.folder / "transfer.pgbench"
    file.write_text(pgbench.script(statements, commands=2))
    pgbench.run(ground, ground.create(TURN, template=SMALL_QUEUE), file, clients=1, limit=["-t", "1"])
    by_script = everything(ground.url(TURN))
    assert by_ledger != everything(ground.url(SMALL_QUEUE)), "the transfer wrote nothing"
    assert by_script == by_ledger, "the script does not write what the ledger wrote"
    ground.say(f"ledger: the script of {len(statements)} statements writes what the ledger writes")
    file.write_text(pgbench.script(statements, commands=queues.COMMANDS))
    return file


def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, without the times."""
    rows = {}
    with connect(url, name="bench", limits={}) as db:
        for table in metadata.sorted_tables:
            columns = ", ".join(column.name for column in table.columns if not isinstance(column.type, DateTime))
            rows[table.name] = sorted(db.execute(f"SELECT {columns} FROM {table.name}").fetchall(), key=repr)
    return rows
