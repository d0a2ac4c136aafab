"""Connecting bots: from a request with a token to a bot with a session, or to the reason why not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
import structlog
from telethon import errors, functions
from telethon.sessions import MemorySession

from services.ingest.database import Database
from services.ingest.session import key_place, token_place
from services.ingest.telegram import Telegram
from shared.db import bot_requests
from shared.db.bot_requests import Identity, NewSession, Record, Taken
from shared.db.connect import EXPECTED, Raw
from shared.domain import bots
from shared.domain.bots import Action, Known, Refusal
from shared.failpoints import failpoint
from shared.sealing import NotOpened, Sealer

#: Bots that one process logs in at the same time, and those of one account in all processes.
LOGINS_MAX: Final = 8
LOGINS_PER_ACCOUNT_MAX: Final = 4

#: Seconds for a login from the first byte to the last, and for the end of one that was for nothing.
LOGIN_S: Final = 20.0
LOG_OUT_S: Final = 5.0

#: How long a request belongs to the listener that took it: longer than a login and the transaction after it together.
LEASE_S: Final = 35.0

#: Tries, each ended by a death or a bug, before a request is refused.
ATTEMPTS_MAX: Final = 3

#: Times the transaction is made again at once, after another account was quicker or a lock could not be had.
TRIES_MAX: Final = 3

#: Seconds between two looks for requests that nobody announced, and the age at which nobody waits for one any more.
POLL_S: Final = 1.0
ABANDONED_S: Final = 600.0

#: Characters kept of a bot's name; Telegram has 64.
NAME_LENGTH_MAX: Final = 128

#: How Telethon says that Telegram does not answer, or not as Telegram should.
UNREACHABLE: Final = (OSError, EOFError, TimeoutError, BufferError)

#: What a transaction may meet that another try settles.
_AGAIN: Final = (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

log = structlog.get_logger("listener")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Login:
    """A bot that has logged in and gone offline again: who, its key, where its updates stand. No repr, for the secrets' sake."""

    who: Identity
    token: str
    session: MemorySession
    pts: int
    qts: int
    seq: int
    date: datetime


