"""What an owner may choose for a campaign, and when one may be made or resumed."""

from dataclasses import replace
from typing import Any

import pytest

from shared.domain.campaigns import (
    BUTTON_TEXT_LENGTH_MAX,
    CAPTION_LENGTH_MAX,
    TEMPLATE_LENGTH_MAX,
    WELCOME_LENGTH_MAX,
    Reason,
    Room,
    Settings,
    disagreements,
    may_add,
    may_resume,
    mistake,
    template_fault,
)
from shared.domain.plans import PlanCode


@pytest.mark.parametrize(
    "template",
    [
        "http://t.example",
        "https://t.example/",
        "https://t.example:8443/postback?subid={click}&status={status}#{lead}",
        "HTTPS://T.EXAMPLE/{unknown}/{}",
        "https://t.example?x={click}",
        "https://t.example#{click}",
        "https://t.example/a@b?c=d@e#f@g",
        "https://пример.рф/путь?имя={username}",
        "https://[2001:db8::1]/x",
        "https://203.0.113.7/x?u=http://other.example/",
        "https://t.example/" + "x" * (TEMPLATE_LENGTH_MAX - len("https://t.example/")),
    ],
)
def test_an_address_may_hold_macros_anywhere_after_its_host(template: str) -> None:
    assert template_fault(template) == ""


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("t.example/x", "begins with"),
        ("//t.example/x", "begins with"),
        ("ftp://t.example/x", "begins with"),
        ("javascript:alert(1)", "begins with"),
        ("{click}", "begins with"),
        ("{click}://t.example", "begins with"),
        ("https://", "no host"),
        ("https:///x", "no host"),
        ("https:t.example", "no host"),
        ("https://:80/x", "no host"),
        ("https://?x={click}", "no host"),
        ("https://ann@t.example/x", "user or a password"),
        ("https://ann:secret@t.example/x", "user or a password"),
        ("https://@t.example/x", "user or a password"),
        ("https://{click}@t.example/x", "user or a password"),
        ("https://{click}.t.example/x", "not for the host"),
        ("https://t.example{click}/x", "not for the host"),
        ("https://{click}", "not for the host"),
        ("https://t.example:port/x", "no address"),
        ("https://t.example:{lead}/x", "no address"),
        ("https://t.example:99999/x", "no address"),
        ("https://[::1/x", "no address"),
        ("https://t.example/a b", "space"),
        ("https://t.example\\@other.example/", "space"),
        ("https://t.example/\n", "space"),
        ("https://t.ex\tample/", "space"),
        (" https://t.example/", "space"),
        ("https://t.example/\u202e", "space"),
        ("https://t.example/" + "x" * TEMPLATE_LENGTH_MAX, "longer"),
    ],
)
def test_what_is_no_good_address_is_told_why(template: str, why: str) -> None:
    assert why in template_fault(template)
    for name in ("pb_wait", "pb_hold", "pb_approve", "pb_cancel", "pb_trash", "button_url"):
        found = mistake({name: template})
        assert found is not None
        assert (found.reason, found.field) == (Reason.INVALID, name)


def test_a_mistake_in_the_welcome_message_is_told_with_its_place() -> None:
    found = mistake({"welcome": "*Hi*\nyou _there"})
    assert found is not None
    assert (found.field, found.message) == ("welcome", "The _ in line 2, column 5 is never closed.")


def test_nothing_given_is_no_mistake() -> None:
    assert mistake({}) is None
    assert mistake({**dict.fromkeys(("welcome", "media", "button_text", "button_url", "pb_wait"), ""), "unsub_window": 0}) is None


def test_a_button_has_room_for_so_many_characters() -> None:
    assert mistake({"button_text": "x" * BUTTON_TEXT_LENGTH_MAX}) is None
    assert mistake({"button_text": "x" * (BUTTON_TEXT_LENGTH_MAX + 1)}) is not None


@pytest.mark.parametrize(
    ("settings", "blamed"),
    [
        ({"welcome": "x" * WELCOME_LENGTH_MAX}, None),
        ({"welcome": "x" * (WELCOME_LENGTH_MAX + 1)}, "welcome"),
        ({"welcome": "*" + "x" * WELCOME_LENGTH_MAX + "*"}, None),
        ({"welcome": "🐈" * (WELCOME_LENGTH_MAX // 2)}, None),
        ({"welcome": "🐈" * (WELCOME_LENGTH_MAX // 2) + "x"}, "welcome"),
        ({"welcome": "x" * CAPTION_LENGTH_MAX, "media": "m"}, None),
        ({"welcome": "x" * (CAPTION_LENGTH_MAX + 1), "media": "m"}, "welcome"),
        ({"welcome": "", "media": "m"}, None),
        ({"welcome": "", "media": ""}, "welcome"),
        ({"welcome": " \n "}, "welcome"),
        ({"welcome": "**"}, "welcome"),
        ({"button_text": "Go", "button_url": "https://t.example"}, None),
        ({"button_text": "Go"}, "button_url"),
        ({"button_url": "https://t.example"}, "button_text"),
        ({"button_text": "  ", "button_url": "https://t.example"}, "button_text"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_must_go_together(settings: dict[str, Any], blamed: str | None) -> None:
    found = disagreements(replace(Settings(welcome="Hi"), **settings))
    assert [refusal.field for refusal in found] == ([blamed] if blamed else [])


GOOD = Room(plan=PlanCode.CAT, active=14, fit=True, admin=True, taken=False)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, None),
        ({"active": 15}, ("limit", "bot")),
        ({"active": 99, "plan": PlanCode.TIGER}, None),
        ({"plan": PlanCode.KITTEN, "active": 0}, None),
        ({"plan": PlanCode.KITTEN, "active": 1}, ("limit", "bot")),
        ({"taken": True}, ("exists", "chat")),
        ({"admin": False}, ("nobot", "bot")),
        ({"fit": False}, ("nobot", "bot")),
        ({"taken": True, "admin": False}, ("exists", "chat")),
        ({"active": 15, "taken": True, "admin": False}, ("limit", "bot")),
    ],
    ids=str,
)
def test_a_campaign_needs_a_slot_a_place_and_an_administrator(change: dict[str, Any], refused: tuple[str, str] | None) -> None:
    found = may_add(replace(GOOD, **change))
    assert ((found.reason, found.field) if found else None) == refused


@pytest.mark.parametrize(
    ("active", "connected", "refused"),
    [(14, True, None), (15, True, ("limit", "id")), (14, False, ("nobot", "id")), (15, False, ("limit", "id"))],
)
def test_resuming_needs_a_slot_and_a_connected_bot(active: int, connected: bool, refused: tuple[str, str] | None) -> None:
    found = may_resume(PlanCode.CAT, active=active, connected=connected)
    assert ((found.reason, found.field) if found else None) == refused
