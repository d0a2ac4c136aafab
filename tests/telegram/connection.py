"""One connection of a client: its framing, its handshake or session, its requests and the pushes to it."""

import asyncio
import contextlib
import logging
import struct
import time
from typing import Any, Final

from telethon.extensions import BinaryReader
from telethon.tl import functions, types
from telethon.tl.core import GzipPacked, MessageContainer

from tests.telegram.call import Duplicated, Refusal
from tests.telegram.core import Core, random_number
from tests.telegram.handshake import Broken, Handshake
from tests.telegram.keys import Agreed
from tests.telegram.rpc import Outcome, carry_out, name_of, serialized, unwrap
from tests.telegram.session import ANSWER, Forged, Message, Session, packed, plain_packet
from tests.telegram.transport import Framing, Garbled, Stream, negotiate

LOG: Final = logging.getLogger(__name__)

PLAIN_HEADER_BYTES: Final = 20
BAD_SALT: Final = 48

#: The transport's word for an auth key it does not know.
UNKNOWN_KEY: Final = struct.pack("<i", -404)


class Connection:
    """A line to a client, for as long as it lasts."""

    def __init__(self, core: Core, dc: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._core, self._dc, self._writer = core, dc, writer
        self._stream = Stream(reader, writer)
        self._framing: Framing
        self._handshake: Handshake | None = None
        self._session: Session | None = None
        self._agreed: Agreed | None = None
        self._silent = False
        self._farewell: asyncio.TimerHandle | None = None
        address, port = writer.get_extra_info("peername")[:2]
        self.address = str(address)
        self.opened = core.record.opened(address=self.address, port=port, dc=dc)

    @property
    def bot_id(self) -> int | None:
        return self.opened.bot_id

    @property
    def key_id(self) -> int | None:
        return self._agreed.id if self._agreed else None

    async def run(self) -> None:
        """Read until it ends."""
        self._core.lines.add(self)
        try:
            self._framing = await negotiate(self._stream)
            while True:
                packet = await self._framing.read(self._stream)
                if self._silent or self._core.nasty.silent:
                    continue
                self._note(packet)
                self._take(packet)
        except (asyncio.IncompleteReadError, OSError, Garbled, Broken, Forged) as error:
            LOG.debug("connection %d ended: %r", self.opened.number, error)
        except Exception:
            LOG.exception("connection %d sent what nobody understands", self.opened.number)
        finally:
            self._forget()
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    # What the courier and the tricks do

    def push(self, body: bytes) -> None:
        """Send an update of our own accord."""
        if self._session is None or self._silent or self._core.nasty.silent:
            return
        self._write(self._session.seal(packed(body)))
        self.opened.pushes += 1
        if self._core.nasty.drop_after_pushes and self.opened.pushes >= self._core.nasty.drop_after_pushes:
            self.drop()

    def drop(self) -> None:
        """Cut it, with a reset."""
        self.leave_bot()
        self._writer.transport.abort()

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written to it."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def fall_silent(self) -> None:
        self._silent = True

    # What comes in

    def _note(self, packet: bytes) -> None:
        self.opened.bytes_in += len(packet)
        self.opened.last_in_at = time.time()

    def _take(self, packet: bytes) -> None:
        key_id = int.from_bytes(packet[:8], "little")
        if key_id == 0:
            self._shake_hands(packet[PLAIN_HEADER_BYTES:])
            return
        agreed = self._core.secrets.ring.find(key_id, self._dc)
        if agreed is None:
            self._write(UNKNOWN_KEY)
            return
        if self._session is None or self._agreed is not agreed:
            self._begin(agreed)
        assert self._session is not None
        self._listen(self._session, self._session.open(packet))

    def _shake_hands(self, body: bytes) -> None:
        self._handshake = self._handshake or Handshake(self._core.secrets, self._dc)
        with BinaryReader(body) as reader:
            request = reader.tgread_object()
        if isinstance(request, functions.ReqPqMultiRequest):
            self._handshake = Handshake(self._core.secrets, self._dc)
        if self._core.nasty.close_in_handshake and isinstance(request, functions.ReqDHParamsRequest):
            self._core.nasty.close_in_handshake -= 1
            raise Broken("told to")
        self._write(plain_packet(bytes(self._handshake.answer(request))))

    def _begin(self, agreed: Agreed) -> None:
        """The first packet with this key on this connection."""
        self._session, self._agreed = Session(agreed.key), agreed
        self.opened.key_id = agreed.id
        others = [line for line in self._core.lines if line is not self and line.key_id == agreed.id]
        if any(self._clashes(line.address) for line in others):
            agreed.destroyed = True
            for line in [self, *others]:
                line.leave_bot()

    def _clashes(self, address: str) -> bool:
        """Whether the same key on a connection from there and on this one kills it."""
        nasty = self._core.nasty
        return nasty.one_connection_per_key or (nasty.one_address_per_key and address != self.address)

    def _listen(self, session: Session, message: Message) -> None:
        known = session.id == message.session_id
        session.id, session.salt = message.session_id, self._core.salt
        if message.salt != self._core.salt:
            self._say(types.BadServerSalt(message.id, message.sequence, BAD_SALT, self._core.salt))
            return
        if not known:
            self._say(types.NewSessionCreated(message.id, random_number(), self._core.salt), content=True)
        self._open(message.id, message.body)

    def _open(self, message_id: int, body: bytes) -> None:
        with BinaryReader(body) as reader:
            self._consider(message_id, reader.tgread_object())

    def _consider(self, message_id: int, content: Any) -> None:
        """Service messages are dealt with here; everything else is a request."""
        match content:
            case MessageContainer():
                for message in content.messages:
                    self._consider(message.msg_id, message.obj)
            case GzipPacked():
                self._open(message_id, content.data)
            case types.MsgsAck():
                self._core.record.acknowledged += len(content.msg_ids)
            case functions.PingRequest():
                self._say(types.Pong(message_id, content.ping_id))
            case functions.PingDelayDisconnectRequest():
                self._say(types.Pong(message_id, content.ping_id))
                self._disconnect_in(content.disconnect_delay)
            case functions.GetFutureSaltsRequest():
                self._say(types.FutureSalts(message_id, int(time.time()), []))
            case types.MsgsStateReq() | types.MsgsAllInfo() | types.MsgsStateInfo() | functions.DestroySessionRequest():
                LOG.debug("passed over %r", content)
            case _:
                self._request(message_id, content)

    def _request(self, message_id: int, wrapped: Any) -> None:
        assert self._agreed is not None
        refused: str | None = None
        try:
            outcome = carry_out(self._core, self._agreed, wrapped)
        except Refusal as refusal:
            refused = refusal.message
            self._answer(message_id, bytes(types.RpcError(refusal.code, refusal.message)))
            if isinstance(refusal, Duplicated):
                self.leave_bot()
        except Exception as error:
            LOG.exception("a mistake of this server")
            refused = repr(error)
            self._answer(message_id, bytes(types.RpcError(500, "INTERNAL")))
        else:
            self._conclude(message_id, outcome)
        self._core.record.called(
            method=name_of(unwrap(wrapped)[0]),
            bot_id=self._agreed.bot_id,
            connection=self.opened.number,
            address=self.address,
            dc=self._dc,
            refused=refused,
        )

    def _conclude(self, message_id: int, outcome: Outcome) -> None:
        """Answer, soon or late or never; from now on the bot's pushes come here, too."""
        if outcome.bot is not None and self not in outcome.bot.lines:
            self.opened.bot_id = outcome.bot.id
            outcome.bot.lines.append(self)
        body = serialized(outcome.result)
        if outcome.dropped:
            self.drop()
        elif outcome.slow_s:
            asyncio.get_running_loop().call_later(outcome.slow_s, self._answer, message_id, body)
        else:
            self._answer(message_id, body)

    # What goes out

    def _answer(self, message_id: int, result: bytes) -> None:
        assert self._session is not None
        if not self._silent:
            self._write(self._session.seal_answer(message_id, result))

    def _say(self, service: Any, *, content: bool = False) -> None:
        assert self._session is not None
        self._write(self._session.seal(bytes(service), ANSWER, content=content))

    def _write(self, packet: bytes) -> None:
        self._stream.write(self._framing.frame(packet))

    def _disconnect_in(self, seconds: int) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
        self._farewell = asyncio.get_running_loop().call_later(seconds, self._say_farewell)

    def _say_farewell(self) -> None:
        if not self._core.nasty.keeps_connections:
            self.drop()

    # Its end

    def leave_bot(self) -> None:
        bot = self._core.world.bots.get(self.bot_id) if self.bot_id is not None else None
        if bot is not None and self in bot.lines:
            bot.lines.remove(self)

    def _forget(self) -> None:
        self.leave_bot()
        if self._farewell is not None:
            self._farewell.cancel()
        self._core.lines.discard(self)
        self.opened.closed_at = time.time()
        self._core.record.changed()
