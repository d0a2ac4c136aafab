"""Listeners in the test's own loop, on a test Telegram, with bots that have sessions; and what came into the inbox."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from telethon import TelegramClient

from services.ingest.leases import Terms
from services.ingest.listener import Settings, listen
from services.ingest.session import key_place, token_place
from services.ingest.supervise import Live
from services.ingest.telegram import Telegram
from shared.db.connect import Raw
from shared.sealing import Sealer
from tests.stack import SECRET_KEY
from tests.telegram.client import trust
from tests.telegram.core import HOME_DC, HOST, Core
from tests.telegram.server import serve
from tests.world import Account, World

SEALER: Final = Sealer.read(SECRET_KEY)
WAIT_S: Final = 20.0
POLL_S: Final = 0.01

#: A lease as short as it can be without a busy machine ending it.
TERMS: Final = Terms(lease_s=3, renew_s=0.3, take_over_s=0.5)

OWNER, CHAT, ANN, BOB = 1, 5_000, 7, 8


@dataclass(slots=True)
class Desk:
    """One listener at work."""

    live: dict[int, Live] = field(default_factory=dict)
    task: "asyncio.Task[None] | None" = None

    async def stop(self) -> None:
        """As on SIGTERM."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])


@dataclass(slots=True)
class Office:
    """A test Telegram, a database, and any number of listeners between them."""

    core: Core
    database_url: str
    db: Raw
    world: World
    desks: list[Desk] = field(default_factory=list)
    _owner: Account | None = None

    @property
    def owner(self) -> Account:
        self._owner = self._owner or self.world.account()
        return self._owner

    def bot(self, *, key: bool = False) -> int:
        """A connected bot with a session, without a login unless it has a key; its Telegram number is `tg`."""
        bot = self.world.bot(self.owner)
        tg = self.tg(bot)
        token = f"{tg}:secret-{bot}"
        self.core.add_bot(token)
        self.db.execute("INSERT INTO bot_session (bot_id, token) VALUES (%s, %s)", [bot, SEALER.seal(token.encode(), token_place(bot))])
        if key:
            secret = os.urandom(256)
            self.core.log_in(tg, secret)
            self.db.execute(
                """UPDATE bot_session SET auth_key = %s, dc = %s, address = %s, port = %s, pts = 1, qts = 1, seq = 0, date = now()
                   WHERE bot_id = %s""",
                [SEALER.seal(secret, key_place(bot)), HOME_DC, HOST, self.core.ports[HOME_DC], bot],
            )
        return bot

    def tg(self, bot: int) -> int:
        row = self.db.execute("SELECT tg_id FROM bot WHERE id = %s", [bot]).fetchone()
        assert row is not None
        return int(row[0])

    def settings(self, **changes: Any) -> Settings:
        telegram = Telegram(1, "0" * 32, (HOME_DC, HOST, self.core.ports[HOME_DC]))
        return Settings(**{"database_url": self.database_url, "telegram": telegram, "sealer": SEALER, "terms": TERMS, **changes})

    def open_desk(self, **changes: Any) -> Desk:
        """A listener that begins to work."""
        desk = Desk()
        desk.task = asyncio.create_task(listen(self.settings(**changes), live=desk.live))
        self.desks.append(desk)
        return desk

    async def listening(self, *bots: int, **changes: Any) -> Desk:
        """A listener that has these bots connected."""
        desk = self.open_desk(**changes)
        await eventually(lambda: set(bots) <= desk.live.keys(), f"{bots} are live")
        return desk

    def inbox(self, bot: int) -> list[tuple[Any, ...]]:
        """The bot's events: kind, chat, subscriber, before, after, payload."""
        rows = self.db.execute(
            "SELECT kind, chat, subscriber, before, after, payload FROM inbox_event WHERE bot_id = %s ORDER BY id", [bot]
        )
        return rows.fetchall()

    def starts(self, bot: int) -> list[str]:
        """Payloads of the starts that came in."""
        return [row[5] for row in self.inbox(bot) if row[0] == "start"]

    async def told(self, bot: int, *payloads: str) -> None:
        """Wait until exactly these starts came in."""
        await eventually(lambda: sorted(self.starts(bot)) == sorted(payloads), f"starts {payloads}, there are {self.starts(bot)}")

    def session(self, bot: int) -> dict[str, Any]:
        row = self.db.execute(
            """SELECT auth_key IS NOT NULL AS has_key, listener_id, epoch, pts, qts, dc, trouble, retry_at > now() AS put_off, checked
               FROM bot_session WHERE bot_id = %s""",
            [bot],
        )
        names = [column.name for column in row.description or ()]
        found = row.fetchone()
        return dict(zip(names, found, strict=True)) if found else {}


async def eventually(condition: Callable[[], object], what: str, *, wait_s: float = WAIT_S) -> None:
    """Wait until the condition holds; fail with `what` if it does not come to hold."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"it did not come to hold within {wait_s} s: {what}")
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def office(database_url: str, db: Raw, world: World, **nasty: Any) -> AsyncIterator[Office]:
    """Everything but a listener; those that were started end with the block."""
    trust()
    TelegramClient._config = None  # Telethon keeps the list of data centres on the class, where it outlives a server
    async with serve() as core:
        core.nasty.set(**nasty)
        running = Office(core, database_url, db, world)
        try:
            yield running
        finally:
            for desk in running.desks:
                await desk.stop()
