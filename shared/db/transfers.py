"""The facts a transfer is decided on, and the writes that carry decided transfers out.

The statements take arrays, so that one round trip serves one command or twenty; they are the same for the batch, for the single path
and, without their locks, for the preview. Lock order: commands → accounts (by id) → bots (by id) → campaigns (by id).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import Pipeline
from psycopg.types.json import Jsonb

from shared.db.connect import Raw
from shared.domain.campaigns import CampaignStatus
from shared.domain.notices import NoticeKind, transfer_notices
from shared.domain.plans import PlanCode
from shared.domain.transfers import Account, Bot, Campaign, Facts, Kind, Move, Request
from shared.messages import OUTBOX_CHANNEL, OUTCOME_CHANNEL, Outcome, Wake, encode_outcomes, purge_key

LOCK_ACCOUNTS: Final = "SELECT id, statement_timestamp() FROM account WHERE id = ANY(%(accounts)s) ORDER BY id FOR NO KEY UPDATE"

# Which bots matter: those that move, and every one that could take a moving campaign. The second set is known only once the accounts
# are locked, since only then nobody can add or move a bot.
_BOT_IDS = """
    SELECT unnest(%(bots)s::bigint[])
    UNION SELECT seat.bot_id FROM campaign c JOIN bot_chat seat ON seat.chat_id = c.chat_id AND seat.admin WHERE c.id = ANY(%(camps)s)
"""
_BOTS = f"FROM bot WHERE account_id = ANY(%(accounts)s) AND id IN ({_BOT_IDS})"
LOCK_BOTS: Final = f"SELECT id {_BOTS} ORDER BY id FOR NO KEY UPDATE"
LOCK_FREE_BOTS: Final = f"{LOCK_BOTS} SKIP LOCKED"

_CAMPAIGNS = """
    FROM campaign c
    WHERE c.status <> 2 AND c.account_id = ANY(%(accounts)s) AND (c.bot_id = ANY(%(bots)s) OR c.id = ANY(%(camps)s))
"""
LOCK_CAMPAIGNS: Final = f"SELECT c.id {_CAMPAIGNS} ORDER BY c.id FOR NO KEY UPDATE"

# The facts are read by statements of their own, after those that lock: a statement that locks and counts at once counts on the snapshot
# it had before it waited, and gave a recipient's last slot twice.
GET_ACCOUNTS: Final = """
    SELECT a.id, a.name, a.transfer_token, a.suspended, a.plan, a.paid_until,
           (SELECT count(*) FROM campaign c WHERE c.account_id = a.id AND c.status = 0), clock_timestamp()
    FROM account a WHERE a.id = ANY(%(accounts)s)
"""
GET_BOTS: Final = f"""
    SELECT id, account_id, username, disconnected IS NULL, token_revoked,
           (SELECT count(*) FROM campaign c WHERE c.bot_id = bot.id AND c.status <> 2) {_BOTS}
"""
GET_CAMPAIGNS: Final = f"""
    SELECT c.id, c.account_id, c.bot_id, c.chat_id, c.code,
           (SELECT title FROM chat WHERE chat.id = c.chat_id), c.status, c.lead_epoch,
           (c.pb_wait || c.pb_hold || c.pb_approve || c.pb_cancel || c.pb_trash) <> '',
           coalesce((SELECT n.n_wait + n.n_hold + n.n_approve + n.n_cancel + n.n_trash
                     FROM lead_counter n WHERE n.campaign_id = c.id AND n.epoch = c.lead_epoch), 0)
    {_CAMPAIGNS}
"""
GET_SEATS: Final = """
    SELECT seat.chat_id, seat.bot_id,
           EXISTS (SELECT FROM campaign t WHERE t.bot_id = seat.bot_id AND t.chat_id = seat.chat_id AND t.status <> 2)
    FROM bot_chat seat JOIN bot ON bot.id = seat.bot_id AND bot.account_id = ANY(%(accounts)s)
    WHERE seat.admin AND seat.chat_id IN (SELECT c.chat_id FROM campaign c WHERE c.id = ANY(%(camps)s))
