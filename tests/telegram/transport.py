"""The four ways in which MTProto packets are framed on a TCP connection, told apart by their first bytes.

0xef                         abridged
0xeeeeeeee                   intermediate
length, then a number 0      full: length, number, packet, CRC
64 bytes that look random    obfuscated2: a cipher round one of the first two
"""

import asyncio
import struct
import zlib
from typing import Final, Protocol

from telethon.crypto import AESModeCTR

READ_BYTES: Final = 65_536
PACKET_BYTES_MAX: Final = 16 * 1024 * 1024

ABRIDGED_TAG: Final = b"\xef"
INTERMEDIATE_TAG: Final = b"\xee" * 4
OBFUSCATED_HEADER_BYTES: Final = 64


class Garbled(Exception):
    """What came is no packet."""


class Stream:
    """The bytes of a connection, deciphered, and with those that were read ahead."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ahead = b""
        self._decipher: AESModeCTR | None = None
        self._encipher: AESModeCTR | None = None

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes; IncompleteReadError once the other side is gone."""
        while len(self._ahead) < size:
            came = await self._reader.read(READ_BYTES)
            if not came:
                raise asyncio.IncompleteReadError(self._ahead, size)
            self._ahead += self._decipher.encrypt(came) if self._decipher else came
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken

    def unread(self, content: bytes) -> None:
        self._ahead = content + self._ahead

    def write(self, content: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(self._encipher.encrypt(content) if self._encipher else content)

    def obfuscate(self, header: bytes) -> bytes:
        """Cipher everything from here on with the keys in this header; the header itself, deciphered."""
        backwards = header[55:7:-1]
        self._decipher = AESModeCTR(header[8:40], header[40:56])
        self._encipher = AESModeCTR(backwards[:32], backwards[32:48])
        plain = bytes(self._decipher.encrypt(header))
        self._ahead = bytes(self._decipher.encrypt(self._ahead)) if self._ahead else b""
        return plain


class Framing(Protocol):
    """How packets are told apart on the stream."""

    async def read(self, stream: Stream) -> bytes: ...
    def frame(self, packet: bytes) -> bytes: ...


class Abridged:
    """The length in words, in one byte or in four."""

    async def read(self, stream: Stream) -> bytes:
        words = (await stream.read(1))[0]
        if words == 0x7F:
            words = int.from_bytes(await stream.read(3), "little")
        return await stream.read(words * 4)

    def frame(self, packet: bytes) -> bytes:
        words = len(packet) // 4
        length = bytes([words]) if words < 0x7F else b"\x7f" + words.to_bytes(3, "little")
        return length + packet


class Intermediate:
    """The length in bytes, in four."""

    async def read(self, stream: Stream) -> bytes:
        return await stream.read(checked(int.from_bytes(await stream.read(4), "little")))

    def frame(self, packet: bytes) -> bytes:
        return len(packet).to_bytes(4, "little") + packet


class Full:
    """Length, number, packet and CRC; the server counts its packets on its own."""

    OVERHEAD_BYTES: Final = 12

    def __init__(self) -> None:
        self._sent = 0

    async def read(self, stream: Stream) -> bytes:
        length = await stream.read(4)
        rest = await stream.read(checked(int.from_bytes(length, "little")) - 4)
        if zlib.crc32(length + rest[:-4]) != int.from_bytes(rest[-4:], "little"):
            raise Garbled("the checksum is another")
        return rest[4:-4]

    def frame(self, packet: bytes) -> bytes:
        framed = struct.pack("<ii", len(packet) + self.OVERHEAD_BYTES, self._sent) + packet
        self._sent += 1
        return framed + zlib.crc32(framed).to_bytes(4, "little")


def checked(length: int) -> int:
    if not 0 < length <= PACKET_BYTES_MAX:
        raise Garbled(f"a packet of {length} bytes")
    return length


async def negotiate(stream: Stream) -> Framing:
    """Which framing the client has chosen. The server never says one word about it."""
    start = await stream.read(1)
    if start == ABRIDGED_TAG:
        return Abridged()
    start += await stream.read(7)
    if start[:4] == INTERMEDIATE_TAG:
        stream.unread(start[4:])
        return Intermediate()
    if start[4:8] == b"\0\0\0\0":
        stream.unread(start)
        return Full()
    plain = stream.obfuscate(start + await stream.read(OBFUSCATED_HEADER_BYTES - len(start)))
    match plain[56:60]:
        case b"\xef\xef\xef\xef":
            return Abridged()
        case b"\xee\xee\xee\xee":
            return Intermediate()
        case tag:
            raise Garbled(f"no framing is known by {tag!r}")
