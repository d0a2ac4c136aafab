"""Transfer commands, from waiting row to committed outcome."""

import time
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog
from psycopg import Pipeline

from shared.db import commands, transfers
from shared.db.connect import EXPECTED, Raw, pipelined
from shared.domain.transfers import Kind, Move, Request, carry_out, decide
from shared.failpoints import failpoint
from shared.messages import Outcome, State

#: Commands decided in one transaction.
BATCH_COMMANDS_MAX: Final = 20

#: Tries alone before a command is parked.
ATTEMPTS_MAX: Final = 3

#: Times a single command is tried again at once after a deadlock or a lock timeout.
RETRIES_MAX: Final = 3

#: A batch that was longer than this in getting its locks stood in line for them. Its worker rests as long before it stands there again
#: (the second is the longest rest): of transfers between the same accounts two workers do as many as more, who only wake each other.
LINE_S: Final = 0.003
REST_S_MAX: Final = 0.02

#: Takes the commands to decide, locked, at the start of a transaction.
Claim = Callable[[Raw, Pipeline], list[Request]]

log = structlog.get_logger("ledger")


def decide_waiting(db: Raw, *, worker: str) -> int:
    """Decide the oldest waiting commands together; the usual way. Returns how many were finished.

    1. In one transaction: take up to a batch of them, decide, write, tell the gateways.
    2. Those whose bot somebody else is using are done one by one, waiting for it.
    3. When the transaction fails for any reason, so are all.

    Raises:
        psycopg.OperationalError: the database is away; nothing was decided that was not committed.
    """
    taken: list[UUID] = []

    def claim(tx: Raw, pipeline: Pipeline) -> list[Request]:
        requests = commands.claim_oldest(tx, pipeline, BATCH_COMMANDS_MAX)
        taken.extend(request.id for request in requests)
        return requests

    try:
        finished = _decide(db, claim, wait_for_bots=False, worker=worker)
    except Exception as error:
        if db.closed:
            raise
        log.warning("batch_failed", commands=len(taken), error=type(error).__name__)
        return decide_alone(db, taken, worker=worker, owed=[])
    left = [command for command in taken if command not in finished]
    return len(finished) + sum(_try(db, command, worker=worker) for command in left)


def decide_alone(db: Raw, ids: Sequence[UUID], *, worker: str, owed: list[UUID]) -> int:
    """Decide commands one by one, each in a transaction of its own; the careful way. Returns how many were finished.

    Each try is committed as an attempt before it is made, so that a command which kills its worker is parked after `ATTEMPTS_MAX` deaths
    and not for ever in front of the others. Only deaths and bugs count: an attempt that ends for another reason is given back, one whose
    connection was lost by way of `owed`, at the next call.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    while owed:
        commands.give_attempt_back(db, owed[-1])
        owed.pop()
    finished = 0
    for command in ids:
        with commands.held(db, command) as mine:
            if mine and commands.count_attempt(db, command, attempts_max=ATTEMPTS_MAX):
                owed.append(command)
                finished += _try(db, command, worker=worker, counted=True)
                owed.clear()
    return finished


def _try(db: Raw, command: UUID, *, worker: str, counted: bool = False) -> int:
    """Decide one command; an error that is not the end of the connection ends here."""
    try:
        return _decide_one(db, command, worker=worker)
    except EXPECTED as error:
        if db.closed:
            raise
        log.warning("command_put_off", command=str(command), error=type(error).__name__)
        if counted:
            commands.give_attempt_back(db, command)
    except Exception as error:
        if db.closed:
            raise
        log.exception("command_failed", command=str(command))
        commands.note_trouble(db, command, f"{type(error).__name__}: {error}")
    return 0


def _decide_one(db: Raw, command: UUID, *, worker: str) -> int:
    for tries_left in reversed(range(RETRIES_MAX)):
        try:
            return len(_decide(db, lambda tx, pipeline: commands.claim_one(tx, pipeline, command), wait_for_bots=True, worker=worker))
        except EXPECTED:
            if db.closed or not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def _decide(db: Raw, claim: Claim, *, wait_for_bots: bool, worker: str) -> set[UUID]:
    """One transaction, start to end. Returns the commands it finished.

    1. Take the commands.
    2. Lock accounts, bots and campaigns, in this order, then read the facts.
    3. Decide in the commands' order, each on the state the one before leaves.
    4. Write the final rows, the history, the notices and the outcomes; tell the gateways with the commit.
    5. Let others go first if we had to wait for others.
    """
    with pipelined(db) as pipeline:
        requests = claim(db, pipeline)
        if not requests:
            return set()
        failpoint("ledger.claimed")
        locked = transfers.lock(db, pipeline, requests, wait_for_bots=wait_for_bots)
        failpoint("ledger.locked")
        moves: list[Move] = []
        outcomes: list[tuple[UUID, Outcome]] = []
        for request in requests:
            if _needs_any(request, locked):
                continue
            decision = decide(locked.facts, request)
            if isinstance(decision, Move):
                carry_out(locked.facts, decision)
                moves.append(decision)
                outcomes.append((request.id, Outcome(State.DONE)))
            else:
                outcome = Outcome(State.REFUSED, decision.reason, decision.field, decision.message)
                outcomes.append((request.id, outcome))
        transfers.write(db, moves, outcomes, worker=worker)
    if locked.took_s > LINE_S:
        time.sleep(min(locked.took_s, REST_S_MAX))
    return {command for command, _ in outcomes}


def _needs_any(request: Request, locked: transfers.Locked) -> bool:
    """Whether the decision would rest on a bot that another transaction holds."""
    if not locked.busy_bots:
        return False
    if request.kind is Kind.BOT:
        return request.object_id in locked.busy_bots
    campaign = locked.facts.campaigns.get(request.object_id)
    seats = locked.facts.admins.get(campaign.chat, frozenset()) if campaign else frozenset()
    return bool(seats & locked.busy_bots)
