"""How client and server agree on an auth key: three plain questions, three plain answers.

ReqPqMulti           -> ResPQ                     here is a product of two primes
ReqDHParams          -> ServerDHParamsOk | Fail   here are my half of the key and the group
SetClientDHParams    -> DhGenOk | DhGenRetry      we have the same key
"""

import os
import time
from dataclasses import dataclass
from typing import Any, Final

from telethon.crypto import AES, AuthKey
from telethon.extensions import BinaryReader
from telethon.helpers import generate_key_data_from_nonce
from telethon.tl import functions, types

from tests.telegram.keys import DH_GENERATOR, DH_PRIME, DhSecret, KeyRing, RsaKey, big_endian, sha1

#: Big enough that Telethon factorises the product at once and without a mistake; the top bit of the product's first byte
#: is 0, because Telethon reads it with a sign.
P, Q = big_endian(15_485_863), big_endian(32_452_843)
PQ: Final = big_endian(15_485_863 * 32_452_843)

AUTH_KEY_BYTES: Final = 256
SHA1_BYTES: Final = 20


class Broken(Exception):
    """The client asked for something that has no place in a handshake."""


@dataclass(slots=True)
class Secrets:
    """What a server needs for its handshakes."""

    rsa: RsaKey
    dh: DhSecret
    ring: KeyRing


class Handshake:
    """One client's way to a key."""

    def __init__(self, secrets: Secrets, dc: int) -> None:
        self._secrets, self._dc = secrets, dc
        self._server_nonce = int.from_bytes(os.urandom(16), "little", signed=True)
        self._new_nonce = 0

    def answer(self, request: Any) -> Any:
        match request:
            case functions.ReqPqMultiRequest():
                return types.ResPQ(request.nonce, self._server_nonce, PQ, [self._secrets.rsa.fingerprint])
            case functions.ReqDHParamsRequest():
                return self._offer_half(request)
            case functions.SetClientDHParamsRequest():
                return self._agree(request)
            case _:
                raise Broken(type(request).__name__)

    def _offer_half(self, request: Any) -> Any:
        inner = checked_inner(self._secrets.rsa.decrypt(request.encrypted_data))
        self._new_nonce = inner.new_nonce
        if {inner.p, inner.q} != {P, Q}:
            # Telethon's factorisation is wrong about once in a thousand times. It asks again after this answer.
            hashed = sha1(inner.new_nonce.to_bytes(32, "little", signed=True))[4:20]
            return types.ServerDHParamsFail(request.nonce, self._server_nonce, int.from_bytes(hashed, "little", signed=True))
        half = types.ServerDHInnerData(
            request.nonce,
            self._server_nonce,
            DH_GENERATOR,
            big_endian(DH_PRIME),
            big_endian(self._secrets.dh.public),
            int(time.time()),
        )
        hashed = sha1(bytes(half)) + bytes(half)
        padded = hashed + os.urandom(-len(hashed) % 16)
        return types.ServerDHParamsOk(request.nonce, self._server_nonce, AES.encrypt_ige(padded, *self._cipher()))

    def _agree(self, request: Any) -> Any:
        inner = checked_inner(AES.decrypt_ige(request.encrypted_data, *self._cipher()))
        shared = self._secrets.dh.shared(inner.g_b)
        if len(shared) != AUTH_KEY_BYTES:
            # Once in 256 times it begins with a zero byte, which Telethon does not pad. It asks again after this answer.
            nonce_hash = AuthKey(shared).calc_new_nonce_hash(self._new_nonce, 2)
            return types.DhGenRetry(request.nonce, self._server_nonce, nonce_hash)
        agreed = self._secrets.ring.add(shared, self._dc)
        return types.DhGenOk(request.nonce, self._server_nonce, agreed.key.calc_new_nonce_hash(self._new_nonce, 1))

    def _cipher(self) -> tuple[bytes, bytes]:
        key, vector = generate_key_data_from_nonce(self._server_nonce, self._new_nonce)
        return key, vector


def checked_inner(plain: bytes) -> Any:
    """The object behind its hash."""
    with BinaryReader(plain[SHA1_BYTES:]) as reader:
        inner = reader.tgread_object()
    if sha1(bytes(inner)) != plain[:SHA1_BYTES]:
        raise Broken("the hash of the inner data is another")
    return inner
