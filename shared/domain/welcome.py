"""What bots say: the welcome to whoever starts one, and the way to a campaign that has moved to another bot."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.domain import markdown
from shared.domain.markdown import Formatted
from shared.domain.notices import Language
from shared.domain.postbacks import render


@dataclass(frozen=True, slots=True)
class Button:
    """A button that opens an address."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Message:
    """What is shown: a text, and a button below it or none."""

    text: Formatted
    button: Button | None = None


_MOVED: Final[Mapping[Language, tuple[str, str]]] = {
    Language.EN: ("This now goes on in another bot.", "Continue"),
    Language.RU: ("Теперь это продолжается в другом боте.", "Продолжить"),
}


def plain(text: str) -> Message:
    """A text that is shown as it is."""
    return Message(Formatted(text=text, entities=()))


def welcome(source: str, *, button_text: str, button_url: str, values: Mapping[str, str]) -> Message:
    """A campaign's welcome, `values` those of the macros in its button's address.

    Its Markdown was checked when it was saved; what cannot be read all the same is shown as it was typed.
    """
    text = markdown.parse(source)
    button = Button(button_text, render(button_url, values)) if button_text and button_url else None
    return Message(text if isinstance(text, Formatted) else plain(source).text, button)


def moved(link: str, language: Language) -> Message:
    """One neutral line, and a button that leads to the same start at the campaign's present bot."""
    line, button = _MOVED[language]
    return Message(plain(line).text, Button(button, link))
