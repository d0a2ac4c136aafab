"""Any run of transfers, together or one by one, leaves the same state, and the history tells it."""

import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from services.ledger import transfers
from shared.db.connect import Raw, connect
from shared.domain.plans import PlanCode
from shared.domain.transfers import Kind
from tests.conftest import on_database
from tests.db.support import accept
from tests.world import Account, World

STATE = {
    "bot": "SELECT id, account_id FROM bot ORDER BY id",
    "campaign": "SELECT id, account_id, bot_id, status, lead_epoch FROM campaign ORDER BY id",
    "binding": "SELECT campaign_id, bot_id FROM campaign_bot WHERE to_date IS NULL ORDER BY 1",
    "command": "SELECT id, state, reason, field FROM command ORDER BY id",
    "history": "SELECT command_id, kind, object_id, from_account, to_account, campaigns, to_bot, leads FROM transfer ORDER BY seq",
    "notice": "SELECT account_id, kind, params FROM notice ORDER BY id",
    "purge": "SELECT campaign_id, epoch, leads FROM purge ORDER BY 1, 2",
}


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_decides_as_one_by_one_would(db: Raw, database_url: str, world: World, seed: int) -> None:
    chance = random.Random(seed)
    accounts = a_small_crowd(world, chance)
    ids = [a_random_command(db, accounts, chance) for _ in range(60)]
    copy = f"{psycopg.conninfo.conninfo_to_dict(database_url)['dbname']}_copy"
    before = db.execute("SELECT 'bot', id, account_id FROM bot UNION ALL SELECT 'camp', id, account_id FROM campaign").fetchall()
    clone(database_url, copy, db)

    with connect(database_url, name="batch") as worker, connect(on_database(database_url, copy), name="alone") as other:
        while transfers.decide_waiting(worker, worker="batch"):
            pass
        transfers.decide_alone(other, sorted(ids), worker="alone", owed=[])
        together, alone = state(worker), state(other)

    assert together == alone
    assert {row[1] for row in together["command"]} == {"done", "refused"}
    assert_history_replays(together, before)


def a_small_crowd(world: World, chance: random.Random) -> list[Account]:
    """Accounts on different plans, whose bots share chats, so that commands get in each other's way."""
    plans = [PlanCode.TIGER, PlanCode.TIGER, PlanCode.CAT, PlanCode.CAT, PlanCode.KITTEN]
    accounts = [world.account(plan=plan) for plan in plans]
    chats = [world.chat() for _ in range(4)]
    for account in accounts:
        for _ in range(2):
            seats = chance.sample(chats, 3)
            bot = world.bot(account, *seats)
            for chat in seats[:2]:
                world.campaign(account, bot, chat, leads=chance.choice([0, 3]), status=chance.choice([0, 0, 1]))
    return accounts


def a_random_command(db: Raw, accounts: Sequence[Account], chance: random.Random) -> Any:
    sender, recipient = chance.choice(accounts), chance.choice(accounts)
    kind = chance.choice([Kind.BOT, Kind.CAMPAIGN, Kind.CAMPAIGN])
    object_id = chance.randint(1, 10 if kind is Kind.BOT else 20)
    key = f"key {chance.random()}".replace(" ", "-")
    return accept(db, kind, sender, object_id, recipient.token, keep=chance.random() < 0.7, key=key)


def clone(database_url: str, copy: str, db: Raw) -> None:
    """A second database in the same state. The source must have no connection while it is copied."""
    source = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(on_database(database_url, "postgres"), autocommit=True) as server:
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'")
        db.close()
        server.execute(f"CREATE DATABASE {copy} TEMPLATE {source}")


def state(db: Raw) -> dict[str, list[tuple[Any, ...]]]:
    return {name: db.execute(sql).fetchall() for name, sql in STATE.items()}


def assert_history_replays(state: dict[str, list[tuple[Any, ...]]], before: list[tuple[Any, ...]]) -> None:
    """Replaying the history from the first owners on gives today's, and each row found its object where the one before left it."""
    owners = {(kind, i): account for kind, i, account in before}
    for _, kind, object_id, sender, recipient, campaigns, _, _ in state["history"]:
        moved = [("camp", i) for i in campaigns] + ([("bot", object_id)] if kind == "bot" else [])
        for thing in moved:
            assert owners[thing] == sender
            owners[thing] = recipient
    assert owners == {**{("bot", row[0]): row[1] for row in state["bot"]}, **{("camp", row[0]): row[1] for row in state["campaign"]}}
