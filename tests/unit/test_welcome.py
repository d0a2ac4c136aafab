"""What bots say."""

import pytest

from shared.domain.markdown import Kind
from shared.domain.notices import Language
from shared.domain.welcome import Button, moved, plain, welcome

VALUES = {"click": "a&b"}


def test_a_welcome_has_its_entities_and_its_button_the_macros() -> None:
    message = welcome("*Hello*", button_text="Go", button_url="https://example.com/?c={click}&u={username}&{x}", values=VALUES)
    assert (message.text.text, [entity.kind for entity in message.text.entities]) == ("Hello", [Kind.BOLD])
    assert message.button == Button("Go", "https://example.com/?c=a%26b&u=&{x}")


def test_macros_are_for_the_button_only() -> None:
    assert welcome("{click}", button_text="{click}", button_url="https://example.com", values=VALUES).text.text == "{click}"


@pytest.mark.parametrize(("text", "url"), [("", "https://example.com"), ("Go", ""), ("", "")])
def test_half_a_button_is_none(text: str, url: str) -> None:
    assert welcome("Hi", button_text=text, button_url=url, values={}).button is None


def test_a_text_with_a_mistake_is_shown_as_it_was_typed() -> None:
    assert welcome("2 * 2", button_text="", button_url="", values={}) == plain("2 * 2")


@pytest.mark.parametrize("language", Language)
def test_a_moved_campaign_is_one_line_and_a_way_on(language: Language) -> None:
    message = moved("https://t.me/new_bot?start=code12-x", language)
    assert message.button is not None
    assert message.button.url == "https://t.me/new_bot?start=code12-x"
    assert message.text.text
    assert "\n" not in message.text.text
    assert message.text.text.isascii() == (language is Language.EN)
