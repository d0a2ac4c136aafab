"""Ledger processes without RabbitMQ: loops that take from a full queue as fast as they can.

`python -m benchmarks.workers MODE URL SECONDS DELAY_MS NUMBER OF` is one of them; it says when it is ready and starts at a line on its
standard input. DELAY_MS is how much longer its way to the database is, and the way back.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from benchmarks.far import lengthen
from services.ledger import transfers
from shared.db import commands
from shared.db.connect import BY_KEY, Raw, connect

#: Many together; one in a transaction of its own.
Mode = Literal["batch", "single"]

WORKER = "bench"
ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Tally:
    """What one worker got done."""

    finished: int
    seconds: float

    @property
    def rate(self) -> float:
        """Commands a second."""
        return self.finished / self.seconds


def measure(url: str, mode: Mode, *, processes: int, seconds: float, delay_ms: float = 0.0) -> float:
    """Commands a second that so many workers finish together."""
    command = [sys.executable, "-m", "benchmarks.workers", mode, url, str(seconds), str(delay_ms)]
    started = [
        subprocess.Popen([*command, str(number), str(processes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    try:
        for worker in started:
            _line(worker)
        for worker in started:
            assert worker.stdin is not None, "it is a pipe"
            worker.stdin.write("go\n")
            worker.stdin.flush()
        return sum(Tally(**json.loads(_line(worker))).rate for worker in started)
    finally:
        for worker in started:
            worker.kill()
            worker.wait()


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None, "it is a pipe"
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError("a ledger worker died; its last words are above")
    return line


def work(step: Callable[[], int], seconds: float, go: Callable[[], object]) -> Tally:
    """Finish commands for so long."""
    go()
    started = time.perf_counter()
    finished = 0
    while (elapsed := time.perf_counter() - started) < seconds:
        done = step()
        if not done:
            raise RuntimeError("the queue ran empty: the figure would be one of an idle worker")
        finished += done
    return Tally(finished, elapsed)


def _step(db: Raw, mode: Mode, number: int, of: int) -> Callable[[], int]:
    """A batch is whatever waits; single commands are dealt out, as messages deal them out."""
    if mode == "batch":
        return lambda: transfers.decide_waiting(db, worker=WORKER)
    waiting = iter(commands.get_untried(db, ALL)[number::of])
    return lambda: decide_one(db, next(waiting))


def decide_one(db: Raw, command: UUID) -> int:
    """The ledger's single path: one command, one transaction, bots waited for. Returns how many were finished."""
    return transfers._decide_one(db, command, worker=WORKER)  # noqa: SLF001  # without the counting of tries around it


def main(mode: Mode, url: str, seconds: str, delay_ms: str, number: str, of: str) -> None:
    def go() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    os.environ["PYTHONUNBUFFERED"] = "1"
    with connect(url, name="ledger", limits=BY_KEY) as db:
        if float(delay_ms):
            lengthen(db, float(delay_ms))
        tally = work(_step(db, mode, int(number), int(of)), float(seconds), go)
    print(json.dumps({"finished": tally.finished, "seconds": tally.seconds}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]  # the mode is one of ours
