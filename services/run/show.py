"""The main job, shown: one bot changes hands through the HTTP API, and the next time it goes back."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from services.run.client import Answer, Client, Unanswered
from services.run.files import AccountFile
from services.tables import table
from shared.db import commands
from shared.db.connect import connect

BOTS_LIST: Final = "/api/bots/list.json"
LEADS_LIST: Final = "/api/leads/list.json"
TRANSFER_BOT: Final = "/api/transfer/bot.json"


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two accounts, with its bots by id, and how many leads it has."""

    account: AccountFile
    bots: dict[int, str]
    leads: int


def transfer(client: Client, database_url: str, pair: Sequence[AccountFile], bot: int) -> list[str]:
    """Hand the bot from whichever of the two has it to the other; the lines that tell about it.

    1. See what both have.
    2. Ask for the transfer, as the owner's script would.
    3. See what both have now.

    Raises:
        Unanswered: the gateway did not answer.
    """
    before = [_look(client, account) for account in pair]
    owner = next((side for side in before if bot in side.bots), None)
    if owner is None:
        return [f"The demo's bot {bot} is with neither {pair[0].name} nor {pair[1].name}, so it is not moved this time."]
    other = next(side for side in before if side is not owner)
    name = owner.bots[bot]
    started = time.monotonic()
    answer = client.post(TRANSFER_BOT, owner.account.key, {"bot": bot, "token": other.account.transfer_token, "leads": 1})
    took_ms = (time.monotonic() - started) * 1000
    if answer.body.get("status") != "ok":
        return [f"{name} was not moved from {owner.account.name} to {other.account.name}: {_reason(answer)}"]
    after = [_look(client, account) for account in pair]
    return [
        f"{name} went from {owner.account.name} to {other.account.name} through the HTTP API, in {took_ms:.0f} ms.",
        f"  transfer  {answer.transfer}",
        f"  worker    {_worker(database_url, answer.transfer)}",
        "",
        *table([("", "leads", "bots before", "leads", "bots after"), *(_row(*sides) for sides in zip(before, after, strict=True))]),
    ]


def _row(before: _Side, after: _Side) -> tuple[str, ...]:
    return before.account.name, f"{before.leads:,}", _names(before), f"{after.leads:,}", _names(after)


def _names(side: _Side) -> str:
    return " ".join(side.bots.values()) or "none"


def _look(client: Client, account: AccountFile) -> _Side:
    bots: list[dict[str, Any]] = _get(client, account, BOTS_LIST)["data"]
    leads: int = _get(client, account, f"{LEADS_LIST}?limit=1")["total"]
    return _Side(account, {bot["id"]: f"@{bot['username']}" for bot in bots}, leads)


def _get(client: Client, account: AccountFile, path: str) -> dict[str, Any]:
    answer = client.get(path, account.key)
    if answer.body.get("status") != "ok":
        raise Unanswered(f"{path}: {_reason(answer)}")
    return answer.body


def _reason(answer: Answer) -> str:
    return str(answer.body.get("message") or answer.body.get("error") or f"HTTP status {answer.status}")


def _worker(database_url: str, transfer: str) -> str:
    with connect(database_url, name="run") as db:
        return commands.get_worker(db, UUID(transfer))
