"""A Telethon client of which no event is lost.

Stock Telethon loses events: it saves how far updates are taken in when it likes, and what was handled when nobody knows. Here the moment
decides. Telethon's update loop asks its queue for more only when all it had was given to the handlers and no difference is being fetched:
its state then says exactly what we have. At this moment events and state are committed together. Whatever dies before that is told
again by Telegram, and passed over by its key where it was committed.

It stands on private attributes of the pinned version, which `check_telethon` looks at when the process starts.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog
import telethon
from telethon import TelegramClient, errors, events, functions
from telethon._updates import SessionState
from telethon._updates.messagebox import ENTRY_ACCOUNT, ENTRY_SECRET, NO_SEQ, MessageBox, State
from telethon.network import MTProtoSender
from telethon.network.connection.connection import Connection
from telethon.tl import types

from services.ingest import parse
from services.ingest.committer import Committer
from services.ingest.session import StoredSession
from shared.db.inbox import Checkpoint, UpdateState
from shared.db.sessions import Session
from shared.domain.events import Event

#: The version whose inside this file knows.
TELETHON: Final = "1.45.0"

#: Events after which a client stores them though more waits: the database works on them while other clients take in theirs.
EVENTS_ENOUGH: Final = 50

#: Events that a client keeps before it stores them, also in the middle of a long difference.
EVENTS_MAX: Final = 500

#: Updates that wait for the update loop. More are not taken; a difference brings them later.
QUEUE_MAX: Final = 2_000

#: Access hashes that Telethon keeps of a client; it needs none of them for what we do.
ENTITIES_MAX: Final = 20

#: Peers of which a client remembers that they are stored; to store one again changes nothing. Two thousand clients remember as many each.
PEERS_MAX: Final = 50

#: Telegram hangs up when it was not told for so long, in parts of the lease, that we are alive. It is told twice as often.
HANG_UP: Final = 2 / 3

_RANDOM: Final = random.SystemRandom()

log = structlog.get_logger("listener")


def check_telethon() -> None:
    """Look for what this file needs of Telethon's inside.

    Raises:
        RuntimeError: another version, or something is not there.
    """
    needed = [
        (TelegramClient, ("_update_loop", "_keepalive_loop", "_on_login", "_auth_key_callback")),
        (MTProtoSender, ("_transport_connected",)),
        (MessageBox, ("apply_pts_info", "session_state", "load", "is_empty", "_trace")),
        (Connection, ("_connect", "_init_conn")),
    ]
    missing = [f"{owner.__name__}.{name}" for owner, names in needed for name in names if not hasattr(owner, name)]
    if telethon.__version__ != TELETHON or missing:
        raise RuntimeError(f"Telethon {TELETHON} is needed, here is {telethon.__version__}; missing: {', '.join(missing) or 'nothing'}")


class Deaf(ConnectionError):
    """Telegram did not answer when it was asked how things stand."""


class DrainQueue(asyncio.Queue[Any]):
    """Telethon's queue of updates, bounded, which says when it is asked for more."""

    def __init__(self, on_drain: Callable[[bool], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self._on_drain = on_drain
        self._overflowed = False
        self.arrived_at = 0.0

    async def get(self) -> Any:
        """The next update, after saying that it is asked for."""
        await self._on_drain(self.empty())
        if self._overflowed and self.empty():
            self._overflowed = False
            return types.UpdatesTooLong()
        return await super().get()

    def put_nowait(self, item: Any) -> None:
        """Take an update; with too many waiting pass over it, and ask for the difference when they are done."""
        self.arrived_at = asyncio.get_running_loop().time()
        if self.qsize() < QUEUE_MAX:
            super().put_nowait(item)
        else:
            self._overflowed = True


class BotBox(MessageBox):  # type: ignore[misc]
    """Telethon's bookkeeping of updates, without that of channels, and with a qts of 0 that means what it says.

    What is posted in channels is nothing to us, and for each gap in it Telethon would ask for that channel's difference.
    """

    __slots__ = ()

    def load(self, session_state: Any, channel_states: Any) -> None:
        """Begin where the state says, also at a qts of 0: so has every bot that was in no chat yet.

        Telethon takes 0 for unknown, and then the first qts that it sees for the first there is: those before it were lost. (It takes 0
        for 0 where a difference says so.)
        """
        super().load(session_state, channel_states)
        if (account := self.map.get(ENTRY_ACCOUNT)) is not None:
            self.map[ENTRY_SECRET] = State(session_state.qts, account.deadline)

    def apply_pts_info(self, update: Any, *, reset_deadlines: Any) -> Any:
        """The update if it is the next one; None also for what a channel numbers."""
        if type(update) in _OF_CHANNELS or (hasattr(update, "pts") and hasattr(update, "channel_id")):
            return None
        return super().apply_pts_info(update, reset_deadlines=reset_deadlines)

    def _trace(self, *_: Any, **__: Any) -> None:
        """Nothing: it costs more than the rest."""


_OF_CHANNELS: Final = frozenset([types.UpdateChannelTooLong, types.UpdateNewChannelMessage, types.UpdateEditChannelMessage])


class BotClient(TelegramClient):  # type: ignore[misc]
    """One bot's connection.

    `keep_key` is called with the session when a new auth key was agreed. Telegram is asked every `catch_up_s` seconds for what we have
    missed, and hangs up when it was told nothing for two thirds of `lease_s`.
    """

    def __init__(  # noqa: PLR0913 - the first three are Telethon's
        self,
        session: StoredSession,
        api_id: int,
        api_hash: str,
        *,
        row: Session,
        token: str,
        committer: Committer,
        keep_key: Callable[[StoredSession], Awaitable[None]],
        catch_up_s: float,
        lease_s: float,
        **options: Any,
    ) -> None:
        ours = {"catch_up": True, "sequential_updates": True, "auto_reconnect": False, "entity_cache_limit": ENTITIES_MAX}
        super().__init__(session, api_id, api_hash, **ours, **options)
        self._row, self._token, self._committer, self._keep_key = row, token, committer, keep_key
        self._catch_up_s, self._hang_up_s = catch_up_s, max(int(lease_s * HANG_UP), 1)
        self._tg_id = int(token.partition(":")[0])
        self._events: dict[bytes, Event] = {}
        self._peers: dict[int, int] = {}
        self._known: dict[int, int] = {}
        self._saved: UpdateState | None = session.state
        self._placed = session.state is not None and session.key_was_stored
        self._under_way: asyncio.Future[None] | None = None
        self._answered = asyncio.Event()
        self._lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._updates_queue = DrainQueue(self._checkpoint)
        self._sender._updates_queue = self._updates_queue  # noqa: SLF001
        self._message_box = BotBox(self._log["messagebox"])
        self._mb_entity_cache.set_self_user(self._tg_id, True, None)
        self.add_event_handler(self._take, events.Raw())

    # Coming and going

    async def begin(self) -> None:
        """Connect, log in if Telegram does not know the key as the bot's, and wait until the first difference is there."""
        await self.connect()
        if self._message_box.is_empty():
            request = functions.auth.ImportBotAuthorizationRequest(
                flags=0, api_id=self.api_id, api_hash=self.api_hash, bot_auth_token=self._token
            )
            await self._on_login((await self(request)).user)
        self._ending.add_done_callback(self._ended)
        answered: asyncio.Future[Any] = asyncio.ensure_future(self._answered.wait())
        try:
            await asyncio.wait([answered, self._lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered.cancel()
        if self._lost.done():
            raise self._lost.result()

    async def until_lost(self) -> Exception:
        """Wait until the connection is good for nothing any more; why."""
        return await asyncio.shield(self._lost)

    @property
    def reason(self) -> Exception | None:
        """What is known of why the connection was lost."""
        return self._lost.result() if self._lost.done() else self._updates_error

    async def end(self) -> None:
        """Disconnect, and wait for the checkpoint under way. What was not committed will be told again."""
        await self.disconnect()
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        self._ended(self._ending)

    @property
    def _ending(self) -> "asyncio.Future[None]":
        """Telethon's word for the end of the connection."""
        ending: asyncio.Future[None] = self._sender._disconnected  # noqa: SLF001
        return ending

    def _ended(self, ending: "asyncio.Future[None]") -> None:
        error = ending.exception() if ending.done() and not ending.cancelled() else None
        self._lose(error if isinstance(error, Exception) else self._updates_error or ConnectionError("disconnected"))

    def _lose(self, reason: Exception) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    async def __call__(self, request: Any, ordered: bool = False, flood_sleep_threshold: int | None = None) -> Any:  # noqa: FBT001, FBT002
        """As Telethon's, but nobody swallows the answer that counts: whether Telegram still knows us, and tells us what was missed."""
        try:
            result = await super().__call__(request, ordered, flood_sleep_threshold)
        except (errors.UnauthorizedError, errors.AuthKeyError) as error:
            if self._authorized or self.session.get_update_states():
                self._lose(error)
            raise
        if isinstance(request, functions.updates.GetDifferenceRequest):
            self._answered.set()
            if isinstance(result, types.updates.DifferenceTooLong):
                log.error("difference_too_long", bot=self._row.bot, pts=request.pts, now=result.pts)
        return result

    async def _on_login(self, user: Any) -> Any:
        """Begin where the row says, also after a login with a new key. Without a row's word begin now, and have that committed first.

        Where Telegram counts less than the row does, it has begun to count anew, and what the row says means nothing any more.
        """
        self._authorized = True
        now = await self(functions.updates.GetStateRequest())
        state = UpdateState(now.pts, now.qts, now.seq, now.date)
        stored = self.session.state
        if stored is not None and stored.pts <= state.pts:
            state = stored
        else:
            if stored is not None:
                log.error("updates_begin_anew", bot=self._row.bot, stored=stored.pts, now=state.pts)
            await self._commit(state)
        self._message_box.load(SessionState(0, 0, 0, state.pts, state.qts, int(state.date.timestamp()), state.seq, 0), [])
        self._placed = True
        await self.catch_up()
        return user

    async def _auth_key_callback(self, auth_key: Any) -> None:
        """A new key is kept before it is used: whoever logs in with it must not have to do so again."""
        self.session.auth_key = auth_key
        await self._keep_key(self.session)

    async def _keepalive_loop(self) -> None:
        """Tell Telegram that we are alive, and when to stop believing so; now and then ask what we have missed.

        Whoever takes the bot over from a stopped process finds its connection closed by Telegram.
        """
        loop = asyncio.get_running_loop()
        beat_s = self._hang_up_s / 2
        ask_at = loop.time() + self._catch_up_s * _RANDOM.uniform(0.5, 1)
        try:
            while self.is_connected():
                await self._beat(beat_s)
                await asyncio.sleep(beat_s * _RANDOM.uniform(0.8, 1))
                if loop.time() >= ask_at:
                    await self._ask()
                    ask_at = loop.time() + self._catch_up_s * _RANDOM.uniform(0.8, 1)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody keeps this connection alive any more
            self._lose(error)

    async def _beat(self, beat_s: float) -> None:
        """Tell Telegram that we are alive, and see that it is. Updates that arrive show it, too: many may stand in front of the answer."""
        ping = functions.PingDelayDisconnectRequest(_RANDOM.getrandbits(63), self._hang_up_s)
        try:
            async with asyncio.timeout(beat_s):
                await self._sender.send(ping)
        except TimeoutError:
            if asyncio.get_running_loop().time() - self._updates_queue.arrived_at > beat_s:
                raise

    async def _ask(self) -> None:
        """Ask what we have missed. Telegram has until the next time to answer."""
        if not self._answered.is_set() and self._under_way is None:
            raise Deaf("no difference since it was last asked for")
        self._answered.clear()
        await self.catch_up()

    # What comes in

    async def _take(self, update: Any) -> None:
        """Keep what the update says to us until the next checkpoint."""
        try:
            seen = parse.read(update, bot=self._row.bot, tg_id=self._tg_id)
        except Exception as error:  # noqa: BLE001 - an update that nobody understands must not stop the others
            log.error("update_not_understood", bot=self._row.bot, kind=type(update).__name__, error=type(error).__name__)
            return
        if seen is None:
            return
        self._events[seen.key] = seen.event
        if (peer := parse.peer_of(update, seen.event)) is not None and self._known.get(peer[0]) != peer[1]:
            self._peers[peer[0]] = peer[1]
        if len(self._events) >= EVENTS_MAX:
            await self._commit(None)

    async def _checkpoint(self, queue_empty: bool) -> None:  # noqa: FBT001
        """Commit, unless more waits and little was taken in. To be called when every update so far was taken.

        Telegram pushes from the moment of the login on. Until it is known where updates begin, the number of such a push says nothing.
        """
        if not queue_empty and len(self._events) < EVENTS_ENOUGH:
            return
        numbers, _ = self._message_box.session_state()
        state = (
            None
            if not self._placed or numbers["pts"] == NO_SEQ
            else UpdateState(numbers["pts"], numbers["qts"], numbers["seq"], numbers["date"])
        )
        if self._events or _differ(state, self._saved):
            await self._commit(state)

    async def _commit(self, state: UpdateState | None) -> None:
        """Hand over what was taken in, and wait until it is committed.

        Telethon cancels its waiting for updates when it has something else to do; the commit goes on, and the next one waits for it.
        """
        if self._under_way is not None:
            await asyncio.shield(self._under_way)
        if self._lost.done():
            raise self._lost.result()  # after a checkpoint that failed none may follow
        checkpoint = Checkpoint(bot=self._row.bot, epoch=self._row.epoch, state=state, events=self._events, peers=self._peers)
        self._under_way = self._committer.commit(checkpoint)
        self._under_way.add_done_callback(lambda committed: self._committed(committed, checkpoint))
        self._events, self._peers = {}, {}
        await asyncio.shield(self._under_way)

    def _committed(self, committed: "asyncio.Future[None]", checkpoint: Checkpoint) -> None:
        self._under_way = None
        error = None if committed.cancelled() else committed.exception()
        if isinstance(error, Exception):
            self._lose(error)
            return
        self._saved = checkpoint.state or self._saved
        for peer, access_hash in checkpoint.peers.items():
            self._known[peer] = access_hash
        while len(self._known) > PEERS_MAX:
            del self._known[next(iter(self._known))]


def _differ(state: UpdateState | None, saved: UpdateState | None) -> bool:
    """Whether there is something to save. The date alone is not worth it."""
    return state is not None and (saved is None or state[:3] != saved[:3])
