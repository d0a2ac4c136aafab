"""A longer way to the database, for one connection.

What is sent is answered later by the delay of the wire there and back: the answer is held back where the driver waits for it, which takes
no processor. A proxy in between would take its share of two cores from the workers that are measured.
"""

import time
from collections.abc import Generator
from typing import Any

from psycopg.pq import PipelineStatus
from psycopg.waiting import Ready, Wait

from shared.db.connect import Raw


def lengthen(db: Raw, delay_ms: float) -> None:
    """Let whatever is sent on this connection, in either direction, arrive so much later."""
    wait, wire = db.wait, _Wire(db, 2 * delay_ms / 1e3)

    def wait_longer(steps: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        return wait(wire.pass_through(steps), *arguments, **named)

    db.wait = wait_longer  # type: ignore[method-assign, assignment]


class _Wire:
    """What is on its way. The driver takes its steps when told that the socket is ready, and is told so late."""

    def __init__(self, db: Raw, there_and_back_s: float) -> None:
        self._db = db
        self._there_and_back_s = there_and_back_s
        self._sent_at = 0.0

    def pass_through(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The driver's steps; while it has something to send it does not read, and an answer is read when it can have arrived."""
        if self._db.pgconn.pipeline_status == PipelineStatus.OFF:
            self._sent_at = time.perf_counter()  # outside a pipeline the first step sends
        try:
            wanted = next(steps)
            while True:
                if wanted == Wait.R:
                    time.sleep(max(0.0, self._sent_at + self._there_and_back_s - time.perf_counter()))
                    wanted = steps.send((yield wanted))
                else:
                    yield Wait.W
                    self._sent_at = time.perf_counter()
                    wanted = steps.send(Ready.W)
        except StopIteration as done:
            return done.value
