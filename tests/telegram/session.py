"""Encrypted messages as the server sees them: MTProto 2.0 with the agreed key, salts, message ids and sequence numbers."""

import hashlib
import os
import struct
import time
from dataclasses import dataclass
from typing import Final

from telethon.crypto import AES, AuthKey
from telethon.network.mtprotostate import MTProtoState
from telethon.tl.core import GzipPacked

#: Smaller bodies are not worth packing.
GZIP_BYTES_MIN: Final = 512

HEADER: Final = struct.Struct("<qqqii")
KEY_ID_BYTES: Final = 8
BODY_STARTS: Final = 24
RPC_RESULT: Final = 0xF35C6D01

#: The last two bits of a server's message id: an answer, or something of its own accord.
ANSWER, OWN_ACCORD = 1, 3


class Forged(Exception):
    """It was not encrypted with the key it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a client sent, decrypted."""

    salt: int
    session_id: int
    id: int
    sequence: int
    body: bytes


class Session:
    """One auth key on one connection."""

    def __init__(self, key: AuthKey) -> None:
        self._key = key
        self._last_id = 0
        self._contents = 0
        self.id = 0
        self.salt = 0

    def open(self, packet: bytes) -> Message:
        """Decrypt and check what the client sent."""
        message_key = packet[KEY_ID_BYTES:BODY_STARTS]
        plain = AES.decrypt_ige(packet[BODY_STARTS:], *MTProtoState._calc_key(self._key.key, message_key, client=True))
        if hashlib.sha256(self._key.key[88:120] + plain).digest()[8:24] != message_key:
            raise Forged
        salt, session_id, message_id, sequence, length = HEADER.unpack(plain[: HEADER.size])
        body = plain[HEADER.size : HEADER.size + length]
        return Message(salt=salt, session_id=session_id, id=message_id, sequence=sequence, body=body)

    def seal(self, body: bytes, kind: int = OWN_ACCORD, *, content: bool = True) -> bytes:
        """A packet with this body. Contents are counted and must be acknowledged; service messages are neither."""
        sequence = self._contents * 2 + content
        self._contents += content
        plain = HEADER.pack(self.salt, self.id, self._next_id(kind), sequence, len(body)) + body
        plain += os.urandom(-(len(plain) + 12) % 16 + 12)
        message_key = hashlib.sha256(self._key.key[96:128] + plain).digest()[8:24]
        cipher = AES.encrypt_ige(plain, *MTProtoState._calc_key(self._key.key, message_key, client=False))
        return struct.pack("<Q", self._key.key_id) + message_key + bytes(cipher)

    def seal_answer(self, request_id: int, result: bytes) -> bytes:
        """A packet that answers the request. The result inside is packed, never the answer as a whole."""
        return self.seal(struct.pack("<Iq", RPC_RESULT, request_id) + packed(result), ANSWER)

    def _next_id(self, kind: int) -> int:
        """Above all before it, near the time of day, and odd as a server's must be."""
        by_clock = int(time.time() * 2**32) & ~3
        self._last_id = max(by_clock, (self._last_id & ~3) + 4) | kind
        return self._last_id


def plain_packet(body: bytes) -> bytes:
    """A packet without encryption, for the handshake."""
    return struct.pack("<qqi", 0, int(time.time() * 2**32) & ~3 | ANSWER, len(body)) + body


def packed(body: bytes) -> bytes:
    """The body, gzipped if that makes it smaller."""
    if len(body) <= GZIP_BYTES_MIN:
        return body
    smaller = bytes(GzipPacked(body))
    return smaller if len(smaller) < len(body) else body