"""

FIND_RECIPIENT: Final = "SELECT id FROM account WHERE transfer_token = %(token)s"


@dataclass(frozen=True, slots=True)
class Locked:
    """Facts under locks, and the bots that another transaction holds: nothing that needs one of them can be decided now.

    `took_s` is how long the server took to lock and to read; where that is much, others were before us.
    """

    facts: Facts
    busy_bots: frozenset[int]
    took_s: float


def lock(tx: Raw, pipeline: Pipeline, requests: Sequence[Request], *, wait_for_bots: bool) -> Locked:
    """Lock what the requests touch, then read the facts; one round trip inside the caller's pipeline.

    Accounts and campaigns are waited for, bots only with `wait_for_bots`; otherwise the busy ones are named.

    Raises:
        psycopg.errors.LockNotAvailable: something was held for longer than the lock timeout.
    """
    subject = _subject(requests)
    accounts = tx.execute(LOCK_ACCOUNTS, subject, prepare=True)
    free = tx.execute(LOCK_BOTS if wait_for_bots else LOCK_FREE_BOTS, subject, prepare=True)
    tx.execute(LOCK_CAMPAIGNS, subject, prepare=True)
    facts = _read(tx, pipeline, subject)
    began = accounts.fetchall()[0][1]
    return Locked(facts, frozenset(facts.bots) - {row[0] for row in free}, (facts.now - began).total_seconds())


def get_facts(db: Raw, request: Request) -> Facts:
    """The facts as they stand, nothing locked: what a preview shows."""
    with db.pipeline() as pipeline:
        return _read(db, pipeline, _subject([request]))


def find_recipient(db: Raw, token: str) -> int | None:
    """The account with this transfer token."""
    row = db.execute(FIND_RECIPIENT, {"token": token}, prepare=True).fetchone()
    return row[0] if row else None


def _subject(requests: Sequence[Request]) -> dict[str, str]:
    return {
        "accounts": _array(sorted({r.sender for r in requests} | {r.recipient for r in requests if r.recipient is not None})),
        "bots": _array(r.object_id for r in requests if r.kind is Kind.BOT),
        "camps": _array(r.object_id for r in requests if r.kind is Kind.CAMPAIGN),
    }


def _array(numbers: Iterable[int]) -> str:
    """An array as PostgreSQL reads it. The driver makes its own from a list element by element, and each statement takes several."""
    return f"{{{','.join(map(str, numbers))}}}"


def _read(tx: Raw, pipeline: Pipeline, subject: dict[str, str]) -> Facts:
    accounts = tx.execute(GET_ACCOUNTS, subject, prepare=True)
    bots = tx.execute(GET_BOTS, subject, prepare=True)
    campaigns = tx.execute(GET_CAMPAIGNS, subject, prepare=True)
    seats: Iterable[tuple[Any, ...]] = tx.execute(GET_SEATS, subject, prepare=True) if subject["camps"] != _array([]) else ()
    # Fetching alone would only flush, which leaves the server inside the pipeline: there it never counts as idle, and a process that is
    # stopped now would keep its locks for as long as it is stopped.
    pipeline.sync()
    account_rows = accounts.fetchall()
    admins: dict[int, set[int]] = {}
    occupied: set[tuple[int, int]] = set()
    for chat, bot, taken in seats:
        occupied |= {(bot, chat)} if taken else set()
        admins.setdefault(chat, set()).add(bot)
    return Facts(
        now=account_rows[0][-1],
        accounts={
            i: Account(id=i, name=name, token=token, suspended=off, plan=PlanCode(plan), paid_until=until, active=active)
            for i, name, token, off, plan, until, active, _ in account_rows
        },
        bots={
            i: Bot(id=i, account=owner, username=username, connected=connected, revoked=revoked, campaigns=n)
            for i, owner, username, connected, revoked, n in bots
        },
        campaigns={row[0]: _campaign(row) for row in campaigns},
        admins={chat: frozenset(ids) for chat, ids in admins.items()},
        occupied=occupied,
    )


def _campaign(row: tuple[Any, ...]) -> Campaign:
    i, account, bot, chat, code, title, status, epoch, own, leads = row
    return Campaign(
        id=i,
        account=account,
        bot=bot,
        chat=chat,
        code=code,
        chat_title=title,
        status=CampaignStatus(status),
        epoch=epoch,
        own_templates=own,
        leads=leads,
    )


MOVE: Final = """
    WITH moved AS (
        UPDATE bot SET account_id = m.account_id
        FROM unnest(%(bots)s::bigint[], %(bot_accounts)s::bigint[]) AS m (id, account_id) WHERE bot.id = m.id
    )
    UPDATE campaign c SET account_id = m.account_id, bot_id = m.bot_id, lead_epoch = m.epoch,
        epoch_since = CASE WHEN c.lead_epoch = m.epoch THEN c.epoch_since ELSE clock_timestamp() END
    FROM unnest(%(camps)s::bigint[], %(accounts)s::bigint[], %(homes)s::bigint[], %(epochs)s::int[]) AS m (id, account_id, bot_id, epoch)
    WHERE c.id = m.id
