"""Takes updates to bots: numbers them, writes down what is owed, and pushes them, as nastily as it is told to."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from telethon.tl import types

from tests.telegram.naming import event_key
from tests.telegram.nasty import Nasty
from tests.telegram.record import Record
from tests.telegram.state import Bot, World
from tests.telegram.tl import named_in, now

#: So many pushes are written before the sockets are waited for.
BREATH_PUSHES: Final = 50


class Courier:
    """One for all bots."""

    def __init__(self, world: World, record: Record, nasty: Nasty) -> None:
        self._world, self._record, self._nasty = world, record, nasty
        self._together: dict[Bot, list[Any]] | None = None
        self._held: dict[Bot, list[bytes]] = defaultdict(list)
        self._dam: list[tuple[Bot, bytes]] | None = None

    def deliver(self, bot: Bot, update: Any, kind: str, **facts: Any) -> None:
        """The bot must learn of this: by a push now if it is connected and nothing goes wrong, or else by a difference."""
        place = bot.number(update)
        key = event_key(update)
        if key is not None:
            date = getattr(update, "date", None) or update.message.date
            self._record.owe(bot_id=bot.id, kind=kind, key=key, date=int(date.timestamp()), sequence=place, facts=facts)
        self._push(bot, update)

    def mention(self, bot: Bot, update: Any) -> None:
        """Push an update that has no number among the bot's own, and is in no difference of its."""
        self._push(bot, update)

    def mark(self, bot: Bot) -> None:
        """Push something without a meaning, which no nastiness touches: whoever has seen it has seen what went before."""
        write(bot, container(self._world, bot, [types.UpdateConfig()]))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Push what happens in this block in one container for each bot."""
        self._together = defaultdict(list)
        try:
            yield
        finally:
            collected, self._together = self._together, None
            for bot, updates in collected.items():
                self._send(bot, container(self._world, bot, updates))

    def _push(self, bot: Bot, update: Any) -> None:
        if self._together is not None:
            self._together[bot].append(update)
        elif self._nasty.short_messages and is_private_text(update):
            self._send(bot, bytes(short(update)))
        else:
            self._send(bot, container(self._world, bot, [update]))

    def _send(self, bot: Bot, body: bytes) -> None:
        """Send it to whoever listens, or withhold it, or twice, or out of order."""
        if not bot.lines or self._nasty.hits(self._nasty.withhold_percent):
            return
        times = 2 if self._nasty.hits(self._nasty.duplicate_percent) else 1
        for _ in range(times):
            if self._dam is not None:
                self._dam.append((bot, body))
            elif self._nasty.reorder_pushes:
                self._hold(bot, body)
            else:
                write(bot, body)

    def dam(self) -> None:
        """Keep pushes back, ready to go, so that a measurement need not wait for them to be thought of."""
        self._dam = self._dam or []

    async def open_dam(self) -> int:
        """Let them go as fast as the sockets take them; how many."""
        dammed, self._dam = self._dam or [], None
        for number, (bot, body) in enumerate(dammed):
            write(bot, body)
            if number % BREATH_PUSHES == 0:
                await breathe(bot)
        return len(dammed)

    def _hold(self, bot: Bot, body: bytes) -> None:
        held = self._held[bot]
        held.append(body)
        if len(held) >= self._nasty.reorder_pushes:
            self._let_go(bot)
        elif len(held) == 1:
            asyncio.get_running_loop().call_later(self._nasty.reorder_ms / 1000, self._let_go, bot)

    def _let_go(self, bot: Bot) -> None:
        for body in reversed(self._held.pop(bot, [])):
            write(bot, body)


def write(bot: Bot, body: bytes) -> None:
    for line in list(bot.lines):
        line.push(body)


async def breathe(bot: Bot) -> None:
    """Wait until the bot's sockets have taken most of what was written."""
    for line in list(bot.lines):
        await line.drain()
    await asyncio.sleep(0)


def container(world: World, bot: Bot, updates: list[Any]) -> bytes:
    users, chats = named_in(world, bot, updates)
    return bytes(types.Updates(updates, users, chats, now(), 0))


def is_private_text(update: Any) -> bool:
    if not isinstance(update, types.UpdateNewMessage) or not isinstance(update.message, types.Message):
        return False
    return isinstance(update.message.peer_id, types.PeerUser)


def short(update: Any) -> Any:
    """The same message in the form that names nobody."""
    message = update.message
    return types.UpdateShortMessage(
        id=message.id,
        user_id=message.peer_id.user_id,
        message=message.message,
        pts=update.pts,
        pts_count=update.pts_count,
        date=message.date,
        entities=message.entities,
    )
