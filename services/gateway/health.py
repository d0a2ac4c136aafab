"""Health, for load balancers and people: /healthz is 200 only when database and broker are reachable, /readyz says what is missing."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from http import HTTPStatus

import falcon
import falcon.asgi
import psycopg
from sqlalchemy import exc as sqlalchemy_errors

from services.gateway.outcomes import Listener
from shared.broker.rabbitmq import BROKER_AWAY, count_messages
from shared.db.connect import EXPECTED, connect
from shared.db.migrate import is_current

#: A probe that takes longer has failed.
PROBE_S = 4.0


class Health:
    """Probes the two services anew for each request; no pool is used, so that a busy one cannot look like a dead one."""

    def __init__(self, database_url: str, amqp_url: str, listener: Listener, executor: Executor) -> None:
        self._database_url = database_url
        self._amqp_url = amqp_url
        self._listener = listener
        self._executor = executor

    async def on_get_alive(self, _request: falcon.asgi.Request, response: falcon.asgi.Response) -> None:
        """GET /healthz."""
        missing = await self._probe(self._missing_services)
        self._answer(response, missing)

    async def on_get_ready(self, _request: falcon.asgi.Request, response: falcon.asgi.Response) -> None:
        """GET /readyz."""
        missing = await self._probe(self._missing_services)
        if not missing:
            missing += await self._probe(self._missing_schema)
        if not self._listener.connected.is_set():
            missing.append("outcomes: the gateway does not hear the ledger yet")
        self._answer(response, missing)

    async def _probe(self, probe: Callable[[], list[str]]) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._executor, probe), PROBE_S)
        except TimeoutError:
            return ["probe: it took too long"]
        except (*EXPECTED, sqlalchemy_errors.DBAPIError):
            return ["database: not reachable"]

    def _missing_services(self) -> list[str]:
        missing = []
        try:
            connect(self._database_url, name="health").close()
        except psycopg.OperationalError:
            missing.append("database: not reachable")
        try:
            count_messages(self._amqp_url)
        except BROKER_AWAY:
            missing.append("broker: not reachable")
        return missing

    def _missing_schema(self) -> list[str]:
        return [] if is_current(self._database_url) else ["schema: run the migrations"]

    @staticmethod
    def _answer(response: falcon.asgi.Response, missing: list[str]) -> None:
        response.status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
        response.media = {"status": "error", "missing": missing} if missing else {"status": "ok"}
