"""Every message between processes, in one place.

A message is a wake-up, never the work itself: it names rows to look at. It may come twice, late or never, and the outcome is the same.
Through RabbitMQ travel the `Wake`s below, published by the relay only; through PostgreSQL's NOTIFY the two channels.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType
from uuid import UUID

#: Tells relays that the outbox has rows. No payload; a lost one costs the relay's poll interval.
OUTBOX_CHANNEL = "gatepost_outbox"

#: Tells gateways the outcomes of commands. Payload: `encode_outcomes`.
OUTCOME_CHANNEL = "gatepost_outcome"

#: Tells listeners that a bot is to be connected or let go, or that something is to be sent. Payload: bot ids with commas, or nothing.
LISTENER_CHANNEL = "gatepost_listener"

#: PostgreSQL refuses NOTIFY payloads of 8,000 bytes or more.
NOTIFY_BYTES_MAX = 7_900

Queue = NewType("Queue", str)

LEDGER = Queue("ledger")
PURGE = Queue("purge")
INGEST = Queue("ingest")
QUEUES = (LEDGER, PURGE, INGEST)


class Wake(StrEnum):
    """The actors a wake-up can call, each with one argument `keys` and one `swept`.

    `swept` says that a sweep announces the rows again, because two wake-ups came to nothing or a worker died over them.
    """

    DECIDE_TRANSFERS = "decide_transfers"  # keys: command ids
    PURGE_LEADS = "purge_leads"  # keys: "campaign:epoch"
    APPLY_EVENTS = "apply_events"  # keys: bot ids


QUEUE_OF = {Wake.DECIDE_TRANSFERS: LEDGER, Wake.PURGE_LEADS: PURGE, Wake.APPLY_EVENTS: INGEST}

#: How many rows one message may name.
KEYS_MAX = {Wake.DECIDE_TRANSFERS: 20, Wake.PURGE_LEADS: 1, Wake.APPLY_EVENTS: 50}


class State(StrEnum):
    """Where a command stands. The last three are final."""

    PENDING = "pending"
    PARKED = "parked"
    DONE = "done"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. `reason`, `field` and `message` are empty unless it was refused."""

    state: State
    reason: str = ""
    field: str = ""
    message: str = ""


def encode_outcomes(outcomes: Iterable[tuple[UUID, Outcome]]) -> list[str]:
    """Payloads for the outcome channel, as few as the size limit allows."""
    payloads: list[str] = []
    rows: list[str] = []
    size = 2
    for command, outcome in outcomes:
        row = json.dumps([str(command), outcome.state, outcome.reason, outcome.field, outcome.message], ensure_ascii=True)
        if rows and size + len(row) + 1 > NOTIFY_BYTES_MAX:
            payloads.append(f"[{','.join(rows)}]")
            rows, size = [], 2
        rows.append(row)
        size += len(row) + 1
    return [*payloads, f"[{','.join(rows)}]"] if rows else payloads


def decode_outcomes(payload: str) -> Sequence[tuple[UUID, Outcome]]:
    """The reverse of `encode_outcomes` for one payload."""
    return [(UUID(command), Outcome(State(state), *rest)) for command, state, *rest in json.loads(payload)]


def purge_key(campaign: int, epoch: int) -> str:
    """The key of a purge wake-up."""
    return f"{campaign}:{epoch}"


def parse_purge_key(key: str) -> tuple[int, int]:
    """The reverse of `purge_key`."""
    campaign, epoch = key.split(":")
    return int(campaign), int(epoch)
