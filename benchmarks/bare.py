"""The ceiling for HTTP: a bare Falcon handler that runs the whole transfer itself, on the gateway's server with the gateway's threads.

It authenticates, inserts the command and decides it, in one process and with one commit. There is no wake-up to wait for, no other process,
and no parameter is checked.
"""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import falcon.asgi
import msgspec
import uuid_utils.compat as uuids
import uvicorn
from psycopg import Pipeline

from services.gateway import identity
from services.gateway.app import THREADS
from services.gateway.server import BACKLOG
from services.ledger import transfers
from shared.db import accounts, commands
from shared.db.commands import NewCommand
from shared.db.connect import BY_KEY, Raw, connect
from shared.domain.transfers import Kind, Request
from shared.local.ports import LOOPBACK

OK: Final = b'{"status":"ok"}'


class Transfer:
    """Moves a bot."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._executor = ThreadPoolExecutor(THREADS)
        self._thread = threading.local()

    async def on_post(self, request: falcon.asgi.Request, response: falcon.asgi.Response) -> None:
        """Called by Falcon."""
        body = await request.stream.read()
        authorization = request.get_header("Authorization")
        response.content_type = falcon.MEDIA_JSON
        response.data = await asyncio.get_running_loop().run_in_executor(self._executor, self._carry_out, authorization, body)

    async def on_get(self, _request: falcon.asgi.Request, _response: falcon.asgi.Response) -> None:
        """Says that it is ready."""

    def _carry_out(self, authorization: str | None, body: bytes) -> bytes:
        db = self._connection()
        text, _ = identity.split_query([], authorization)
        credential = identity.parse(text)
        caller = identity.verify(credential, accounts.get_callers(db, [credential.account]).get(credential.account), open_when_lapsed=False)
        wanted = msgspec.json.decode(body)
        command = NewCommand(
            id=uuids.uuid7(),
            kind=Kind.BOT,
            account=caller.id,
            object_id=wanted["bot"],
            token=wanted["token"],
            keep_leads=bool(wanted["leads"]),
            idempotency_key=None,
        )

        def claim(tx: Raw, pipeline: Pipeline) -> list[Request]:
            commands.add(tx, [command])
            return commands.claim_one(tx, pipeline, command.id)

        finished = transfers._decide(db, claim, wait_for_bots=True, worker="bare")  # noqa: SLF001  # the ledger's transaction, with another claim
        return OK if command.id in finished else b"{}"

    def _connection(self) -> Raw:
        if not hasattr(self._thread, "db"):
            self._thread.db = connect(self._url, name="bare", limits=BY_KEY)
        db: Raw = self._thread.db
        return db


def main(port: str, database_url: str) -> None:
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App()
    app.add_route("/api/transfer/bot.json", Transfer(database_url))
    uvicorn.run(app, host=LOOPBACK, port=int(port), loop="uvloop", http="httptools", ws="none", access_log=False, backlog=BACKLOG)


if __name__ == "__main__":
    main(*sys.argv[1:])
