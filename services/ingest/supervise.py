"""The life of one bot at a listener: connected, and connected again, whatever goes wrong; until the session goes elsewhere.

There is one way back from everything: drop the connection, read the session from the database, begin anew from what is committed there.
What differs is what has to be written first, which `_answer` says.
"""

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from telethon import errors, functions

from services.ingest.client import BotClient
from services.ingest.committer import Committer, Fenced
from services.ingest.database import Database
from services.ingest.lease import Lease, LeaseOver
from services.ingest.session import StoredSession, key_place, token_place
from services.ingest.telegram import Telegram
from shared.db import sessions
from shared.db.connect import EXPECTED
from shared.db.sessions import Owner, Session
from shared.sealing import NotOpened, Sealer

#: Seconds from the first byte to the first difference; a login with its handshakes fits in.
BEGIN_S: Final = 30.0

#: Seconds for saying good-bye at Telegram.
LOG_OUT_S: Final = 10.0

#: Seconds before another try, doubled each time up to the second; a connection that lasted longer than that starts from the first.
AGAIN_S: Final = (0.25, 60.0)

#: Logins of one process a second, each a handshake of public keys; and connections with a key, which cost a millisecond.
LOGINS_PER_S: Final = 20.0
CONNECTIONS_PER_S: Final = 400.0

#: Seconds added to Telegram's flood wait, so that its clock surely agrees.
FLOOD_MARGIN_S: Final = 2

#: Seconds before a session is tried again that cannot be opened with our keys.
NOT_OPENED_S: Final = 60.0

_RANDOM: Final = random.SystemRandom()

log = structlog.get_logger("listener")

#: Telegram refuses the token: revoked, wrong, or the bot is deleted.
REVOKED: Final = (
    errors.AccessTokenInvalidError,
    errors.AccessTokenExpiredError,
    errors.UserDeactivatedError,
    errors.UserDeactivatedBanError,
)

#: Telegram does not take the auth key for the bot's: logged out, unknown, used from two places.
DEAD_KEY: Final = (errors.UnauthorizedError, errors.AuthKeyError, errors.AuthKeyNotFound)

#: The network, Telegram, or the way it talks: nothing but time helps.
AWAY: Final = (OSError, EOFError, BufferError, errors.ServerError, errors.TimedOutError)


@dataclass(frozen=True, slots=True)
class Live:
    """A bot that is connected and ready to be asked for something. `epoch` fences what is written for it."""

    bot: int
    client: Any
    epoch: int


class Pace:
    """Gives turns, so many a second."""

    def __init__(self, per_s: float) -> None:
        self._gap_s = 1 / per_s
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next free one."""
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next + self._gap_s)
        await asyncio.sleep(self._next - now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all bots of a listener share."""

    telegram: Telegram
    sealer: Sealer
    lease: Lease
    lease_s: float
    connection: type[Any]
    committer: Committer
    db: Database
    live: dict[int, Live]
    catch_up_s: float
    logins: Pace
    connections: Pace

    def owner(self, row: Session) -> Owner:
        """Who writes to this session."""
        return Owner(self.lease.listener, row.bot, row.epoch)


async def tend(means: Means, leased: Session) -> None:
    """Keep a bot connected until cancelled, or until there is nothing more to do for it here.

    1. Connect when it is its turn; then it is live.
    2. Wait until the connection is lost, and write what the reason asks for.
    3. Wait longer each time, and read the session anew.
    """
    row: Session | None = leased
    again_s = AGAIN_S[0]
    while row is not None:
        await (means.connections if row.auth_key else means.logins).turn()
        began = asyncio.get_running_loop().time()
        reason = await _serve(means, row)
        log.warning("bot_lost", bot=row.bot, reason=type(reason).__name__)
        again_s = AGAIN_S[0] if asyncio.get_running_loop().time() - began > AGAIN_S[1] else min(again_s * 2, AGAIN_S[1])
        if not await _answer(means, row, reason):
            return
        await asyncio.sleep(again_s * _RANDOM.uniform(0.5, 1))
        row = await persist(means, sessions.get, means.owner(row))


async def retire(means: Means, leased: Session) -> None:
    """Log a disconnected bot out at Telegram, and forget its session. Telegram is tried as long as it does not answer at all."""
    row: Session | None = leased
    again_s = AGAIN_S[0]
    while row is not None and not await _log_out(means, row):
        again_s = min(again_s * 2, AGAIN_S[1])
        await asyncio.sleep(again_s)
        row = await persist(means, sessions.get, means.owner(row))
    if row is not None and await persist(means, sessions.forget, means.owner(row)):
        log.info("bot_logged_out", bot=row.bot)


