"""Removes the leads of an epoch that a transfer dropped, in bounded turns."""

import time
from typing import Final

import structlog

from shared.db import purge
from shared.db.connect import Raw

#: Leads deleted in one transaction: short enough that nobody waits for it, long enough that its commit does not count.
BATCH_LEADS_MAX: Final = 500

#: After each batch the purge rests this many times as long as the batch took, so that transfers have the database to themselves most of
#: the time. At full speed it deletes some 80,000 leads a second, so that this leaves more than twice what is asked of it.
REST_RATIO: Final = 2.0

#: How long one turn lasts before the next purge in the queue has its own.
TURN_S: Final = 1.0

log = structlog.get_logger("purge")


def take_turn(db: Raw, campaign: int, epoch: int, *, turn_s: float = TURN_S) -> int:
    """Delete batches until everything is gone or the turn is over, then ask for the next one. Returns how many rows went.

    Raises:
        psycopg.Error: the database is away or a limit was hit; what earlier batches deleted stays deleted.
    """
    deadline = time.monotonic() + turn_s
    deleted = 0
    while time.monotonic() < deadline:
        began = time.monotonic()
        batch = purge.delete_batch(db, campaign, epoch, limit=BATCH_LEADS_MAX)
        if batch is None:
            return deleted
        deleted += batch[0]
        if batch[1]:
            log.info("purge_finished", campaign=campaign, epoch=epoch, deleted=deleted)
            return deleted
        time.sleep(REST_RATIO * (time.monotonic() - began))
    purge.announce(db, campaign, epoch)
    log.info("purge_continues", campaign=campaign, epoch=epoch, deleted=deleted)
    return deleted
