"""Deep links: what a start carries, and the link back."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.deeplinks import PAYLOAD_LENGTH_MAX, StartPayload, build, build_link, parse, parse_link

CODES = st.text(alphabet=string.ascii_lowercase + string.digits, min_size=6, max_size=10)
CLICKS = st.text(alphabet=string.ascii_letters + string.digits + "_-", max_size=53)


@pytest.mark.parametrize(
    ("payload", "code", "click"),
    [
        ("abc123", "abc123", ""),
        ("abc123-", "abc123", ""),
        ("abc123-x", "abc123", "x"),
        ("abc123-x-y--z-", "abc123", "x-y--z-"),
        ("abc123--", "abc123", "-"),
        ("0123456789-A_b", "0123456789", "A_b"),
        ("abcdef-" + "x" * 57, "abcdef", "x" * 57),
        ("abcdefghij-" + "-" * 53, "abcdefghij", "-" * 53),
    ],
)
def test_the_first_hyphen_parts_code_and_click(payload: str, code: str, click: str) -> None:
    assert parse(payload) == StartPayload(code=code, click=click)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "-",
        "-x",
        "abc12",
        "abc12-x",
        "abcdefghijk",
        "abcdefghijk-x",
        "ABC123-x",
        "abC123",
        "abc_12",
        "abcdef-" + "x" * 58,
        "abcdefg" * 10,
        "abc123-x y",
        " abc123",
        "abc123\n",
        "abc123-x\n",
        "abc123-é",
        "abc123-\u0661",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        "abcdéf",
        "аbс123-x",  # Cyrillic letters that look Latin
        "abc123-😀",
        "abc123-\x00",
        "abc123-%20",
        "abc123=x",
        "\ud800abc123",
    ],
)
def test_what_names_no_code_is_nothing(payload: str) -> None:
    assert parse(payload) is None


@given(CODES, CLICKS)
def test_a_link_carries_what_it_was_built_of(code: str, click: str) -> None:
    link = build("Some_bot", code, click)
    found = re.fullmatch(r"https://t\.me/Some_bot\?start=(.*)", link)
    assert found is not None
    assert len(found[1]) <= PAYLOAD_LENGTH_MAX
    assert parse(found[1]) == StartPayload(code=code, click=click)


@given(st.text())
def test_no_text_is_too_much_for_the_parser(payload: str) -> None:
    found = parse(payload)
    assert found is None or payload.rstrip("-") == f"{found.code}-{found.click}".rstrip("-")


@pytest.mark.parametrize(
    ("username", "code", "click"),
    [
        ("some_bot", "abc12", ""),
        ("some_bot", "abc123-x", "y"),
        ("some_bot", "abc123-", ""),
        ("some_bot", "abc123", "x" * 58),
        ("some_bot", "abc123", "a&b=c"),
        ("some_bot", "abc123", "x#y"),
        ("some_bot/x", "abc123", ""),
        ("some_bot?start=evil01&", "abc123", ""),
        ("", "abc123", ""),
    ],
)
def test_what_would_not_arrive_is_no_link(username: str, code: str, click: str) -> None:
    with pytest.raises(ValueError, match=r"^not a "):
        build(username, code, click)


def test_a_link_to_the_service_bot_carries_its_code() -> None:
    link = build_link("gatepost_bot", "a1B2")
    assert link == "https://t.me/gatepost_bot?start=link-a1B2"
    assert parse_link(link.partition("=")[2]) == "a1B2"


@pytest.mark.parametrize("payload", ["", "link", "link-", "link-a-b", "xlink-a", "link-a ", "LINK-a"])
def test_other_starts_of_the_service_bot_carry_none(payload: str) -> None:
    assert parse_link(payload) == ""
