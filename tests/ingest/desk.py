"""Words for tests of connecting bots: a Telegram, listeners' connectors on it, and requests as the gateway leaves them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import uuid_utils.compat as uuids
from telethon import TelegramClient

from services.ingest.connecting import Connector
from services.ingest.telegram import Telegram
from shared.db import bot_requests
from shared.db.connect import Raw
from shared.sealing import Sealer
from tests.stack import POLL_S, SECRET_KEY, WAIT_S
from tests.telegram.client import address_of, trust
from tests.telegram.core import Core
from tests.telegram.server import serve
from tests.world import Account

SEALER: Final = Sealer.read(SECRET_KEY)
TG: Final = 700
TOKEN: Final = f"{TG}:secret"

Answer = tuple[str, str, str]
DONE: Final[Answer] = ("done", "", "")
BAD_TOKEN: Final[Answer] = ("refused", "token", "token")
EXISTS: Final[Answer] = ("refused", "exists", "token")
WEBHOOK: Final[Answer] = ("refused", "webhook", "token")


@dataclass(slots=True)
class Desk:
    """Where bots are connected."""

    core: Core
    db: Raw
    url: str
    telegram: Telegram
    connectors: list[Connector] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, **options: float) -> Connector:
        """A listener's connector."""
        connector = Connector(self.url, self.telegram, SEALER, **options)
        self.connectors.append(connector)
        self.tasks.append(asyncio.create_task(connector.run()))
        return connector

    def ask(self, account: Account, token: str = TOKEN) -> UUID:
        """Leave a request."""
        request = uuids.uuid7()
        assert bot_requests.add(self.db, request, account.id, SEALER.seal(token.encode(), bot_requests.token_place(request)))
        for connector in self.connectors:
            connector.poke([])
        return request

    async def connect(self, account: Account, token: str = TOKEN) -> Answer:
        """Leave a request and wait for its answer."""
        return await self.answer(self.ask(account, token))

    async def answer(self, request: UUID) -> Answer:
        """State, reason and field, once there is an answer."""
        await until(lambda: self.row("SELECT state FROM bot_request WHERE id = %s", request) != ("pending",), "the request is answered")
        state, reason, blamed, token = self.row("SELECT state, reason, field, token FROM bot_request WHERE id = %s", request)
        assert token is None, "the token goes with the answer"
        return state, reason, blamed

    def row(self, sql: str, *values: object) -> Any:
        return self.db.execute(sql, values).fetchone()

    def one(self, sql: str, *values: object) -> Any:
        (value,) = self.row(sql, *values)
        return value

    def bot_of(self, account: Account) -> int:
        """The account's one bot."""
        return int(self.one("SELECT id FROM bot WHERE account_id = %s", account.id))

    def session(self, bot: int) -> dict[str, Any]:
        """The bot's session, its secrets opened."""
        columns = ("token", "auth_key", "dc", "port", "username", "pts", "qts", "listener_id", "epoch", "trouble")
        row = self.row(f"SELECT {', '.join(columns)} FROM bot_session WHERE bot_id = %s", bot)
        read = dict(zip(columns, row, strict=True))
        read["token"] = SEALER.open(bytes(read["token"]), f"bot_session.token:{bot}").decode()
        read["auth_key"] = SEALER.open(bytes(read["auth_key"]), f"bot_session.auth_key:{bot}")
        return read

    def keys(self, tg_id: int = TG) -> list[bytes]:
        """The keys with which this bot is logged in at Telegram."""
        return [agreed.key.key for agreed in self.core.secrets.ring.of(tg_id)]

    async def only_key(self, key: bytes, tg_id: int = TG) -> None:
        """Wait until no other login of the bot is left, and nobody is online."""
        await until(lambda: self.keys(tg_id) == [key], "no second session remains")
        await self.offline()

    async def offline(self) -> None:
        await until(lambda: all(line.closed_at is not None for line in self.core.record.connections), "nobody is online")


async def until(condition: Callable[[], object], what: str) -> None:
    """`eventually` in an event loop."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is a row of another's
            await asyncio.sleep(POLL_S)
    assert condition(), what


async def beside(call: Callable[..., Any], *args: Any) -> Any:
    """Run what blocks in a thread."""
    return await asyncio.to_thread(call, *args)


@asynccontextmanager
async def desk(
    database_url: str, db: Raw, *, tokens: Sequence[str] = (TOKEN,), connectors: int = 1, **options: float
) -> AsyncIterator[Desk]:
    """A Telegram that knows these tokens, and so many connectors."""
    async with serve() as core:
        for token in tokens:
            core.add_bot(token)
        trust()
        TelegramClient._config = None
        address = address_of(core)
        opened = Desk(core, db, database_url, Telegram(1, "0" * 32, (address.dc, address.host, address.port)))
        for _ in range(connectors):
            opened.start(**options)
        try:
            yield opened
        finally:
            for task in opened.tasks:
                task.cancel()
            await asyncio.gather(*opened.tasks, return_exceptions=True)
