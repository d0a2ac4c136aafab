"""Requests: unwrapped, checked against the key and the nastiness, written down, and carried out by `methods`.

Refusal            answered as an RPC error
  NotLoggedIn        401: the key belongs to no bot
  Duplicated         406: the key was used from two addresses
"""

import struct
import time
from dataclasses import dataclass
from typing import Any, Final

from telethon.tl import functions

from tests.telegram.call import Call, Duplicated, NotLoggedIn, Refusal
from tests.telegram.core import Core
from tests.telegram.keys import Agreed
from tests.telegram.methods import METHODS
from tests.telegram.state import Bot

WRAPPERS: Final = (
    functions.InvokeWithLayerRequest,
    functions.InitConnectionRequest,
    functions.InvokeWithoutUpdatesRequest,
    functions.InvokeAfterMsgRequest,
)

#: These say nothing of wanting updates, and need no login.
OPEN: Final = {"GetConfig", "GetNearestDc", "ImportBotAuthorization"}
NOT_SUBSCRIBING: Final = {"GetConfig", "GetNearestDc", "LogOut"}

TRUE, FALSE, VECTOR = 0x997275B5, 0xBC799737, 0x1CB5C415


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a request."""

    method: str
    result: Any
    bot: Bot | None
    """Who listens on this connection from now on."""
    slow_s: float = 0.0
    dropped: bool = False
    """Carried out, but the connection breaks before the answer."""


def unwrap(request: Any) -> tuple[Any, bool]:
    """The request inside its wrappers, and whether it wants updates."""
    wants_updates = True
    while isinstance(request, WRAPPERS):
        wants_updates = wants_updates and not isinstance(request, functions.InvokeWithoutUpdatesRequest)
        request = request.query
    return request, wants_updates


def name_of(request: Any) -> str:
    return type(request).__name__.removesuffix("Request")


def carry_out(core: Core, agreed: Agreed, wrapped: Any) -> Outcome:
    """Do what is asked; raises Refusal."""
    request, wants_updates = unwrap(wrapped)
    method = name_of(request)
    if agreed.destroyed:
        raise Duplicated
    bot = core.world.bots.get(agreed.bot_id) if agreed.bot_id is not None else None
    if bot is None and method not in OPEN:
        raise NotLoggedIn
    refuse_if_told(core, method, agreed)
    if type(request) not in METHODS:
        raise Refusal(400, f"METHOD_{method}_UNKNOWN_HERE")
    sent_before = len(core.record.sent)
    result = METHODS[type(request)](Call(core=core, agreed=agreed, caller=bot, request=request))
    listener = core.world.bots.get(agreed.bot_id) if agreed.bot_id is not None else None
    return Outcome(
        method=method,
        result=result,
        bot=listener if wants_updates and method not in NOT_SUBSCRIBING else None,
        slow_s=core.nasty.slowness(method),
        dropped=len(core.record.sent) > sent_before and accepts_in_silence(core),
    )


def refuse_if_told(core: Core, method: str, agreed: Agreed) -> None:
    wait_s = core.nasty.flooded_s(method, agreed.id, time.monotonic())
    if wait_s:
        raise Refusal(420, f"FLOOD_WAIT_{wait_s}")
    if method in core.nasty.errors:
        raise Refusal(*core.nasty.errors[method])


def accepts_in_silence(core: Core) -> bool:
    """Whether this message is one of those after which the connection breaks."""
    if core.nasty.accept_then_drop <= 0:
        return False
    core.nasty.accept_then_drop -= 1
    core.record.sent[-1].answered = False
    return True


def serialized(result: Any) -> bytes:
    """A result in bytes: an object, a truth value, or a vector of objects."""
    match result:
        case bool():
            return struct.pack("<I", TRUE if result else FALSE)
        case list():
            return struct.pack("<Ii", VECTOR, len(result)) + b"".join(bytes(one) for one in result)
        case _:
            return bytes(result)
