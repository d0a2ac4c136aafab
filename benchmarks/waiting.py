"""Waiting for others, with an end to patience."""

import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 120.0


def until(condition: Callable[[], bool], what: str, *, poll_s: float) -> None:
    """Look every `poll_s` seconds until the condition holds.

    Raises:
        RuntimeError: it did not come to hold; says what.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not come to hold within {PATIENCE_S:.0f} s: {what}")
        time.sleep(poll_s)
