"""The form of every answer, the house the API's tests live in, and that the judge of answers can say no."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import Engine

from shared.db import schema
from shared.db.connect import Raw, connect, engine
from shared.local import Services
from tests.api import Answer, Api
from tests.conftest import on_database
from tests.stack import Process, Stack, stack
from tests.world import Account, World

#: Every code the product description names for the endpoints there are, and the HTTP status it comes with.
STATUS_OF: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        ("func", "key", "ban", "unpaid", "invalid", "notfound", "db", "self", "limit", "nobot", "exists", "token", "webhook"), 200
    ),
    "large": 413,
    "rate": 429,
    "busy": 503,
}

#: Codes that blame a parameter, and so name it.
WITH_FIELD: Final = {"invalid", "notfound", "self", "limit", "nobot", "exists", "token", "webhook"}

DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class House:
    """One database with processes on it, for all the tests of a file that make their own accounts in it."""

    api: Api
    world: World
    tables: Engine
    db: Raw
    processes: Stack
    gateway: Process

    def count(self) -> dict[str, int]:
        """How many rows there are in every table."""
        return {name: self.one(f'SELECT count(*) FROM "{name}"') for name in schema.metadata.tables}

    def fill(self, account: Account, campaigns: int) -> None:
        """So many active campaigns of the account on one bot, each in a chat of its own."""
        self.db.execute(
            """
            WITH chats AS (
                INSERT INTO chat (tg_id, type, title)
                SELECT -2000000000000 - (SELECT coalesce(max(id), 0) FROM chat) - n, 'channel', 'Filler' FROM generate_series(1, %s) n
                RETURNING id
            )
            INSERT INTO campaign (account_id, created_by, bot_id, chat_id, code)
            SELECT %s, %s, %s, id, 'f' || lpad(id::text, 8, '0') FROM chats
            """,
            [campaigns, account.id, account.id, self.world.bot(account)],
        )

    def one(self, sql: str, *values: object) -> int:
        """The number a statement answers."""
        row = self.db.execute(sql, values).fetchone()
        assert row is not None
        return int(row[0])


@contextlib.contextmanager
def house(local: Services, template: str, folder: Path, *, whole: bool = False) -> Iterator[House]:
    """A gateway on a database of its own; the `whole` house has a relay and a ledger too."""
    name = f"{template}_house_{next(_numbers)}"
    url = on_database(local.database_url, name)
    with psycopg.connect(local.database_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        with stack(url, local.amqp_url, folder) as processes, connect(url, name="test") as db:
            tables = engine(url, name="test")
            gateway = processes.gateway("--deadline", "60")  # a slow machine is no failure
            if whole:
                processes.relay()
                processes.ledger()
            yield House(Api(gateway.base_url), World(tables), tables, db, processes, gateway)
            tables.dispose()
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def check(answer: Answer) -> Answer:
    """The answer, if it has the documented form."""
    assert answer.status != 500, answer.body
    assert answer.headers["content-type"] == "application/json"
    read = json.loads(answer.body)
    match read.get("status"):
        case "ok":
            assert answer.status == 200
            assert set(read) <= {"status", "data", "total"}
            assert "total" not in read or (isinstance(read["total"], int) and isinstance(read["data"], list))
        case "pending":
            assert answer.status == 200
            assert set(read) == {"status", "data"} and set(read["data"]) == {"transfer"}  # noqa: PT018
        case "error":
            assert answer.status == STATUS_OF[read["error"]], answer.body
            assert set(read) <= {"status", "error", "message", "field"}
            assert read["message"].endswith("."), "a sentence for a person"
            assert ("field" in read) >= (read["error"] in WITH_FIELD), answer.body
            assert read.get("field") != "", "a field that is named has a name"
        case _:
            raise AssertionError(answer.body)
    return answer


def error(answer: Answer) -> tuple[str, str] | None:
    """Code and field of an answer of the documented form; None when it is ok."""
    return check(answer).error


def raw(gateway: Process, request: bytes, *, shut: bool = False) -> bytes:
    """What the gateway answers to these bytes, until it closes; with `shut` they are the last there will be."""
    with socket.create_connection(("127.0.0.1", int(gateway.base_url.rsplit(":", 1)[1])), timeout=20) as connection:
        connection.sendall(request)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while more := connection.recv(65_536):
            received += more
        return received


def read_raw(response: bytes) -> Answer:
    """The one answer in what a connection received."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(body.split(b"\r\n")[1:2])
    return Answer(int(first.split()[1]), headers, body)


def _answer(status: int, body: str) -> Answer:
    return Answer(status, {"content-type": "application/json"}, body.encode())


@pytest.mark.parametrize(
    "good",
    [
        _answer(200, '{"status":"ok"}'),
        _answer(200, '{"status":"ok","data":[],"total":0}'),
        _answer(200, '{"status":"pending","data":{"transfer":"x"}}'),
        _answer(200, '{"status":"error","error":"key","message":"No."}'),
        _answer(413, '{"status":"error","error":"large","message":"No."}'),
        _answer(200, '{"status":"error","error":"unpaid","field":"token","message":"No."}'),
    ],
)
def test_documented_answers_pass_the_judge(good: Answer) -> None:
    assert check(good) is good


@pytest.mark.parametrize(
    "bad",
    [
        _answer(500, '{"status":"error","error":"db","message":"No."}'),
        _answer(400, '{"status":"error","error":"invalid","field":"id","message":"No."}'),
        _answer(200, '{"status":"error","error":"large","message":"No."}'),
        _answer(200, '{"status":"error","error":"oops","message":"No."}'),
        _answer(200, '{"status":"error","error":"invalid","message":"No."}'),
        _answer(200, '{"status":"error","error":"invalid","field":"","message":"No."}'),
        _answer(200, '{"status":"ok","rows":[]}'),
        _answer(200, '{"status":"ok","data":{},"total":1}'),
        _answer(200, '{"title":"400 Bad Request"}'),
        Answer(200, {"content-type": "text/plain"}, b'{"status":"ok"}'),
    ],
)
def test_any_other_answer_is_caught(bad: Answer) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check(bad)
