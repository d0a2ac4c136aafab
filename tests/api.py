"""A bare HTTP client for the API: what a customer's script would be."""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, byte for byte and read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json["data"]

    @property
    def error(self) -> tuple[str, str] | None:
        """Code and field; None when it is ok."""
        read = self.json
        return None if read["status"] == "ok" else (read["error"], read.get("field", ""))


class Api:
    """Calls one gateway. One connection a call, so that it may be used from many threads."""

    def __init__(self, base_url: str, *, timeout_s: float = 60) -> None:
        self._address = urlsplit(base_url)
        self._timeout_s = timeout_s

    def send(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request, exactly as given."""
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=self._timeout_s)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str, key: str, **query: object) -> Answer:
        """GET /api/{path}.json with the key as Bearer."""
        target = f"/api/{path}.json" + (f"?{urlencode(query)}" if query else "")
        return self.send("GET", target, headers={"Authorization": f"Bearer {key}"})

    def post(self, path: str, key: str, *, idempotency_key: str | None = None, form: bool = False, **fields: object) -> Answer:
        """POST /api/{path}.json with a JSON body, or a form."""
        body = urlencode(fields) if form else json.dumps(fields)
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
        }
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return self.send("POST", f"/api/{path}.json", body.encode(), headers)
