"""API keys and transfer tokens: their form, their checksum, their hash.

A key is `gp_`, 30 random letters or digits (178 bits) and 6 of checksum. The checksum lets a mistyped key, or a key found in the wild,
be told from a real one without asking the database (the form GitHub gave its tokens in 2021). At rest there is only a SHA-256:
a slow hash protects guessable passwords, and nothing here can be guessed.
"""

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TRANSFER_TOKEN_LENGTH = 22  # 131 bits: a token can be looked up by anybody, so it must not be guessable
LINK_CODE_LENGTH = 22
_PREFIX = "gp_"
_SECRET_LENGTH = 30
_CHECKSUM_LENGTH = 6
_CREDENTIAL = re.compile(r"([1-9][0-9]{0,17})-(gp_[0-9A-Za-z]{36})", re.ASCII)

#: Picks one of the given letters; `secrets.choice` outside tests.
Choice = Callable[[str], str]


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """Who a request says it comes from. Has no repr, so that a key never reaches a log by accident."""

    account: int
    key: str


def new_key(choice: Choice) -> str:
    """A fresh API key."""
    secret = _PREFIX + "".join(choice(ALPHABET) for _ in range(_SECRET_LENGTH))
    return secret + _checksum(secret)


def new_transfer_token(choice: Choice) -> str:
    """A fresh transfer token: 22 letters or digits (public API)."""
    return "".join(choice(ALPHABET) for _ in range(TRANSFER_TOKEN_LENGTH))


def new_link_code(choice: Choice) -> str:
    """A fresh one-time code that links an account's owner."""
    return "".join(choice(ALPHABET) for _ in range(LINK_CODE_LENGTH))


def parse_credential(text: str) -> Credential | None:
    """Read `{account}-{key}`; None when it is no key of ours, whoever's it may be."""
    match = _CREDENTIAL.fullmatch(text)
    if match is None:
        return None
    key = match[2]
    body, checksum = key[:-_CHECKSUM_LENGTH], key[-_CHECKSUM_LENGTH:]
    return Credential(int(match[1]), key) if _checksum(body) == checksum else None


def hash_key(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("ascii")).digest()


def key_matches(key: str, kept: bytes) -> bool:
    """Whether `kept` is the hash of this key, in a time that does not depend on where they differ."""
    return hmac.compare_digest(hash_key(key), kept)


def _checksum(text: str) -> str:
    """CRC-32 in base 62, padded to six characters."""
    number = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