"""
CLOSE_BINDINGS: Final = "UPDATE campaign_bot SET to_date = clock_timestamp() WHERE campaign_id = ANY(%(ids)s) AND to_date IS NULL"
OPEN_BINDINGS: Final = """
    INSERT INTO campaign_bot (campaign_id, bot_id, from_date)
    SELECT m.id, m.bot_id, clock_timestamp() FROM unnest(%(ids)s::bigint[], %(bots)s::bigint[]) AS m (id, bot_id)
"""
ADD_PURGES: Final = f"""
    WITH p AS (
        INSERT INTO purge (campaign_id, epoch, leads) SELECT * FROM unnest(%(ids)s::bigint[], %(epochs)s::int[], %(leads)s::bigint[]))
    INSERT INTO outbox (wake, key) SELECT '{Wake.PURGE_LEADS}', unnest(%(keys)s::text[])
"""
# Rows come as one JSON array: a history row holds an array itself, which unnest would flatten. Their order is the order of `seq`.
ADD_HISTORY: Final = """
    WITH history AS (
        INSERT INTO transfer (command_id, kind, object_id, title, from_account, to_account, keep_leads, campaigns, to_bot, leads, at)
        SELECT r.*, clock_timestamp() FROM jsonb_to_recordset(%(transfers)s) AS r (
            command_id uuid, kind text, object_id bigint, title text, from_account bigint, to_account bigint,
            keep_leads boolean, campaigns bigint[], to_bot bigint, leads bigint)
    )
    INSERT INTO notice (account_id, kind, params)
    SELECT r.* FROM jsonb_to_recordset(%(notices)s) AS r (account_id bigint, kind text, params jsonb)
"""
FINISH: Final = """
    WITH finished AS (
        UPDATE command SET state = o.state, reason = o.reason, field = o.field, message = o.message,
            worker = %(worker)s, finished = clock_timestamp()
        FROM jsonb_to_recordset(%(outcomes)s) AS o (id uuid, state text, reason text, field text, message text)
        WHERE command.id = o.id AND command.state = 'pending'
    )
    SELECT pg_notify(%(channel)s, payload) FROM jsonb_array_elements_text(%(payloads)s) AS payload
