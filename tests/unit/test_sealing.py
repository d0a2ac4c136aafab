"""Secrets at rest."""

import pytest

from shared.sealing import BadKeys, NotOpened, Sealer, new_key

PLACE = "bot_session.token:17"


def test_what_is_sealed_opens_at_its_place() -> None:
    sealer = Sealer.read(new_key())
    assert sealer.open(sealer.seal(b"secret", PLACE), PLACE) == b"secret"


def test_the_secret_does_not_show_and_no_two_seals_are_alike() -> None:
    sealer = Sealer.read(new_key())
    first, second = sealer.seal(b"secret", PLACE), sealer.seal(b"secret", PLACE)
    assert b"secret" not in first
    assert first != second


def test_a_seal_copied_to_another_row_does_not_open() -> None:
    sealer = Sealer.read(new_key())
    with pytest.raises(NotOpened, match="token:18"):
        sealer.open(sealer.seal(b"secret", PLACE), "bot_session.token:18")


@pytest.mark.parametrize("place", range(40))
def test_a_changed_byte_does_not_open(place: int) -> None:
    sealer = Sealer.read(new_key())
    sealed = bytearray(sealer.seal(b"secret!", PLACE))
    sealed[place] ^= 1
    with pytest.raises(NotOpened):
        sealer.open(bytes(sealed), PLACE)


@pytest.mark.parametrize("length", range(40))
def test_what_was_cut_short_does_not_open(length: int) -> None:
    sealer = Sealer.read(new_key())
    sealed = sealer.seal(b"secret!", PLACE)
    assert length < len(sealed) == 40
    with pytest.raises(NotOpened):
        sealer.open(sealed[:length], PLACE)


def test_a_new_key_in_front_goes_on_opening_what_the_old_one_sealed() -> None:
    old, new = new_key(), new_key()
    sealed = Sealer.read(old).seal(b"secret", PLACE)
    both = Sealer.read(f"{new},{old}")
    assert both.open(sealed, PLACE) == b"secret"
    assert Sealer.read(new).open(both.seal(b"secret", PLACE), PLACE) == b"secret"
    with pytest.raises(NotOpened):
        Sealer.read(new).open(sealed, PLACE)


@pytest.mark.parametrize("text", ["", "abc", "not base64!", "AAAA", new_key() + ",", new_key()[:-5]])
def test_keys_that_cannot_be_read_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(BadKeys) as error:
        Sealer.read(text)
    assert not text or text not in str(error.value)
    assert error.value.__cause__ is None