class Connector:
    """Takes requests to connect bots, for one listener process."""

    def __init__(
        self, database_url: str, telegram: Telegram, sealer: Sealer, *, lease_s: float = LEASE_S, login_s: float = LOGIN_S
    ) -> None:
        self._database_url = database_url
        self._telegram = telegram
        self._sealer = sealer
        self._lease_s = lease_s
        self._login_s = login_s
        self._poked = asyncio.Event()
        self._running = 0

    def poke(self, bots: Sequence[int]) -> None:
        """Look for requests soon. Where bots are named, it is about them: a request has none yet."""
        if not bots:
            self._poked.set()

    async def run(self) -> None:
        """Connect bots until cancelled."""
        async with Database(self._database_url, name="listener connecting") as db, asyncio.TaskGroup() as logins:
            while True:
                self._poked.clear()
                for taken in await self._take(db):
                    self._running += 1
                    logins.create_task(self._serve(db, taken))
                await self._wait()

    async def _take(self, db: Database) -> list[Taken]:
        try:
            await db.run(bot_requests.withdraw_abandoned, older_than_s=ABANDONED_S)
            return await db.run(
                bot_requests.take, limit=LOGINS_MAX - self._running, per_account=LOGINS_PER_ACCOUNT_MAX, lease_s=self._lease_s
            )
        except EXPECTED as error:
            log.warning("requests_not_taken", error=type(error).__name__)
            return []

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._poked.wait()
        except TimeoutError:
            return

    async def _serve(self, db: Database, taken: Taken) -> None:
        """Answer one request. What goes wrong here and is nobody's fault leaves it to whoever takes it after the lease."""
        try:
            refusal = await self._connect(db, taken)
            log.info("bot_request", request=str(taken.id), account=taken.account, refused=refusal.reason.value if refusal else "")
        except EXPECTED as error:
            log.warning("bot_request_put_off", request=str(taken.id), error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the traceback of a login could show the token
            log.error("bot_request_failed", request=str(taken.id), error=type(error).__name__)
        finally:
            self._running -= 1
            self._poked.set()

    async def _connect(self, db: Database, taken: Taken) -> Refusal | None:
        """From the request to its answer; None when the bot is connected, or the answer is no longer ours to give.

        1. Log in with a fresh key, and go offline: from the commit on the key is the session's next owner's, and one's only.
        2. Decide and write in one transaction.
        3. A login that came to nothing is ended at Telegram, so that no second session remains. So is one whose commit is in doubt: a
           session whose key is dead logs in again and goes on from where it stood.
        """
        login = await self._log_in(taken)
        if isinstance(login, Refusal):
            await db.run(bot_requests.refuse, taken, login)
            return login
        try:
            ending = await db.run(connect, self._sealer, taken, login)
        except Exception:
            await self._log_out(login)
            raise
        if not ending.used:
            await self._log_out(login)
        return ending.refusal

    async def _log_in(self, taken: Taken) -> Login | Refusal:
        if taken.attempt > ATTEMPTS_MAX:
            return bots.GIVEN_UP
        try:
            token = self._sealer.open(taken.token, bot_requests.token_place(taken.id)).decode()
            async with asyncio.timeout(self._login_s):
                return await log_in(self._telegram, token)
        except NotOpened:
            return bots.GIVEN_UP
        except (*UNREACHABLE, errors.RPCError) as error:
            return refusal_of(error)

    async def _log_out(self, login: Login) -> None:
        """End a login at Telegram; if it can't be reached just now, the key rests unused."""
        try:
            async with asyncio.timeout(LOG_OUT_S), online(self._telegram, login.session) as client:
                await client(functions.auth.LogOutRequest())
        except (*UNREACHABLE, errors.RPCError) as error:
            log.warning("login_not_ended", bot=login.who.tg_id, error=type(error).__name__)


@asynccontextmanager
async def online(telegram: Telegram, session: MemorySession) -> AsyncIterator[Any]:
    """A client that is told of no updates, connected for the length of the block."""
    client = telegram.new_client(session, receive_updates=False)
    try:
        await client.connect()
        yield client
    finally:
        await client.disconnect()


async def log_in(telegram: Telegram, token: str) -> Login:
    """Log a bot in with a fresh key, learn who it is and where its updates stand, and go offline.

    Raises:
        telethon.errors.RPCError: Telegram refuses; one of UNREACHABLE: it does not answer.
    """
    session = MemorySession()
    async with online(telegram, session) as client:
        request = functions.auth.ImportBotAuthorizationRequest(
            flags=0, api_id=telegram.api_id, api_hash=telegram.api_hash, bot_auth_token=token
        )
        me = (await client(request)).user
        state = await client(functions.updates.GetStateRequest())
    return Login(
        who=Identity(tg_id=me.id, username=_username(me), name=_name(me)),
        token=token,
        session=session,
        pts=state.pts,
        qts=state.qts,
        seq=state.seq,
        date=state.date,
    )


def refusal_of(error: Exception) -> Refusal:
    """What the owner is told when a login has failed so."""
    match error:
        case errors.AccessTokenInvalidError() | errors.AccessTokenExpiredError():
            return bots.BAD_TOKEN
        case errors.FloodWaitError():
            return bots.flooded(error.seconds)
        case errors.RPCError():
            return bots.turned_away(type(error).__name__)
        case _:
            return bots.UNREACHABLE


def _username(me: Any) -> str:
    """Its user name; one that was bought stands in a list of its own."""
    others = [name.username for name in me.usernames or () if name.active]
    return str(me.username or next(iter(others), ""))


def _name(me: Any) -> str:
    return " ".join(filter(None, (me.first_name, me.last_name))).replace("\0", "")[:NAME_LENGTH_MAX]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended; whether the login's key is now the session's."""

    refusal: Refusal | None
    used: bool


def connect(db: Raw, sealer: Sealer, taken: Taken, login: Login) -> Ending:
    """Connect a bot that has logged in, in one transaction. It is made again when another account connected the bot in the same moment.

    Raises:
        psycopg.OperationalError: the database is away, or locks could not be had.
    """
    failpoint("listener.logged_in")
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            with db.transaction():
                return _connect(db, sealer, taken, login)
        except _AGAIN:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def _connect(tx: Raw, sealer: Sealer, taken: Taken, login: Login) -> Ending:
    """1. Lock request, account and bots, then read. 2. Decide. 3. Write bot and session. 4. Answer."""
    records = bot_requests.lock(tx, taken, login.who.tg_id)
    if records is None:
        return Ending(None, used=False)
    plan = bots.decide(taken.account, [_known(sealer, record, login.token) for record in records])
    if isinstance(plan, Refusal):
        bot_requests.refuse(tx, taken, plan)
        return Ending(plan, used=False)
    bot = bot_requests.set_bot(tx, plan, taken.account, login.who)
    used = plan.action is not Action.KEEP
    if used:
        bot_requests.set_session(tx, bot, _sealed(sealer, bot, login), keep_state=plan.action is Action.RENEW)
    bot_requests.finish(tx, taken, bot)
    return Ending(None, used)


def _known(sealer: Sealer, record: Record, token: str) -> Known:
    try:
        sealed = record.sealed_token
        at_work = sealed is not None and sealer.open(sealed, token_place(record.id)) == token.encode()
    except NotOpened:
        at_work = False  # nobody can use it any more
    return Known(id=record.id, account=record.account, disconnected=record.disconnected, revoked=record.revoked, at_work=at_work)


def _sealed(sealer: Sealer, bot: int, login: Login) -> NewSession:
    return NewSession(
        token=sealer.seal(login.token.encode(), token_place(bot)),
        auth_key=sealer.seal(login.session.auth_key.key, key_place(bot)),
        dc=login.session.dc_id,
        address=login.session.server_address,
        port=login.session.port,
        username=login.who.username,
        pts=login.pts,
        qts=login.qts,
        seq=login.seq,
        date=login.date,
    )