"""
NOTIFY: Final = "SELECT pg_notify(%(channel)s, %(payload)s)"


def write(tx: Raw, moves: Sequence[Move], outcomes: Sequence[tuple[UUID, Outcome]], *, worker: str) -> None:
    """Carry out what was decided: one final row for each object, a history row and two notices for each transfer, every outcome.

    Nothing is waited for: the statements travel with the caller's COMMIT, so that the locks are held for one round trip less.
    The commands are the caller's own locked rows, so the last condition of FINISH always holds; it is there for whoever breaks that.
    """
    if moves:
        _move(tx, moves)
        _add_purges(tx, moves)
        tx.execute(
            ADD_HISTORY,
            {
                "transfers": _json([_history(move) for move in moves]),
                "notices": _json([notice for move in moves for notice in _notices(move)]),
            },
            prepare=True,
        )
    tx.execute(
        FINISH,
        {
            "worker": worker,
            "outcomes": _json([_outcome(command, outcome) for command, outcome in outcomes]),
            "channel": OUTCOME_CHANNEL,
            "payloads": _json(encode_outcomes(outcomes)),
        },
        prepare=True,
    )


def _move(tx: Raw, moves: Sequence[Move]) -> None:
    """An object named twice in one UPDATE would keep the first row, so only the last owner and home are written."""
    owners = {move.bot.id: move.recipient.id for move in moves if move.bot is not None}
    first, last = _first_and_last(moves)
    tx.execute(
        MOVE,
        {
            "bots": _array(owners),
            "bot_accounts": _array(owners.values()),
            "camps": _array(last),
            "accounts": _array(c.account for c in last.values()),
            "homes": _array(c.bot for c in last.values()),
            "epochs": _array(c.epoch for c in last.values()),
        },
        prepare=True,
    )
    rebound = {i: c.bot for i, c in last.items() if c.bot != first[i].bot}
    if rebound:
        binding = {"ids": _array(rebound), "bots": _array(rebound.values())}
        tx.execute(CLOSE_BINDINGS, binding, prepare=True)
        tx.execute(OPEN_BINDINGS, binding, prepare=True)


def _first_and_last(moves: Iterable[Move]) -> tuple[dict[int, Campaign], dict[int, Campaign]]:
    first: dict[int, Campaign] = {}
    last: dict[int, Campaign] = {}
    for before, after in (pair for move in moves for pair in move.campaigns):
        first.setdefault(before.id, before)
        last[after.id] = after
    return first, last


def _add_purges(tx: Raw, moves: Sequence[Move]) -> None:
    dropped = [before for move in moves for before, after in move.campaigns if before.epoch != after.epoch]
    if not dropped:
        return
    tx.execute(
        ADD_PURGES,
        {
            "ids": _array(c.id for c in dropped),
            "epochs": _array(c.epoch for c in dropped),
            "leads": _array(c.leads for c in dropped),
            "keys": [purge_key(c.id, c.epoch) for c in dropped],
        },
        prepare=True,
    )
    tx.execute(NOTIFY, {"channel": OUTBOX_CHANNEL, "payload": ""}, prepare=True)


def _history(move: Move) -> dict[str, object]:
    request = move.request
    return {
        "command_id": request.id,
        "kind": request.kind.value,
        "object_id": request.object_id,
        "title": move.title,
        "from_account": move.sender.id,
        "to_account": move.recipient.id,
        "keep_leads": request.keep_leads,
        "campaigns": [before.id for before, _ in move.campaigns],
        "to_bot": move.campaigns[0][1].bot if request.kind is Kind.CAMPAIGN else None,
        "leads": move.leads,
    }


def _notices(move: Move) -> list[dict[str, object]]:
    to_sender, to_recipient = transfer_notices(move)
    return [
        {"account_id": move.sender.id, "kind": NoticeKind.TRANSFER_SENT.value, "params": to_sender},
        {"account_id": move.recipient.id, "kind": NoticeKind.TRANSFER_RECEIVED.value, "params": to_recipient},
    ]


def _outcome(command: UUID, outcome: Outcome) -> dict[str, object]:
    return {"id": command, "state": outcome.state, "reason": outcome.reason, "field": outcome.field, "message": outcome.message}


def _json(rows: Sequence[object]) -> Jsonb:
    """Rows, or texts, as one parameter; other encoders, and the driver's way with an array of texts, cost a fourth of a worker's CPU."""
    return Jsonb(rows, dumps=msgspec.json.encode)
