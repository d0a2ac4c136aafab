"""Words for tests of the ledger: accept a command, ask for its outcome, force an interleaving."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuids

from services.ledger import transfers
from shared.db import commands
from shared.db.commands import NewCommand
from shared.db.connect import Raw, connect
from shared.domain.transfers import Kind
from shared.messages import State
from tests.stack import eventually
from tests.world import Account

Ending = tuple[State, str, str]
DONE: Ending = (State.DONE, "", "")


def accept(db: Raw, kind: Kind, sender: Account, object_id: int, token: str, *, keep: bool = True, key: str | None = None) -> UUID:
    """Accept a command as the gateway does."""
    command = NewCommand(
        id=uuids.uuid7(), kind=kind, account=sender.id, object_id=object_id, token=token, keep_leads=keep, idempotency_key=key
    )
    assert commands.add(db, [command]) == {command.id}
    return command.id


def ending(db: Raw, command: UUID) -> Ending:
    """State, reason and field of a command."""
    row = db.execute("SELECT state, reason, field FROM command WHERE id = %s", [command]).fetchone()
    assert row is not None
    return State(row[0]), row[1], row[2]


def refused(reason: str, field: str) -> Ending:
    """The ending of a refused command."""
    return State.REFUSED, reason, field


def owner_of_bot(db: Raw, bot: int) -> int:
    return int(scalar(db, "SELECT account_id FROM bot WHERE id = %s", bot))


def home_of_campaign(db: Raw, campaign: int) -> tuple[int, int]:
    """Account and bot of a campaign."""
    row = db.execute("SELECT account_id, bot_id FROM campaign WHERE id = %s", [campaign]).fetchone()
    assert row is not None
    return row[0], row[1]


def scalar(db: Raw, sql: str, *params: object) -> Any:
    row = db.execute(sql, params).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def threads(number: int) -> Iterator[Callable[..., "Future[Any]"]]:
    """Runs calls beside the test; the block ends when they have."""
    with ThreadPoolExecutor(number) as pool:
        yield pool.submit


def decide_alone(database_url: str, *ids: UUID) -> int:
    """A worker of its own that decides these commands."""
    with connect(database_url, name="ledger") as db:
        return transfers.decide_alone(db, ids, worker="alone", owed=[])


def decide_waiting(database_url: str) -> int:
    """A worker of its own that decides what waits."""
    with connect(database_url, name="ledger") as db:
        return transfers.decide_waiting(db, worker="batch")


def wait_for_blocked(db: Raw, number: int) -> None:
    """Wait until so many backends of this database wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    eventually(lambda: scalar(db, waiting) >= number, f"{number} backends wait for a lock")
