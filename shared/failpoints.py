"""Named points where a test can hold a process still, to force an interleaving or to kill it exactly there.

Without `GATEPOST_FAILPOINTS` a point costs one comparison and does nothing. With it, the variable names a folder: a test
arms a point by creating the file `<point>`; the first process that reaches the point takes the file away, writes its pid to
`<point>.reached` and waits until that file is removed. (The idea is that of fail points in FreeBSD's kernel and TiKV.)
"""

import os
import time
from pathlib import Path
from typing import Final, Literal

FailPoint = Literal[
    "gateway.accepted",  # the command is committed, nobody was told
    "gateway.answering",  # the outcome is known, the answer is not sent
    "listener.committing",  # events are taken from Telegram, nothing is written
    "listener.committed",  # events are committed, the client was not told
    "listener.logged_in",  # a bot that is to be connected has logged in, nothing is written
    "relay.claimed",  # outbox rows are under lease, nothing is published
    "relay.published",  # RabbitMQ confirmed, the rows are not deleted
    "ledger.taken",  # a message arrived, nothing is locked
    "ledger.claimed",  # commands are locked, accounts are not
    "ledger.locked",  # everything is locked and read, nothing is written
    "ledger.committed",  # committed, the message is not acknowledged
    "ingest.taken",  # a message arrived, nothing is locked
    "ingest.locked",  # everything is locked and read, nothing is written
    "ingest.written",  # everything is written, nothing is committed
    "ingest.committed",  # committed, nobody was woken, the message is not acknowledged
    "sending.accepted",  # Telegram has the message, its row is not deleted
]

_FOLDER: Final = os.environ.get("GATEPOST_FAILPOINTS")
_POLL_S: Final = 0.002


def failpoint(name: FailPoint) -> None:
    """Wait here when a test has armed this point."""
    if _FOLDER is not None:
        _hold(Path(_FOLDER), name)


def _hold(folder: Path, name: str) -> None:
    reached = folder / f"{name}.reached"
    try:
        (folder / name).rename(folder / f"{name}.{os.getpid()}")
    except FileNotFoundError:
        return
    (folder / f"{name}.{os.getpid()}").write_text(str(os.getpid()))
    (folder / f"{name}.{os.getpid()}").rename(reached)
    while reached.exists():
        time.sleep(_POLL_S)
