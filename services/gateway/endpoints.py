"""What every endpoint goes through before its own code, and how its answer is written."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal, cast

import falcon
import falcon.asgi
import structlog
from sqlalchemy import Engine
from sqlalchemy import exc as sqlalchemy_errors

from services.gateway import identity, params
from services.gateway.answers import ApiError, Code, Reply, encode_error, encode_reply, invalid
from services.gateway.batches import Batch
from services.gateway.connections import Connections
from services.gateway.intake import Intake
from shared.db import accounts
from shared.db.accounts import Caller
from shared.db.connect import EXPECTED, is_away, raw, reading, writing
from shared.domain.keys import Credential

CALLERS_MAX: Final = 200

log = structlog.get_logger("gateway")


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the endpoints of one process share."""

    db: Engine
    executor: ThreadPoolExecutor
    intake: Intake
    connections: Connections
    callers: Batch[int, Caller | None]


def make_callers(db: Engine, executor: ThreadPoolExecutor) -> Batch[int, Caller | None]:
    """Looks up the accounts of requests, those that come together in one statement."""

    def look_up(ids: Sequence[int]) -> list[Caller | None]:
        with reading(db) as tx:
            found = accounts.get_callers(raw(tx), list(set(ids)))
        return [found.get(i) for i in ids]

    return Batch(look_up, executor, items_max=CALLERS_MAX)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the route table: method, path, parameters, and the function behind it, which is one of three kinds.

    `read` and `write` run in a thread on a connection of their own, `write` in a transaction; `command` runs in the event
    loop and waits there for an outcome.
    """

    method: Literal["GET", "POST"]
    path: str
    model: type[params.Params]
    read: Callable[..., Reply] | None = None
    write: Callable[..., Reply] | None = None
    command: Callable[..., Awaitable[Reply]] | None = None
    open_when_lapsed: bool = False


class Resource:
    """The endpoints of one path, as Falcon calls them."""

    def __init__(self, gateway: Gateway, endpoints: Sequence[Endpoint]) -> None:
        self._gateway = gateway
        for endpoint in endpoints:
            setattr(self, f"on_{endpoint.method.lower()}", self._responder(endpoint))

    def _responder(self, endpoint: Endpoint) -> Callable[..., Awaitable[None]]:
        async def respond(request: falcon.asgi.Request, response: falcon.asgi.Response) -> None:
            reply = await answer(self._gateway, endpoint, request, response)
            response.content_type = falcon.MEDIA_JSON
            response.data = encode_reply(reply)

        return respond

    async def on_options(self, _request: falcon.asgi.Request, _response: falcon.asgi.Response) -> None:
        """GET reads, POST writes; nothing else."""
        raise unknown_function()


async def answer(gateway: Gateway, endpoint: Endpoint, request: falcon.asgi.Request, response: falcon.asgi.Response) -> Reply:
    """The order of checks. The path and the method were checked by the router.

    1. Size of the body.
    2. The credential: is it one, whose is it, is the account suspended, has its plan lapsed.
    3. The parameters.
    4. The endpoint itself, which finds out whether the objects exist.

    Raises:
        ApiError: with the first check that fails.
    """
    body = await _read_body(request) if endpoint.method == "POST" else b""
    pairs = params.parse_query(cast(bytes, request.scope["query_string"]).decode("ascii"))
    text, others = identity.split_query(pairs, request.get_header("Authorization"))
    caller = await _authenticate(gateway, identity.parse(text), open_when_lapsed=endpoint.open_when_lapsed)
    params.check_pairs(pairs)
    query = params.unique(others)
    fields = query if endpoint.method == "GET" else params.parse_body(body, request.content_type or "")
    checked = params.check(endpoint.model, fields)
    if endpoint.command is not None:
        return await endpoint.command(gateway, caller, checked, request, response)
    return await asyncio.get_running_loop().run_in_executor(gateway.executor, _call, gateway.db, endpoint, caller, checked)


def _call(db: Engine, endpoint: Endpoint, caller: Caller, checked: params.Params) -> Reply:
    if endpoint.read is not None:
        with reading(db) as tx:
            return endpoint.read(tx, caller, checked)
    assert endpoint.write is not None, "an endpoint reads, writes or commands"
    with writing(db) as tx:
        return endpoint.write(tx, caller, checked)


async def _authenticate(gateway: Gateway, credential: Credential, *, open_when_lapsed: bool) -> Caller:
    return identity.verify(credential, await gateway.callers(credential.account), open_when_lapsed=open_when_lapsed)


class Request(falcon.asgi.Request):
    """A request whose body is whole or an error: Falcon alone takes what came before a lost connection for all there was."""

    def __init__(self, scope: Any, receive: Callable[[], Awaitable[Any]], first_event: Any = None, options: Any = None) -> None:
        async def receive_whole() -> Any:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise invalid("body", "The body is incomplete.")
            return event

        super().__init__(scope, receive_whole, first_event=first_event, options=options)


async def _read_body(request: falcon.asgi.Request) -> bytes:
    """The body, of which never more than the limit is held.

    Raises:
        ApiError: `large`; `invalid` when the connection was lost in the middle, which nobody hears.
    """
    if (request.content_length or 0) > params.BODY_BYTES_MAX:
        raise too_large()
    body = bytearray()
    async for chunk in request.stream:
        body += chunk
        if len(body) > params.BODY_BYTES_MAX:
            raise too_large()
    return bytes(body)


def too_large() -> ApiError:
    """More than is read of a request."""
    return ApiError(Code.LARGE, f"The request is larger than {params.BODY_BYTES_MAX} bytes.")


def unknown_function() -> ApiError:
    """There is nothing at this path, or not by this method."""
    return ApiError(Code.FUNC, "There is no such function.")


def _write(response: falcon.asgi.Response, error: ApiError) -> None:
    status, response.data = encode_error(error)
    response.status = status
    response.content_type = falcon.MEDIA_JSON
    if error.code == Code.BUSY:
        response.set_header("Retry-After", "1")


class ErrorAnswers:
    """Every way a request can fail, each with its answer."""

    def add_to(self, app: falcon.asgi.App[Any, Any]) -> None:
        """Let the application answer with these."""
        app.add_error_handler(Exception, self.bug)
        for error in (*EXPECTED, sqlalchemy_errors.TimeoutError, sqlalchemy_errors.DBAPIError):
            app.add_error_handler(error, self.database)
        app.add_error_handler(falcon.HTTPError, self.malformed)
        app.add_error_handler(falcon.HTTPNotFound, self.unknown)
        app.add_error_handler(falcon.HTTPBadRequest, self.unknown)  # Falcon's word for a method it has never heard of
        app.add_error_handler(falcon.HTTPMethodNotAllowed, self.unknown)
        app.add_error_handler(ApiError, self.meant)

    async def meant(self, _request: Any, response: falcon.asgi.Response, error: ApiError, _params: Any) -> None:
        """An endpoint, or a check before it, said so."""
        _write(response, error)

    async def unknown(self, request: falcon.asgi.Request, response: falcon.asgi.Response, _error: Any, _params: Any) -> None:
        """There is no such path, or not by this method."""
        _write(response, unknown_function())
        if not request.path.startswith("/api/"):
            response.status = HTTPStatus.NOT_FOUND

    async def malformed(self, _request: Any, response: falcon.asgi.Response, error: falcon.HTTPError, _params: Any) -> None:
        """Falcon itself could not read the request, such as a Content-Length that is no number."""
        _write(response, ApiError(Code.INVALID, error.title or "The request is malformed.", field="body"))

    async def database(self, request: falcon.asgi.Request, response: falcon.asgi.Response, error: Exception, params: Any) -> None:
        """The database is away, or the statement was wrong."""
        if not is_away(error):
            return await self.bug(request, response, error, params)
        log.warning("database_away", path=request.path, error=type(error).__name__)
        return _write(response, ApiError(Code.DB, "The database is away. Try again."))

    async def bug(self, request: falcon.asgi.Request, response: falcon.asgi.Response, error: Exception, _params: Any) -> None:
        """Nobody expected this. It is logged without the query, which holds the key."""
        log.error("request_failed", method=request.method, path=request.path, exc_info=error)
        _write(response, ApiError(Code.DB, "Something went wrong here. Try again."))
        response.status = HTTPStatus.INTERNAL_SERVER_ERROR
