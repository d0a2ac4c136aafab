"""The API as the benchmarks ask it, outside what is timed."""

import http.client
import json
from typing import Any

from benchmarks import world
from shared.local.ports import LOOPBACK


def get_total(port: int, account: int, campaign: int) -> int:
    """How many leads of a campaign leads/list tells an account."""
    return int(_call(port, "GET", f"/api/leads/list.json?campaign={campaign}&limit=1", account)["total"])


def transfer_campaign(port: int, account: int, campaign: int, recipient: int, *, keep: bool) -> None:
    """Hand a campaign over."""
    body = json.dumps({"camp": campaign, "token": world.token(recipient), "leads": int(keep)})
    _call(port, "POST", "/api/transfer/camp.json", account, body)


def _call(port: int, method: str, target: str, account: int, body: str | None = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    headers = {"Authorization": f"Bearer {world.credential(account)}", "Content-Type": "application/json"}
    connection.request(method, target, body, headers)
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["status"] == "ok", answer
    return answer
