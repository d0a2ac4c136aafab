"""Requests that HTTP itself makes hard to read: raw bytes, sizes, chunks, bodies cut off. Nothing is written for any."""

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from services.gateway.answers import ApiError
from services.gateway.app import ENDPOINTS
from services.gateway.endpoints import Endpoint, Request, _read_body
from services.gateway.params import BODY_BYTES_MAX
from shared.local import Services
from tests.flow.test_api_envelope import House, error, house, raw, read_raw
from tests.flow.test_api_input import POSTS, every, fingerprint, post
from tests.world import Account


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(local, template, tmp_path_factory.mktemp("http")) as home:
        yield home


@pytest.fixture(scope="module")
def ann(home: House) -> Account:
    return home.world.account("Ann")


@pytest.fixture(scope="module")
def good(home: House, ann: Account) -> dict[str, object]:
    """A transfer that would be accepted."""
    bot, _ = home.world.bot_with_campaigns(ann, 1)
    return {"bot": bot, "token": home.world.account("Ben").token}


@pytest.fixture(autouse=True)
def nothing_is_written(home: House, good: dict[str, object]) -> Iterator[None]:
    before = fingerprint(home)
    yield
    assert fingerprint(home) == before


@every(list(ENDPOINTS))
@pytest.mark.parametrize("query", [b"x=\xff", b"x=\xd0\xb1", b"\xff=1", b"x=\x01"])
def test_raw_bytes_in_the_query_are_invalid(home: House, ann: Account, endpoint: Endpoint, query: bytes) -> None:
    lines = [f"{endpoint.method} {endpoint.path}?".encode() + query + b" HTTP/1.1", b"Host: x", f"Authorization: Bearer {ann.key}".encode()]
    assert error(read_raw(raw(home.gateway, b"\r\n".join([*lines, b"", b""])))) == ("invalid", "url")


@every(list(ENDPOINTS))
def test_a_huge_query_is_too_large(home: House, ann: Account, endpoint: Endpoint) -> None:
    answer = home.api.send(endpoint.method, f"{endpoint.path}?x={'x' * BODY_BYTES_MAX}", headers={"Authorization": f"Bearer {ann.key}"})
    assert error(answer) == ("large", "")


@every(POSTS)
def test_a_huge_body_is_too_large_by_its_length_alone(home: House, ann: Account, endpoint: Endpoint) -> None:
    """The client says how much will come and gets its answer when it begins to send it."""
    head = f"POST {endpoint.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {ann.key}\r\n"
    answer = read_raw(raw(home.gateway, f"{head}Content-Length: {BODY_BYTES_MAX + 1}\r\n\r\n{{".encode()))
    assert (answer.status, error(answer)) == (413, ("large", ""))
    answer = read_raw(raw(home.gateway, f"{head}Content-Length: {10**15}\r\n\r\n{{".encode()))
    assert (answer.status, error(answer)) == (413, ("large", ""))


@every(POSTS)
def test_a_huge_body_in_chunks_is_too_large(home: House, ann: Account, endpoint: Endpoint) -> None:
    head = f"POST {endpoint.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {ann.key}\r\n"
    chunks = (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * (BODY_BYTES_MAX // 0x1000)
    too_large = read_raw(raw(home.gateway, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"1\r\n{\r\n"))
    just_fits = read_raw(raw(home.gateway, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks[:-3] + b"{\r\n0\r\n\r\n"))
    assert (too_large.status, error(too_large)) == (413, ("large", ""))
    assert error(just_fits) == ("invalid", "body")


@every(POSTS)
def test_a_body_of_exactly_the_limit_is_read(home: House, ann: Account, endpoint: Endpoint) -> None:
    assert error(post(home, ann, endpoint, b"{" * BODY_BYTES_MAX)) == ("invalid", "body")
    assert error(post(home, ann, endpoint, b"{" * (BODY_BYTES_MAX + 1))) == ("large", "")


@pytest.mark.parametrize(
    ("request_line", "headers", "expected"),
    [
        ("POST /api/transfer/bot.json HTTP/1.1", "Content-Length: ten", ("invalid", "body")),
        ("POST /api/transfer/bot.json HTTP/1.1", "Content-Length: -1", ("invalid", "body")),
        ("POST /api/transfer/bot.json HTTP/1.1", "Content-Length: 1.5", ("invalid", "body")),
        ("POST /api/transfer/bot.json HTTP/1.1", f"Content-Length: {10**30}", ("invalid", "body")),
        ("POST /api/transfer/bot.json HTTP/1.1", "Content-Length: 2\r\nContent-Length: 3", ("invalid", "body")),
        ("POST /api/transfer/bot.json HTTP/1.1", "Content-Length: 2\r\nTransfer-Encoding: chunked", ("invalid", "body")),
        ("POST /api/transfer/bot.json HTTP/1.1", "Idempotency-Key: a\0b", ("invalid", "body")),
        ("GET /api/bots/list.json?a b HTTP/1.1", "", ("invalid", "body")),
        ("GET /api/bots/list.json?\x01 HTTP/1.1", "", ("invalid", "url")),
        ("GET /api/bots/list.json HTTP/9", "", ("invalid", "body")),
        ("\x16\x03\x01\x02", "", ("func", "")),
        ("BREW /api/bots/list.json HTTP/1.1", "", ("func", "")),
        ("get /api/bots/list.json HTTP/1.1", "", ("func", "")),
    ],
)
def test_what_is_no_http_is_answered_in_the_same_form(
    home: House, ann: Account, request_line: str, headers: str, expected: tuple[str, str]
) -> None:
    lines = [request_line, "Host: x", f"Authorization: Bearer {ann.key}", "Connection: close", *([headers] if headers else []), "", ""]
    answer = read_raw(raw(home.gateway, "\r\n".join(lines).encode("latin-1")))
    assert error(answer) == expected
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("chunks", ["zz\r\n", "-1\r\nx", "2\r\nabcd\r\n"])
def test_a_bad_chunk_moves_nothing(home: House, ann: Account, chunks: str) -> None:
    head = f"POST /api/transfer/bot.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann.key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert error(read_raw(raw(home.gateway, (head + chunks).encode()))) == ("invalid", "body")


def test_a_body_cut_off_in_the_middle_moves_nothing(home: House, ann: Account, good: dict[str, object]) -> None:
    """The first half of `bot=12` names another bot. The gateway is asked to stop, since it then ends what it has begun."""
    gateway = home.processes.gateway("--deadline", "0.3")
    form = urlencode({"token": good["token"], "leads": 1, "bot": good["bot"]})
    head = f"POST /api/transfer/bot.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann.key}\r\n"
    for framed in (f"Content-Length: {len(form) + 1}\r\n\r\n{form}", f"Transfer-Encoding: chunked\r\n\r\n{len(form):x}\r\n{form}\r\n"):
        assert raw(gateway, f"{head}{framed}".encode(), shut=True) == b""
    gateway.stop()


@pytest.mark.parametrize("length", [b"6", None])
def test_a_lost_connection_is_no_end_of_a_body(length: bytes | None) -> None:
    events: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": b"bot=1", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(events)

    async def read() -> bytes:
        headers = [(b"content-length", length)] if length else [(b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        return await _read_body(Request(scope, receive, first_event=await receive()))

    with pytest.raises(ApiError, match="invalid"):
        asyncio.run(read())
