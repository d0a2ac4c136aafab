"""The ingest process: what its actor does with a wake-up."""

import gc
import threading
from collections.abc import Sequence
from typing import Final

import structlog

from services.ingest import careful
from shared.broker import worker
from shared.broker.rabbitmq import was_redelivered
from shared.db.connect import BY_KEY, Raw
from shared.failpoints import failpoint
from shared.messages import Wake

#: Objects after which Python looks for circles among them. A turn makes tens of thousands without any; to look after every 700 was a fifth
#: of the work.
OBJECTS_BETWEEN_LOOKS: Final = 100_000

log = structlog.get_logger("ingest")


def run(database_url: str, amqp_url: str, *, stop: threading.Event) -> None:
    """Apply what listeners take in until `stop` is set."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)
    owed: list[int] = []  # attempts to give back once the database is there again

    def apply_events(db: Raw, keys: Sequence[str], swept: bool) -> None:  # noqa: FBT001  # a wake-up's two arguments
        failpoint("ingest.taken")
        bots = [int(key) for key in keys]
        again = was_redelivered()  # who had it before may have died over it
        way = careful.apply_alone if again else careful.apply_swept if swept else careful.apply_waiting
        log.info("events_applied", count=way(db, bots, owed), bots=len(bots), careful=again)

    actor = worker.on_database(apply_events, database_url, name="ingest", limits=BY_KEY, stop=stop)
    worker.run(amqp_url, {Wake.APPLY_EVENTS: actor}, stop)
