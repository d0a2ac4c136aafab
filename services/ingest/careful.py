"""What waits, applied so that one event that fails or kills its worker harms no other: together, then bot by bot, then one by one."""

from collections.abc import Sequence
from typing import Final

import psycopg
import structlog

from services.ingest import apply
from shared.db import inbox, parked
from shared.db.connect import EXPECTED, Raw

#: Tries alone before an event is parked.
ATTEMPTS_MAX: Final = 3

log = structlog.get_logger("ingest")


def apply_waiting(db: Raw, bots: Sequence[int], owed: list[int]) -> int:
    """Apply what waits together; the usual way. When that fails each bot has a turn of its own, and then each event.

    Returns how many events were applied. `owed` is that of `apply_alone`.

    Raises:
        psycopg.OperationalError: the database is away; nothing was applied that was not committed.
    """
    _give_back(db, owed)
    try:
        return apply.take_turn(db, bots)
    except Exception as error:
        if db.closed:
            raise
        log.warning("turn_failed", bots=len(bots), error=type(error).__name__)
    if len(bots) > 1:
        return sum(apply_waiting(db, [bot], owed) for bot in bots)
    return apply_alone(db, bots, owed)


def apply_swept(db: Raw, bots: Sequence[int], owed: list[int]) -> int:
    """Apply what a sweep found waiting: carefully where an event was tried before, otherwise the usual way; it may just be a long backlog.

    Returns how many events were applied.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    tried = parked.get_tried(db, bots, share=apply.share(bots))
    rest = [bot for bot in bots if bot not in tried]
    applied = apply_waiting(db, rest, owed) if rest else 0
    return applied + (apply_alone(db, sorted(tried), owed) if tried else 0)


def apply_alone(db: Raw, bots: Sequence[int], owed: list[int]) -> int:
    """Apply the events of a turn one by one, each in a transaction of its own; the careful way. Returns how many were applied.

    Each try is committed as an attempt before it is made, so that an event which kills its worker is parked after `ATTEMPTS_MAX` deaths
    and not for ever in front of the others. Deaths, bugs and statements that take too long count: an attempt that ends for another reason
    is given back, one whose connection was lost by way of `owed`, at the next call.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    _give_back(db, owed)
    applied = 0
    for bot in bots:
        with parked.held(db, bot) as mine:
            for event in parked.get_untried(db, bot, share=apply.share(bots)) if mine else ():
                if parked.count_attempt(db, event, attempts_max=ATTEMPTS_MAX):
                    owed.append(event)
                    applied += _try(db, bot, event)
                    owed.clear()
    inbox.announce(db, bots)
    return applied


def _give_back(db: Raw, owed: list[int]) -> None:
    while owed:
        parked.give_attempt_back(db, owed[-1])
        owed.pop()


def _try(db: Raw, bot: int, event: int) -> int:
    """Apply one event; an error that is not the end of the connection ends here. Where nothing came of it the try does not count."""
    try:
        applied = apply.take_turn(db, [bot], only=event)
    except Exception as error:
        if db.closed:
            raise
        if isinstance(error, psycopg.errors.QueryCanceled) or not isinstance(error, EXPECTED):  # too slow once may be too slow for ever
            log.exception("event_failed", id=event)
            parked.note_trouble(db, event, f"{type(error).__name__}: {error}")
            return 0
        log.warning("event_put_off", id=event, error=type(error).__name__)
        applied = 0
    if not applied:
        parked.give_attempt_back(db, event)
    return applied
