"""What a client has missed, in Telegram's words."""

from copy import copy
from itertools import islice
from typing import Any

from telethon.tl import types

from tests.telegram.nasty import Nasty
from tests.telegram.state import FIRST, Bot, Chat, Entry, World
from tests.telegram.tl import named_in, now

#: A client that is told to wait asks a channel again after this.
CHANNEL_TIMEOUT_S = 30


def state_of(bot: Bot) -> Any:
    return state(bot.pts, bot.qts)


def state(pts: int, qts: int) -> Any:
    return types.updates.State(pts=pts, qts=qts, date=now(), seq=0, unread_count=0)


def difference(world: World, bot: Bot, nasty: Nasty, request: Any) -> Any:
    """Everything after the client's numbers, the oldest first; a slice of it if there is too much."""
    if nasty.difference_too_long:
        return types.updates.DifferenceTooLong(bot.pts)
    entries = list(islice(bot.after(request.pts, request.qts), nasty.difference_limit + 1))
    if not entries:
        return types.updates.DifferenceEmpty(now(), 0)
    part = entries[: nasty.difference_limit]
    content = contents(world, bot, part, zero_qts=nasty.difference_zero_qts)
    reached = state(reached_in(part, "pts", request.pts), reached_in(part, "qts", request.qts))
    whole = types.updates.Difference if len(entries) == len(part) else types.updates.DifferenceSlice
    return whole(*content, reached)


def contents(world: World, bot: Bot, part: list[Entry], *, zero_qts: bool) -> tuple[list[Any], ...]:
    """Messages, encrypted messages (never), other updates, chats and users."""
    updates = [entry.update for entry in part]
    users, chats = named_in(world, bot, updates)
    messages = [update.message for update in updates if isinstance(update, types.UpdateNewMessage)]
    others = [without_qts(update, zero_qts) for update in updates if not isinstance(update, types.UpdateNewMessage)]
    return messages, [], others, chats, users


def without_qts(update: Any, zero_qts: bool) -> Any:
    """The update as a difference has it: qts 0, because the whole difference is what is counted."""
    if not zero_qts:
        return update
    zeroed = copy(update)
    zeroed.qts = 0
    return zeroed


def reached_in(part: list[Entry], sequence: str, before: int) -> int:
    return max((entry.number for entry in part if entry.sequence == sequence), default=before)


def channel_difference(world: World, bot: Bot, chat: Chat, request: Any) -> Any:
    """The messages of a supergroup or channel after the client's number."""
    missed = chat.messages[max(request.pts - FIRST, 0) :][: request.limit]
    reached = max(request.pts, FIRST) + len(missed)
    if not missed:
        return types.updates.ChannelDifferenceEmpty(pts=chat.pts, final=True, timeout=CHANNEL_TIMEOUT_S)
    users, chats = named_in(world, bot, [types.UpdateNewChannelMessage(message, 0, 0) for message in missed])
    return types.updates.ChannelDifference(
        pts=reached,
        new_messages=missed,
        other_updates=[],
        chats=chats,
        users=users,
        final=reached >= chat.pts,
        timeout=CHANNEL_TIMEOUT_S,
    )
