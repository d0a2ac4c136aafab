"""Moving a campaign with millions of leads against moving an empty one: the same few rows, whatever hangs on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Final

import uuid_utils.compat as uuids

from benchmarks import leads, workers, world
from benchmarks.api import get_total
from benchmarks.ground import Ground
from benchmarks.processes import processes
from benchmarks.rounds import Effort
from benchmarks.table import Required, Row, alone, pooled
from shared.db import commands
from shared.db.commands import NewCommand
from shared.db.connect import BY_KEY, Raw, connect
from shared.domain.transfers import Kind

#: Moves of each campaign in a round; 5 rounds make more than the 200 that are required.
MOVES: Final = 50
WARM_UP_MOVES: Final = 20
KIB: Final = 1_024


@dataclass(frozen=True, slots=True)
class Moved:
    """One move, by the ledger's single path: milliseconds, and bytes of write-ahead log."""

    ms: float
    wal: int


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """The leads' count is asked of a gateway, so that it is the one a recipient sees."""
    url = leads.database(ground, effort)
    with processes(ground) as running, connect(url, name="ledger", limits=BY_KEY) as db:
        port = running.gateway(url)
        rows = []
        for keep in (True, False):
            rows += _compare(ground, effort, db, keep=keep)
            rows.append(_seen(effort, db, port, keep=keep))
    return rows


def _compare(ground: Ground, effort: Effort, db: Raw, *, keep: bool) -> list[Row]:
    """Round by round, the campaigns take turns with every move."""
    _moves(db, WARM_UP_MOVES, keep=keep)
    rounds = []
    for number in range(effort.rounds):
        rounds.append(_moves(db, MOVES, keep=keep))
        big, empty = (median(move.ms for move in moves) for moves in rounds[-1])
        ground.say(f"round {number + 1}/{effort.rounds}  leads={int(keep)}: full {big:.2f} ms, empty {empty:.2f} ms")
    full, empty_ones = [big for big, _ in rounds], [empty for _, empty in rounds]
    what = f"campaign of {leads.count(effort):,} leads, leads={int(keep)}"
    return [
        pooled(f"{what}: a move; empty campaign", _ms(full), _ms(empty_ones), "ms", Required("≤", 1.1)),
        pooled(f"{what}: WAL of a move; empty campaign", _wal(full), _wal(empty_ones), "KB", Required("≤", 1.2)),
        alone(f"{what}: WAL of a move", [median(figures) for figures in _wal(full)], "KB", Required("≤", 64, " KB")),
    ]


def _ms(rounds: Sequence[Sequence[Moved]]) -> list[list[float]]:
    return [[move.ms for move in moves] for moves in rounds]


def _wal(rounds: Sequence[Sequence[Moved]]) -> list[list[float]]:
    return [[move.wal / KIB for move in moves] for moves in rounds]


def _moves(db: Raw, count: int, *, keep: bool) -> tuple[list[Moved], list[Moved]]:
    big: list[Moved] = []
    empty: list[Moved] = []
    for _ in range(count):
        big.append(move(db, leads.BIG, keep=keep))
        empty.append(move(db, leads.EMPTY, keep=keep))
    return big, empty


def move(db: Raw, campaign: int, *, keep: bool) -> Moved:
    """Hand the campaign to the other account. With `keep` false it gets its leads back afterwards, to lose them again."""
    command = _command(db, campaign, keep=keep)
    commands.add(db, [command])
    before = _log_position(db)
    started = perf_counter()
    finished = workers.decide_one(db, command.id)
    ended = perf_counter()
    after = _log_position(db)
    assert finished == 1, "the move was put off"
    _assert_done(db, command)
    db.execute("DELETE FROM outbox")
    if not keep:
        world.give_leads_back(db, campaign)
    return Moved((ended - started) * 1e3, after - before)


def _command(db: Raw, campaign: int, *, keep: bool) -> NewCommand:
    sender = owner(db, campaign)
    recipient = world.other(sender)
    return NewCommand(
        id=uuids.uuid7(),
        kind=Kind.CAMPAIGN,
        account=sender,
        object_id=campaign,
        token=world.token(recipient),
        keep_leads=keep,
        idempotency_key=None,
    )


def owner(db: Raw, campaign: int) -> int:
    """Whose it is."""
    return int(db.execute("SELECT account_id FROM campaign WHERE id = %s", [campaign]).fetchall()[0][0])


def _assert_done(db: Raw, command: NewCommand) -> None:
    ((_, outcome),) = commands.get_outcomes(db, [command.id])
    assert outcome.state == "done", outcome


def _log_position(db: Raw) -> int:
    return int(db.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchall()[0][0])


def _seen(effort: Effort, db: Raw, port: int, *, keep: bool) -> Row:
    """What the recipient's leads/list says right after a move."""
    command = _command(db, leads.BIG, keep=keep)
    commands.add(db, [command])
    workers.decide_one(db, command.id)
    total = get_total(port, owner(db, leads.BIG), leads.BIG)
    if not keep:
        world.give_leads_back(db, leads.BIG)
    wanted = leads.count(effort) if keep else 0
    required = Required("≥" if keep else "≤", wanted)
    return alone(f"campaign of {leads.count(effort):,} leads, leads={int(keep)}: recipient's leads/list", [float(total)], "leads", required)
