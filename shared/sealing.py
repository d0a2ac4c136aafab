"""Secrets at rest: encrypted, and bound to the row they belong to, so that a ciphertext copied elsewhere opens nothing.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce; the place is the associated data. The keys are the operator's: the first
encrypts, all decrypt, so that a new one can be put in front while everything runs.
"""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_FORM: Final = b"\x01"
_NAME_BYTES: Final = 4
_NONCE_BYTES: Final = 12


class NotOpened(Exception):
    """A sealed secret that no key of ours opens at this place. The message names the place, never the secret."""


class BadKeys(ValueError):
    """The operator's keys cannot be read. The message says how they are written, and nothing of what was given."""


@dataclass(frozen=True, slots=True, repr=False)
class Sealer:
    """Seals and opens with the operator's keys. No repr, for the keys' sake."""

    keys: tuple[bytes, ...]

    @classmethod
    def read(cls, text: str) -> Self:
        """Keys as settings hold them: 32 bytes each in base64 (either alphabet), newest first, separated by commas.

        Raises:
            BadKeys
        """
        try:
            keys = tuple(base64.b64decode(key.strip().translate(str.maketrans("-_", "+/")), validate=True) for key in text.split(","))
        except (binascii.Error, ValueError):
            raise BadKeys("Each secret key is 32 bytes in base64; several are separated by commas.") from None
        if any(len(key) != KEY_BYTES for key in keys):
            raise BadKeys("Each secret key is 32 bytes in base64; several are separated by commas.")
        return cls(keys)

    def seal(self, secret: bytes, place: str) -> bytes:
        """The secret, encrypted for this place, such as `bot_session.token:17`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORM + _name(self.keys[0]) + nonce + AESGCM(self.keys[0]).encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """The reverse of `seal`.

        Raises:
            NotOpened: another place, a key that is not among ours, or damage.
        """
        name = sealed[1 : 1 + _NAME_BYTES]
        start = 1 + _NAME_BYTES
        nonce, body = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        for key in self.keys:
            if sealed[:1] == _FORM and name == _name(key):
                try:
                    return AESGCM(key).decrypt(nonce, body, place.encode())
                except (InvalidTag, ValueError):  # the latter of a nonce that was cut short
                    break
        raise NotOpened(place)


def new_key() -> str:
    """A fresh key, as settings hold it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _name(key: bytes) -> bytes:
    """What tells keys apart without telling anything of them."""
    return hashlib.sha256(b"gatepost sealing key" + key).digest()[:_NAME_BYTES]
