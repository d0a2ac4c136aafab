"""What the judge is given: the clients' own attempts, the history, and what the API says at the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

#: Reasons that are an outcome: final, and replayed to every repeat of a key.
REASONS: Final = frozenset({"notfound", "self", "unpaid", "limit", "nobot", "exists"})


class Said(StrEnum):
    """What a client knows after an attempt."""

    OK = "ok"
    PENDING = "pending"  # accepted; it goes on by itself
    REFUSED = "refused"
    BUSY = "busy"  # withdrawn: nothing has moved and nothing will
    UNKNOWN = "unknown"  # the connection broke, nobody answered in time, or the database was away
    FORBIDDEN = "forbidden"  # an answer that no client may get for what it sent


_SAID: Final = {
    (200, "ok"): Said.OK,
    (200, "pending"): Said.PENDING,
    (503, "busy"): Said.BUSY,
    (200, "db"): Said.UNKNOWN,
    **{(200, reason): Said.REFUSED for reason in REASONS},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request as a client sent it and what came back; `status` is 0 when nothing did. Times are Unix seconds."""

    request: int  # repeats of one request share the number
    key: str | None
    sender: int
    kind: str
    object: int
    recipient: int
    leads: int
    gateway: int
    form: bool
    sent: float
    ended: float
    status: int
    body: str
    transfer: str | None

    @property
    def said(self) -> Said:
        """What the client may conclude."""
        if self.status == 0:
            return Said.UNKNOWN
        try:
            answer = json.loads(self.body)
        except ValueError:
            return Said.FORBIDDEN
        said = _SAID.get((self.status, answer.get("error", answer.get("status"))), Said.FORBIDDEN)
        return Said.FORBIDDEN if said is Said.PENDING and self.key is None else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One row of the history."""

    seq: int
    command: str
    kind: str
    object: int
    sender: int
    recipient: int
    leads: int
    campaigns: tuple[int, ...]
    to_bot: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One transfer as its sender's transfer/list shows it. Times are Unix seconds, without fractions; 0 is never."""

    command: str
    sender: int
    kind: str
    object: int
    leads: int
    outcome: str
    created: float
    finished: float


@dataclass(frozen=True, slots=True)
class Holdings:
    """Who has what: the owner of each bot; owner and bot of each campaign."""

    bots: Mapping[int, int]
    campaigns: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything the judge may know.

    `limits` are the campaigns that limited accounts may have. `back` is when the last service was back, `due` when everything accepted
    before that must be finished.
    """

    attempts: Sequence[Attempt]
    history: Sequence[Moved]
    entries: Sequence[Entry]
    first: Holdings
    today: Holdings
    limits: Mapping[int, int]
    back: float
    due: float


def write_line(attempt: Attempt) -> str:
    """An attempt as a line of the clients' file."""
    return json.dumps(asdict(attempt)) + "\n"


def read_attempts(file: Path) -> list[Attempt]:
    """The clients' file."""
    with file.open() as lines:
        return [Attempt(**json.loads(line)) for line in lines]
