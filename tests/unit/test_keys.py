"""API keys and transfer tokens."""

import hashlib
import random
import string
from itertools import cycle

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.domain import keys
from shared.domain.keys import ALPHABET, Credential

#: A slow machine is no failure.
steady = settings(deadline=None)

secrets_ = st.integers(min_value=0).map(lambda seed: keys.new_key(random.Random(seed).choice))
accounts = st.integers(min_value=1, max_value=10**18 - 1)


def test_a_key_says_whose_product_it_is_and_has_a_fixed_length() -> None:
    key = keys.new_key(lambda letters: letters[0])
    assert key == "gp_" + "0" * 30 + key[-6:]
    assert len(key) == 39


def test_the_checksum_is_the_crc_of_the_rest_in_base_62() -> None:
    """Worked out apart from the code once (the CRC as gzip writes it), so that keys already given out stay good."""
    assert keys.new_key(lambda letters: letters[0]) == "gp_" + "0" * 30 + "3xHz9K"


def test_a_transfer_token_is_22_letters_or_digits() -> None:
    token = keys.new_transfer_token(random.Random(1).choice)
    assert len(token) == 22
    assert set(token) <= set(string.ascii_letters + string.digits)


def test_every_letter_is_drawn_from_the_whole_alphabet() -> None:
    offered: list[str] = []
    letters = cycle(ALPHABET)

    def choose(alphabet: str) -> str:
        offered.append(alphabet)
        return next(letters)

    keys.new_transfer_token(choose)
    keys.new_key(choose)
    assert offered == [string.digits + string.ascii_uppercase + string.ascii_lowercase] * 52


@steady
@given(accounts, secrets_)
def test_a_credential_reads_back(account: int, key: str) -> None:
    assert keys.parse_credential(f"{account}-{key}") == Credential(account, key)


@steady
@given(accounts, secrets_, st.integers(min_value=3, max_value=38), st.sampled_from(ALPHABET))
def test_one_mistyped_letter_is_always_noticed(account: int, key: str, place: int, letter: str) -> None:
    assume(key[place] != letter)
    assert keys.parse_credential(f"{account}-{key[:place]}{letter}{key[place + 1 :]}") is None


@steady
@given(accounts, secrets_, st.integers(min_value=3, max_value=37))
def test_two_letters_swapped_are_always_noticed(account: int, key: str, place: int) -> None:
    assume(key[place] != key[place + 1])
    assert keys.parse_credential(f"{account}-{key[:place]}{key[place + 1]}{key[place]}{key[place + 2 :]}") is None


@steady
@given(st.text())
def test_any_other_text_is_no_credential(text: str) -> None:
    assert keys.parse_credential(text) is None


@pytest.mark.parametrize(
    "spoil",
    ["{0}-{1}\n", " {0}-{1}", "{0}-{1} ", "0{0}-{1}", "-{0}-{1}", "{0}{1}", "{0}--{1}", "0-{1}", "٤-{1}", "{0}-{1}{1}", "1{0:020}-{1}"],
)
def test_what_stands_round_a_key_makes_it_none(spoil: str) -> None:
    key = keys.new_key(random.Random(1).choice)
    assert keys.parse_credential(f"42-{key}") is not None
    assert keys.parse_credential(spoil.format(42, key)) is None


def test_the_key_of_a_credential_does_not_show_when_it_is_printed() -> None:
    key = keys.new_key(random.Random(1).choice)
    credential = keys.parse_credential(f"42-{key}")
    assert key not in repr(credential)
    assert key not in str([credential])


@steady
@given(secrets_)
def test_only_a_hash_is_kept(key: str) -> None:
    assert keys.hash_key(key) == hashlib.sha256(key.encode()).digest()


@steady
@given(secrets_, secrets_)
def test_a_key_matches_its_own_hash_and_no_other(key: str, other: str) -> None:
    assert keys.key_matches(key, keys.hash_key(key))
    assert keys.key_matches(key, keys.hash_key(other)) == (key == other)
    assert not keys.key_matches(key, b"")
    assert not keys.key_matches(key, keys.hash_key(key)[:-1])