async def _serve(means: Means, row: Session) -> Exception:
    """Connect, be live, and return why that ended."""
    try:
        client = _new_client(means, row)
    except NotOpened as error:
        return error
    try:
        async with asyncio.timeout(BEGIN_S):
            await client.begin()
        means.live[row.bot] = Live(row.bot, client, row.epoch)
        log.info("bot_connected", bot=row.bot)
        if row.troubled:
            await persist(means, sessions.well, means.owner(row))
        reason: Exception = await client.until_lost()
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        return client.reason or ConnectionError("Telethon gave up")  # it cancels what waits for answers
    except Exception as error:  # noqa: BLE001 - `_answer` tells them apart
        return error
    else:
        return reason
    finally:
        means.live.pop(row.bot, None)
        await undisturbed(client.end())


def _new_client(means: Means, row: Session) -> BotClient:
    token = means.sealer.open(row.token, token_place(row.bot)).decode()

    async def keep_key(session: StoredSession) -> None:
        sealed = means.sealer.seal(session.auth_key.key, key_place(row.bot))
        where = {"dc": session.dc_id, "address": session.server_address, "port": session.port}
        if not await persist(means, sessions.keep_key, means.owner(row), sealed, **where):
            raise Fenced

    client: BotClient = means.telegram.new_client(
        StoredSession(row, means.sealer),
        BotClient,
        connection=means.connection,
        row=row,
        token=token,
        committer=means.committer,
        keep_key=keep_key,
        catch_up_s=means.catch_up_s,
        lease_s=means.lease_s,
    )
    return client


async def _answer(means: Means, row: Session, reason: Exception) -> bool:
    """Write what the reason for a loss asks for. Whether to try again here."""
    owner, trouble = means.owner(row), type(reason).__name__
    again = False
    match reason:
        case Fenced() | LeaseOver():
            pass
        case NotOpened():
            log.error("session_not_opened", bot=row.bot)
            await persist(means, sessions.put_off, owner, NOT_OPENED_S, "sealed with a key that is not among ours")
        case _ if isinstance(reason, REVOKED):
            marked = await persist(means, sessions.revoke, owner, row.token, trouble)
            log.warning("token_revoked", bot=row.bot, marked=marked)
        case errors.FloodWaitError():
            log.warning("login_put_off", bot=row.bot, seconds=reason.seconds)
            await persist(means, sessions.put_off, owner, reason.seconds + FLOOD_MARGIN_S, f"flood wait of {reason.seconds} s")
        case _ if isinstance(reason, DEAD_KEY):
            again = await persist(means, sessions.drop_key, owner, trouble)
        case _ if isinstance(reason, AWAY):
            again = True
        case _:
            log.error("bot_lost_for_no_known_reason", bot=row.bot, exc_info=reason)
            again = True
    return again


async def _log_out(means: Means, row: Session) -> bool:
    """Whether Telegram has nothing of the bot's login any more, as far as can be known."""
    if row.auth_key is None:
        return True
    try:
        session = StoredSession(row, means.sealer)
    except NotOpened:
        return True
    client = means.telegram.new_client(session, connection=means.connection, receive_updates=False, auto_reconnect=False)
    try:
        async with asyncio.timeout(LOG_OUT_S):
            await client.connect()
            await client(functions.auth.LogOutRequest())
    except (errors.RPCError, errors.AuthKeyNotFound):
        return True
    except AWAY as error:
        log.warning("bot_not_logged_out", bot=row.bot, reason=type(error).__name__)
        return False
    else:
        return True
    finally:
        await undisturbed(client.disconnect())


async def undisturbed(ending: Awaitable[None]) -> None:
    """Do this to its end, however often it is cancelled meanwhile; the cancellation comes after it.

    A session may go elsewhere once its task is over. Whoever is cancelled for a second time must not leave a connection or a commit behind.
    """
    task = asyncio.ensure_future(ending)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    task.result()


async def persist(means: Means, call: Any, *arguments: Any, **named: Any) -> Any:
    """Run a write or a read until the database takes it, as long as the lease lasts.

    Raises:
        LeaseOver
    """
    wait_s = AGAIN_S[0]
    while not means.lease.over:
        try:
            return await means.db.run(call, *arguments, **named)
        except EXPECTED as error:
            log.warning("session_waits", error=type(error).__name__)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 2.0)
    raise LeaseOver("while the database was away")
