"""The server's RSA key and Diffie-Hellman group, and the auth keys it has agreed on with clients.

The RSA key is for tests alone and lies beside this file, because making one takes up to six seconds.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import rsa
from telethon.crypto import AuthKey
from telethon.crypto.rsa import _compute_fingerprint

PRIVATE_KEY: Final = Path(__file__).with_name("test-key.pem")
PUBLIC_KEY: Final = Path(__file__).with_name("test-key.pub.pem")

#: RFC 3526, group 14: a safe prime of 2048 bits.
DH_PRIME: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D"
    "670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
DH_GENERATOR: Final = 2

#: A short exponent is enough for tests and saves 15 ms at each login.
DH_EXPONENT_BITS: Final = 256

RSA_PADDED_BYTES: Final = 255


def big_endian(number: int) -> bytes:
    """The number in as many bytes as it needs, as MTProto writes it."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


@dataclass(slots=True)
class RsaKey:
    """What clients encrypt their first secret for."""

    key: rsa.PrivateKey = field(default_factory=lambda: rsa.PrivateKey.load_pkcs1(PRIVATE_KEY.read_bytes()))

    @property
    def fingerprint(self) -> int:
        return int(_compute_fingerprint(self.key))

    def decrypt(self, block: bytes) -> bytes:
        """The block without padding, by the Chinese remainder theorem."""
        key, cipher = self.key, int.from_bytes(block, "big")
        by_p = pow(cipher, key.exp1, key.p)
        by_q = pow(cipher, key.exp2, key.q)
        plain = by_q + key.q * ((by_p - by_q) * pow(key.q, -1, key.p) % key.p)
        return int(plain).to_bytes(RSA_PADDED_BYTES, "big")


class DhSecret:
    """The server's half of every key exchange: one for its life, since it is only a test's."""

    def __init__(self) -> None:
        self._exponent = int.from_bytes(os.urandom(DH_EXPONENT_BITS // 8), "big") | 1 << (DH_EXPONENT_BITS - 1)
        self.public = pow(DH_GENERATOR, self._exponent, DH_PRIME)

    def shared(self, theirs: bytes) -> bytes:
        return big_endian(pow(int.from_bytes(theirs, "big"), self._exponent, DH_PRIME))


@dataclass(slots=True, eq=False)
class Agreed:
    """An auth key, the data centre it was agreed with, and which bot logged in with it."""

    key: AuthKey
    dc: int
    bot_id: int | None = None
    destroyed: bool = False
    """Used from two addresses at once: it answers 406 for ever."""

    @property
    def id(self) -> int:
        return int(self.key.key_id)


class KeyRing:
    """The auth keys this server knows."""

    def __init__(self) -> None:
        self._keys: dict[int, Agreed] = {}

    def add(self, key: bytes, dc: int, bot_id: int | None = None) -> Agreed:
        """Know this key. With a bot it is logged in at once, which spares load tests the handshake."""
        agreed = Agreed(AuthKey(key), dc, bot_id)
        self._keys[agreed.id] = agreed
        return agreed

    def find(self, key_id: int, dc: int) -> Agreed | None:
        """The key, if it was agreed with that data centre: each has its own."""
        agreed = self._keys.get(key_id)
        return agreed if agreed is not None and agreed.dc == dc else None

    def of(self, bot_id: int) -> list[Agreed]:
        return [agreed for agreed in self._keys.values() if agreed.bot_id == bot_id]

    def forget(self, agreed: Agreed) -> None:
        self._keys.pop(agreed.id, None)


def sha1(content: bytes) -> bytes:
    """What the handshake checks its own messages with."""
    return hashlib.sha1(content).digest()
