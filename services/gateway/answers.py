"""What the API answers: one envelope for every outcome."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec

NEVER: Final = "0000-00-00 00:00:00"


class Code(StrEnum):
    """Error codes of the API that are not reasons of a transfer."""

    FUNC = "func"
    LARGE = "large"
    KEY = "key"
    BAN = "ban"
    RATE = "rate"
    UNPAID = "unpaid"
    INVALID = "invalid"
    NOTFOUND = "notfound"
    BUSY = "busy"
    DB = "db"


#: Codes that are not answered with HTTP status 200.
_STATUS: Final[Mapping[str, HTTPStatus]] = {
    Code.LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.RATE: HTTPStatus.TOO_MANY_REQUESTS,
    Code.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer: nothing, data, or a page of data with the total. `status` is `pending` for a transfer still under way."""

    data: object = None
    total: int | None = None
    status: Literal["ok", "pending"] = "ok"


class ApiError(Exception):
    """An answer other than ok. `field` names the parameter to blame."""

    def __init__(self, code: str, message: str, *, field: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.field = field


def invalid(field: str, message: str) -> ApiError:
    """A parameter that is missing or cannot be what it says."""
    return ApiError(Code.INVALID, message, field=field)


def encode_reply(reply: Reply) -> bytes:
    """The body of a successful answer."""
    body: dict[str, Any] = {"status": reply.status}
    if reply.data is not None:
        body["data"] = reply.data
    if reply.total is not None:
        body["total"] = reply.total
    return msgspec.json.encode(body)


def encode_error(error: ApiError) -> tuple[HTTPStatus, bytes]:
    """Status and body of any other answer."""
    body = {"status": "error", "error": str(error.code)}
    if error.field:
        body["field"] = error.field
    body["message"] = error.message
    return _STATUS.get(error.code, HTTPStatus.OK), msgspec.json.encode(body)


def date(when: datetime | None) -> str:
    """A moment as the API writes it: UTC, to the second; `NEVER` for none."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if when else NEVER
