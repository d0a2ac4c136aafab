"""The HTTP API as a customer's script would call it."""

import http.client
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

#: Longer than the gateway's deadline for a transfer that nobody takes.
ANSWER_S: Final = 30.0


class Unanswered(Exception):
    """The gateway did not answer, or not in the API's form."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `body` is its JSON."""

    status: int
    transfer: str
    body: dict[str, Any]


class Client:
    """Calls one gateway, a connection a call."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._address = urlsplit(base_url)

    def get(self, path: str, key: str = "") -> Answer:
        """GET.

        Raises:
            Unanswered.
        """
        return self._call("GET", path, key, None)

    def post(self, path: str, key: str, fields: dict[str, object]) -> Answer:
        """POST with a JSON body.

        Raises:
            Unanswered.
        """
        return self._call("POST", path, key, json.dumps(fields))

    def _call(self, method: str, path: str, key: str, body: str | None) -> Answer:
        connection = http.client.HTTPConnection(str(self._address.hostname), self._address.port, timeout=ANSWER_S)
        headers = {"Content-Type": "application/json"} if body else {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unanswered(f"{method} {path}: {type(error).__name__} {error}") from None
        finally:
            connection.close()
        if not isinstance(content, dict):
            raise Unanswered(f"{method} {path}: the answer is no object")
        return Answer(response.status, response.headers.get("Gatepost-Transfer", ""), content)
