"""The listener process: bots connected to Telegram, what they see taken in, what they have to say sent."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
import uuid_utils.compat as uuids

from services.ingest.client import check_telethon
from services.ingest.committer import Committer
from services.ingest.connecting import Connector
from services.ingest.database import Database
from services.ingest.lease import Lease, guarded_by
from services.ingest.leases import Leases, Terms
from services.ingest.sending import Sender
from services.ingest.session import token_place
from services.ingest.supervise import CONNECTIONS_PER_S, LOGINS_PER_S, Live, Means, Pace
from services.ingest.telegram import Telegram
from shared.db import sessions
from shared.db.connect import BY_KEY, EXPECTED, Raw, connect_async
from shared.db.telegram_schema import SERVICE_BOT
from shared.messages import LISTENER_CHANNEL
from shared.sealing import NotOpened, Sealer

#: Seconds between two tries to reach the database.
AWAY_S: Final = 0.5

#: Objects after which Python looks for circles among them. An update makes a hundred, of which few outlive it.
OBJECTS_BETWEEN_LOOKS: Final = 10_000

log = structlog.get_logger("listener")


class Component(Protocol):
    """A part of the process: works until cancelled, and looks sooner when poked about bots, or about everything."""

    def poke(self, bots: Sequence[int]) -> None:
        """There may be work for these bots; for nobody in particular if there are none."""

    async def run(self) -> None:
        """Work until cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What a listener is told. Durations are in seconds. No repr, for the secrets' sake."""

    database_url: str
    telegram: Telegram
    sealer: Sealer
    service_bot_token: str | None = None
    media: Path | None = None
    catch_up_s: float = 300.0
    terms: Terms = field(default_factory=Terms)


def run(settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT."""
    check_telethon()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)
    logging.getLogger("telethon").setLevel(logging.CRITICAL)  # what it knows and concerns anybody is logged by us, without contents
    _allow_connections(settings.terms.capacity)
    asyncio.run(_run_until_signal(settings))
    log.info("listener_stopped")


def _allow_connections(bots: int) -> None:
    """A connection is a file, and systems allow a process few of those unless it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bots * 2 + 200
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


async def _run_until_signal(settings: Settings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    listening = asyncio.create_task(listen(settings))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([listening, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening


async def listen(settings: Settings, *, live: dict[int, Live] | None = None) -> None:
    """Listen until cancelled; then end in order.

    1. Make sure that the service bot has its session.
    2. Start what commits; then what leases, connects and sends, poked by notifications.
    3. At the end nothing more is sent or connected, then sessions are disconnected and given back, then the last commit is over.
    """
    lease = Lease(uuids.uuid7())
    async with AsyncExitStack() as stack:
        checkpoints = await stack.enter_async_context(Database(settings.database_url, name="listener inbox", limits=BY_KEY))
        rows = await stack.enter_async_context(Database(settings.database_url, name="listener sessions"))
        renewals = await stack.enter_async_context(Database(settings.database_url, name="listener lease"))
        await _keep_service_bot(rows, settings)
        committer = Committer(checkpoints, lease)
        means = Means(
            telegram=settings.telegram,
            sealer=settings.sealer,
            lease=lease,
            lease_s=settings.terms.lease_s,
            connection=guarded_by(lease),
            committer=committer,
            db=rows,
            live={} if live is None else live,
            catch_up_s=settings.catch_up_s,
            logins=Pace(LOGINS_PER_S),
            connections=Pace(CONNECTIONS_PER_S),
        )
        leases = Leases(means, renewals, settings.terms, name=f"{socket.gethostname()}:{os.getpid()}")
        connector = Connector(settings.database_url, settings.telegram, settings.sealer)
        sender = Sender(settings.database_url, means.live, lease.listener, settings.media)
        log.info("listener_started", listener=str(lease.listener), capacity=settings.terms.capacity)
        await _in_order(
            committer.run(), leases.run(), sender.run(), connector.run(), _pass_on(settings.database_url, [leases, connector, sender])
        )


async def _in_order(*works: Coroutine[Any, Any, None]) -> None:
    """Work at all of these until cancelled, or until one fails; then end them one after another, the last one first.

    Raises:
        the failure of the one that failed.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.wait([task])


async def _pass_on(database_url: str, components: Sequence[Component]) -> None:
    """Poke the components as notifications say; and about everything after each time that some may have been lost."""
    while True:
        try:
            async with await connect_async(database_url, name="listener") as db:
                await db.execute(f"LISTEN {LISTENER_CHANNEL}")
                _poke(components, ())
                async for notification in db.notifies():
                    _poke(components, [int(bot) for bot in notification.payload.split(",") if bot.isdecimal()])
        except EXPECTED as error:
            log.warning("notifications_lost", error=type(error).__name__)
            await asyncio.sleep(AWAY_S)


def _poke(components: Sequence[Component], bots: Sequence[int]) -> None:
    for component in components:
        component.poke(bots)


async def _keep_service_bot(rows: Database, settings: Settings) -> None:
    """Give the service bot's session the token of the settings, if they have one and it is another."""
    if settings.service_bot_token is None:
        return
    while True:
        try:
            replaced = await rows.run(put_service_token, settings.sealer, settings.service_bot_token)
        except EXPECTED as error:
            log.warning("database_away", error=type(error).__name__)
            await asyncio.sleep(AWAY_S)
        else:
            if replaced:
                log.info("service_bot_set")
            return


def put_service_token(db: Raw, sealer: Sealer, token: str) -> bool:
    """Give the service bot this token. False if it has it already, or somebody else is just giving it one."""
    sealed = sessions.get_service_token(db)
    place = token_place(SERVICE_BOT)
    with suppress(NotOpened):
        if sealed is not None and sealer.open(sealed, place) == token.encode():
            return False
    return sessions.put_service_token(db, sealer.seal(token.encode(), place), sealed)
