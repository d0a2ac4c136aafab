"""The Markdown of a welcome message: Telegram's legacy form, as its Bot API reads it.

`*bold*`, `_italic_`, `[text](url)`, `` `code` ``, and blocks between ```` ``` ````, with the language first, if any. Nothing nests: inside
an entity every mark but its own end is text. A backslash before `*`, `_`, `` ` `` or `[` makes that text, outside entities only.

Two things are stricter than there, because the text is checked when its author saves it: a link without its closing bracket and one that
leads nowhere are mistakes, where Telegram would drop them in silence.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What an entity does to its text."""

    BOLD = "bold"
    ITALIC = "italic"
    CODE = "code"
    PRE = "pre"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A stretch of text in UTF-16 units, as Telegram counts. `url` is a LINK's, `language` a PRE's."""

    kind: Kind
    offset: int
    length: int
    url: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formatted:
    """Text as Telegram takes it: without marks, without space at its ends, its entities beside it."""

    text: str
    entities: tuple[Entity, ...]

    @property
    def length(self) -> int:
        """The length that Telegram limits, in UTF-16 units."""
        return utf16_length(self.text)


class Fault(StrEnum):
    """What can be wrong with a text."""

    UNCLOSED = "is never closed"
    BAD_LINK = "leads nowhere: a link begins with http://, https:// or tg://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Where a text is wrong: `at` counts characters from 0, `line` and `column` from 1, all at the beginning of `mark`."""

    fault: Fault
    mark: str
    at: int
    line: int
    column: int

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return f"The {self.mark} in line {self.line}, column {self.column} {self.fault}."


_MARKS: Final = "*_`["
_SIMPLE: Final = {"*": Kind.BOLD, "_": Kind.ITALIC, "`": Kind.CODE}
_BLOCK: Final = "```"
_PLAIN: Final = re.compile(r"[^*_`\[\\]+")
_LANGUAGE: Final = re.compile(r"[^\s`]+(?=\s)", re.ASCII)
_NEWLINE: Final = re.compile(r"\r\n|\n\r|\n|\r")
_URL: Final = re.compile(r"(?:https?|tg)://[^\s/?#]+\S*", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,}(?::\d+)?(?:[/?#]\S*)?")


def parse(source: str) -> Formatted | Mistake:
    """The text without its marks and the entities in it, or the first mistake."""
    parts: list[str] = []
    entities: list[Entity] = []
    at = offset = 0
    while at < len(source):
        found = _entity(source, at) if source[at] in _MARKS else _text(source, at)
        if isinstance(found, Fault):
            return _mistake(source, at, found)
        length = utf16_length(found.text)
        if found.entity is not None and length:
            entities.append(replace(found.entity, offset=offset, length=length))
        parts.append(found.text)
        offset += length
        at = found.end
    return _trimmed("".join(parts), entities)


def escape(text: str) -> str:
    """The text so that it comes out as itself wherever it is put outside entities, unless a backslash ends it and a mark follows."""
    return re.sub(r"([*_`\[])", r"\\\1", text)


def utf16_length(text: str) -> int:
    """How many UTF-16 units the text has: two for each character beyond the first 65,536."""
    return len(text) + sum(character > "\uffff" for character in text)


@dataclass(frozen=True, slots=True)
class _Found:
    """What stands at a place: its text, where it ends, and the entity it is, whose place is not known yet."""

    text: str
    end: int
    entity: Entity | None = None


def _text(source: str, at: int) -> _Found:
    if source[at] == "\\":
        escaped = source[at + 1 : at + 2]
        return _Found(escaped, at + 2) if escaped and escaped in _MARKS else _Found("\\", at + 1)
    plain = _PLAIN.match(source, at)
    assert plain is not None, "what is neither a mark nor a backslash is plain"
    return _Found(plain[0], plain.end())


def _entity(source: str, at: int) -> _Found | Fault:
    if source.startswith(_BLOCK, at):
        return _block(source, at)
    mark = source[at]
    if mark == "[":
        return _link(source, at)
    end = source.find(mark, at + 1)
    return Fault.UNCLOSED if end < 0 else _Found(source[at + 1 : end], end + 1, _unplaced(_SIMPLE[mark]))


def _block(source: str, at: int) -> _Found | Fault:
    """A block's first word is its language if space follows; one line's end after it or after the mark is no part of the text."""
    begin = at + len(_BLOCK)
    language = _LANGUAGE.match(source, begin)
    begin = language.end() if language else begin
    newline = _NEWLINE.match(source, begin)
    begin = newline.end() if newline else begin
    end = source.find(_BLOCK, begin)
    if end < 0:
        return Fault.UNCLOSED
    return _Found(source[begin:end], end + len(_BLOCK), _unplaced(Kind.PRE, language=language[0] if language else ""))


def _link(source: str, at: int) -> _Found | Fault:
    """A link; without a target in round brackets the text is its own, and only text if it is none."""
    close = source.find("]", at + 1)
    if close < 0:
        return Fault.UNCLOSED
    text = source[at + 1 : close]
    if not source.startswith("(", close + 1):
        url = _checked(text)
        return _Found(text, close + 1, _unplaced(Kind.LINK, url=url) if url else None)
    end = source.find(")", close + 2)
    if end < 0:
        return Fault.UNCLOSED
    url = _checked(source[close + 2 : end])
    return _Found(text, end + 1, _unplaced(Kind.LINK, url=url)) if url else Fault.BAD_LINK


def _checked(url: str) -> str:
    """The address as a link, with a scheme; empty where it is none."""
    if _URL.fullmatch(url):
        return url
    return f"http://{url}" if _HOST.fullmatch(url) else ""


def _unplaced(kind: Kind, *, url: str = "", language: str = "") -> Entity:
    return Entity(kind=kind, offset=0, length=0, url=url, language=language)


def _trimmed(text: str, entities: list[Entity]) -> Formatted:
    """Telegram takes the space off both ends; the entities must be counted without it."""
    begin = utf16_length(text) - utf16_length(text.lstrip())
    text = text.strip()
    end = utf16_length(text)
    kept = []
    for entity in entities:
        first = max(entity.offset - begin, 0)
        last = min(entity.offset - begin + entity.length, end)
        if first < last:
            kept.append(replace(entity, offset=first, length=last - first))
    return Formatted(text=text, entities=tuple(kept))


def _mistake(source: str, at: int, fault: Fault) -> Mistake:
    before = source[:at]
    mark = _BLOCK if source.startswith(_BLOCK, at) else source[at]
    return Mistake(fault=fault, mark=mark, at=at, line=before.count("\n") + 1, column=at - before.rfind("\n"))
