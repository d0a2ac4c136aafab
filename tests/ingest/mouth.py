"""Leased bots with real clients, rows for them to send, and the sender that sends them."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from telethon import TelegramClient
from telethon.crypto import AuthKey
from telethon.sessions import MemorySession
from telethon.tl.functions.users import GetUsersRequest
from telethon.tl.types import InputUserSelf

from services.ingest import telegram
from services.ingest.sending import Sender
from shared.db.connect import Raw
from shared.db.telegram_schema import SERVICE_BOT
from tests.db.support import scalar
from tests.telegram.client import API_HASH, API_ID, trust
from tests.telegram.core import HOME_DC, HOST, Core
from tests.telegram.record import Sent
from tests.telegram.server import serve
from tests.world import Account, World

WAIT_S: Final = 20.0
POLL_S: Final = 0.01
SERVICE_BOT_TG: Final = 6_000_000_000


@dataclass(frozen=True, slots=True)
class Live:
    """What the leases keep of a bot."""

    bot: int
    client: Any
    epoch: int


@dataclass(slots=True)
class Mouth:
    """A listener's bots, by their ids in the database."""

    core: Core
    url: str
    db: Raw
    world: World
    media: Path
    ends: AsyncExitStack
    listener: UUID = field(default_factory=uuid4)
    live: dict[int, Live] = field(default_factory=dict)
    tg: dict[int, int] = field(default_factory=dict)
    """Bot -> its Telegram id."""

    async def bot(self, owner: Account, **settings: Any) -> tuple[int, int]:
        """A leased, connected bot with a campaign; both ids."""
        bot, (campaign,) = self.world.bot_with_campaigns(owner, 1, **settings)
        await self.lease(bot, scalar(self.db, "SELECT tg_id FROM bot WHERE id = %s", bot))
        return bot, campaign

    async def service_bot(self) -> None:
        await self.lease(SERVICE_BOT, SERVICE_BOT_TG)

    async def lease(self, bot: int, tg_id: int, epoch: int = 1) -> None:
        self.tg[bot] = tg_id
        self.core.add_bot(f"{tg_id}:secret")
        self.db.execute(
            "INSERT INTO bot_session (bot_id, token, listener_id, epoch) VALUES (%s, '', %s, %s)"
            " ON CONFLICT (bot_id) DO UPDATE SET listener_id = excluded.listener_id, epoch = excluded.epoch",
            [bot, self.listener, epoch],
        )
        self.live[bot] = Live(bot, await self.client(tg_id), epoch)

    async def client(self, tg_id: int) -> Any:
        """A client of the bot's, logged in."""
        key = os.urandom(256)
        self.core.log_in(tg_id, key)
        session = MemorySession()
        session.set_dc(HOME_DC, HOST, self.core.ports[HOME_DC])
        session.auth_key = AuthKey(key)
        client = telegram.Telegram(API_ID, API_HASH).new_client(session)
        await client.connect()
        self.ends.push_async_callback(client.disconnect)
        await client(GetUsersRequest([InputUserSelf()]))
        return client

    def send(self, bot: int, person: int, campaign: int | None, *, kind: str = "welcome", click: str = "", **columns: Any) -> int:
        """A row, of somebody who has started the bot; its id."""
        self.core.world.person(person)
        self.core.world.bots[self.tg[bot]].met.add(person)
        values = {
            "bot_id": bot,
            "subscriber": person,
            "kind": kind,
            "campaign_id": campaign,
            "click": click,
            "random_id": secrets.randbits(63),
            "lead_id": 77,
            **columns,
        }
        names = ", ".join(values)
        marks = ", ".join(f"%({name})s" for name in values)
        at = "" if "at" in values else ", now()"
        return int(scalar_named(self.db, f"INSERT INTO send ({names}{', at' if at else ''}) VALUES ({marks}{at}) RETURNING id", values))

    def messages(self, person: int) -> list[Sent]:
        """What this person was sent."""
        return [sent for sent in self.core.record.sent if sent.peer_id == person]

    def waiting(self) -> int:
        return int(scalar(self.db, "SELECT count(*) FROM send"))

    @asynccontextmanager
    async def sending(self, listener: UUID | None = None) -> AsyncIterator[tuple[Sender, "asyncio.Task[None]"]]:
        """A sender at work."""
        sender = Sender(self.url, self.live, listener or self.listener, self.media)
        task = asyncio.create_task(sender.run())
        try:
            yield sender, task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def emptied(self) -> None:
        """Send until nothing waits."""
        async with self.sending():
            await until(lambda: self.waiting() == 0, "nothing waits any more")


def scalar_named(db: Raw, sql: str, params: dict[str, Any]) -> Any:
    row = db.execute(sql, params).fetchone()
    assert row is not None
    return row[0]


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for it, with the loop going on."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  # of a database or another process, which sets no event
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise AssertionError(f"it did not come to hold within {WAIT_S} s: {what}") from error


@asynccontextmanager
async def mouth(url: str, db: Raw, world: World, media: Path) -> AsyncIterator[Mouth]:
    """A server, and a listener without bots yet, whose lease is good."""
    trust()
    TelegramClient._config = None
    async with serve(Core()) as core, AsyncExitStack() as ends:
        made = Mouth(core, url, db, world, media, ends)
        db.execute(
            "INSERT INTO listener (id, name, capacity, expires_at) VALUES (%s, 'test', 100, now() + interval '1 hour')", [made.listener]
        )
        yield made
