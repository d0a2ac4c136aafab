"""What bots say: the listener that leases a bot also sends its welcomes, and the service bot's notices.

A row of `send` goes when Telegram has the message, and not before. Whoever dies in between leaves the row to the bot's next listener,
which sends it again with the same random id, and Telegram takes it once.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import structlog
from telethon import errors
from telethon.tl.functions.users import GetUsersRequest
from telethon.tl.types import InputUserSelf

from services.ingest.database import Database
from services.ingest.speaking import Speaker, ask
from shared.db import sends
from shared.db.connect import BY_KEY, EXPECTED
from shared.db.sends import Due, Hand, Outcome, Verdict
from shared.db.telegram_schema import SERVICE_BOT

log = structlog.get_logger("sending")

#: Messages of one bot that are under way at once; Telegram takes about 30 a second from one.
PER_BOT: Final = 4

#: Messages of all bots of a process that are under way at once.
IN_FLIGHT_MAX: Final = 2_000

#: Seconds between two looks for what nobody has announced or has come due; from the end of a look for notices to the next.
LOOK_S: Final = 1.0
NOTICES_S: Final = 3.0

#: Seconds between two turns while there is work, so that one takes more than a row.
BREATH_S: Final = 0.005

#: Seconds to wait for a database that is away.
AWAY_S: Final = 1.0


class Live(Protocol):
    """A leased bot, connected."""

    @property
    def client(self) -> Any:
        """A Telethon client, ready to be asked."""

    @property
    def epoch(self) -> int:
        """Fences what is written for the bot."""


class Sender:
    """Sends what the live bots have to say."""

    def __init__(self, database_url: str, live: Mapping[int, Live], listener_id: UUID, media: Path | None = None) -> None:
        self._url = database_url
        self._live = live
        self._listener = listener_id
        self._media = media
        self._woken = asyncio.Event()
        self._hungry: dict[int, None] = {}
        """Bots that may have something to say, whoever waits longest first."""
        self._busy: dict[int, set[int]] = defaultdict(set)
        """Bot -> its rows in hand, from taking them until they are settled."""
        self._done: list[Outcome] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._look_at = 0.0
        self._noticed = asyncio.Event()
        """There may be notices."""
        self._introduced = -1
        """The epoch in which the service bot's name was learned."""

    def poke(self, bots: Sequence[int] = ()) -> None:
        """These bots may have something to say; without any, look at all."""
        self._hungry.update(dict.fromkeys(bots))
        if not bots:
            self._look_at = 0.0
        if SERVICE_BOT in bots:
            self._noticed.set()
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled; what Telegram has answered by then is recorded."""
        async with (
            Database(self._url, name="sender", limits=BY_KEY) as db,
            Database(self._url, name="sender of notices", limits=BY_KEY) as notices,
        ):
            speaker = Speaker(db, self._media)
            notifying = asyncio.create_task(self._notify(notices))
            try:
                while True:
                    await self._wait()
                    try:
                        await self._turn(db, speaker)
                    except EXPECTED as error:
                        log.warning("database_away", error=type(error).__name__)
                        self._look_at = 0.0
                        await asyncio.sleep(AWAY_S)
            finally:
                ending = [notifying, *self._tasks]
                for task in ending:
                    task.cancel()
                await asyncio.gather(*ending, return_exceptions=True)
                await speaker.close()
                with suppress(*EXPECTED):
                    await self._record(db)

    async def _wait(self) -> None:
        """Until there may be work."""
        await asyncio.sleep(BREATH_S)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._look_at):
                await self._woken.wait()
        self._woken.clear()

    async def _turn(self, db: Database, speaker: Speaker) -> None:
        """Go on with what there is.

        1. Record what came of earlier messages.
        2. Now and then look who has something to say.
        3. Take it, each bot its share.
        4. Say it, all at once.
        """
        await self._record(db)
        await self._look(db)
        for send in await self._take(db):
            self._start(self._send(speaker, self._live[send.bot].client, send))

    async def _record(self, db: Database) -> None:
        outcomes, self._done = self._done, []
        if not outcomes:
            return
        try:
            await db.run(sends.settle, self._listener, outcomes)
        except EXPECTED:
            self._done = outcomes + self._done
            raise
        for outcome in outcomes:
            self._busy[outcome.send.bot].discard(outcome.send.id)
            if outcome.verdict is not Verdict.SENT:
                _tell(outcome)

    async def _look(self, db: Database) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._hungry.update(dict.fromkeys(await db.run(sends.find_bots, self._listener)))

    async def _take(self, db: Database) -> list[Due]:
        """What the hungry bots have to say, as much as there are hands; a bot that may have more goes to the end of the queue."""
        hands = self._hands()
        if not hands:
            return []
        busy = [send for hand in hands for send in self._busy[hand.bot]]
        taken = await db.run(sends.take, self._listener, hands, busy=busy)
        numbers = Counter(send.bot for send in taken)
        self._hungry.update(dict.fromkeys(hand.bot for hand in hands if numbers[hand.bot] == hand.room))
        still = [send for send in taken if send.bot in self._live]
        for send in still:
            self._busy[send.bot].add(send.id)
        return still

    def _hands(self) -> list[Hand]:
        """Hungry bots with a free hand; they leave the queue. So do those that are not ours now: the next look finds them if they come."""
        room = IN_FLIGHT_MAX - len(self._tasks)
        hands = []
        for bot in list(self._hungry):
            if room <= 0:
                break
            live = self._live.get(bot)
            share = min(PER_BOT - len(self._busy[bot]), room)
            if live is None or share > 0:
                del self._hungry[bot]
            if live is not None and share > 0:
                hands.append(Hand(bot, live.epoch, share))
                room -= share
        return hands

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self, db: Database) -> None:
        """Now and then queue notices, while the service bot is ours. On a connection of its own: no trouble of theirs stops a welcome."""
        while True:
            self._noticed.clear()
            service = self._live.get(SERVICE_BOT)
            if service is not None:
                try:
                    await db.run(sends.queue_notices, self._listener, bot=SERVICE_BOT, epoch=service.epoch)
                    self._hungry[SERVICE_BOT] = None
                    self._woken.set()
                    if service.epoch != self._introduced:
                        await self._introduce(db, service)
                except Exception as error:  # it is tried again
                    log.warning("notices_not_queued", error=type(error).__name__, exc_info=not isinstance(error, EXPECTED))
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTICES_S):
                    await self._noticed.wait()

    async def _introduce(self, db: Database, service: Live) -> None:
        """Keep the service bot's username, which links to it are made of. What fails is done at the next look."""
        with suppress(OSError, errors.RPCError, *EXPECTED):
            (me,) = await ask(service.client, GetUsersRequest([InputUserSelf()]))
            await db.run(sends.put_username, self._listener, bot=SERVICE_BOT, epoch=service.epoch, username=me.username or "")
            self._introduced = service.epoch

    async def _send(self, speaker: Speaker, client: Any, send: Due) -> None:
        outcome = await speaker.say(client, send)
        self._done.append(outcome)
        self._woken.set()


def _tell(outcome: Outcome) -> None:
    """Nothing that is not sent goes unsaid."""
    send = outcome.send
    log.info(
        "not_sent", verdict=outcome.verdict, bot=send.bot, kind=send.kind, campaign=send.code, wait_s=outcome.wait_s, why=outcome.trouble
    )
