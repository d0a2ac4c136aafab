"""Legacy Markdown: what each text comes to, where a mistake is, and no text that breaks the parser."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.markdown import Entity, Fault, Formatted, Kind, Mistake, escape, parse, utf16_length

#: Emoji of two units, of seven (a family of three), a flag, a letter of Gothic, a lone half of a pair, a joined accent.
FACE, FAMILY, FLAG, GOTHIC, HALF, ACCENT = "😀", "👨‍👩‍👧", "🇩🇪", "𐍈", "\ud83d", "e\u0301"
#: Text made mostly of what means something.
MARKED: Final = st.text(alphabet=st.one_of(st.sampled_from("*_`[]()\\ \n\r" + FACE + "яa/:."), st.characters()), max_size=40)

HOSTILE: Final = [
    "_",
    "*bold*",
    "__init__",
    "[click](http://evil.example)",
    "a`b```c",
    "\\",
    "\\_\\",
    "\\*",
    "[",
    "](http://evil.example)",
    "Robert'); DROP TABLE lead;--",
    "\u202egnp.exe",
    "Ибн_Сина*",
    f"{FACE}_{FAMILY}*{FLAG}",
    "<b>&amp;</b>",
    "{click}%0a%s",
    "\x00\x1b[31m",
    "a\r\nb",
    HALF,
]


def bold(offset: int, length: int) -> Entity:
    return Entity(kind=Kind.BOLD, offset=offset, length=length)


def italic(offset: int, length: int) -> Entity:
    return Entity(kind=Kind.ITALIC, offset=offset, length=length)


def code(offset: int, length: int) -> Entity:
    return Entity(kind=Kind.CODE, offset=offset, length=length)


def pre(offset: int, length: int, language: str = "") -> Entity:
    return Entity(kind=Kind.PRE, offset=offset, length=length, language=language)


def link(offset: int, length: int, url: str) -> Entity:
    return Entity(kind=Kind.LINK, offset=offset, length=length, url=url)


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("", "", []),
        ("plain, with ) and ] and (", "plain, with ) and ] and (", []),
        ("*bold*", "bold", [bold(0, 4)]),
        ("a _b_ c", "a b c", [italic(2, 1)]),
        ("`x = 1`", "x = 1", [code(0, 5)]),
        ("*a*_b_`c`", "abc", [bold(0, 1), italic(1, 1), code(2, 1)]),
        ("snake_case_x", "snakecasex", [italic(5, 4)]),
        ("[text](https://t.me/x)", "text", [link(0, 4, "https://t.me/x")]),
        ("[two words](http://a.example/?q=*_`[)!", "two words!", [link(0, 9, "http://a.example/?q=*_`[")]),
        ("[user](tg://user?id=5)", "user", [link(0, 4, "tg://user?id=5")]),
        ("[x](example.com/a)", "x", [link(0, 1, "http://example.com/a")]),
        ("[x](HTTPS://EXAMPLE.COM)", "x", [link(0, 1, "HTTPS://EXAMPLE.COM")]),
        ("[x](пример.рф)", "x", [link(0, 1, "http://пример.рф")]),
        ("[https://a.example]", "https://a.example", [link(0, 17, "https://a.example")]),
        ("[not a link]", "not a link", []),
        ("[x] (http://a.example)", "x (http://a.example)", []),
        ("[](http://a.example)", "", []),
        ("```\nx\ny\n```", "x\ny", [pre(0, 3)]),
        ("```py\nx```", "x", [pre(0, 1, "py")]),
        ("```py\r\nx```", "x", [pre(0, 1, "py")]),
        ("```py x```", "x", [pre(0, 1, "py")]),
        ("```x```", "x", [pre(0, 1)]),
        ("a```\n\nx```", "a\nx", [pre(1, 2)]),
        ("```a`b``c```", "a`b``c", [pre(0, 6)]),
        ("``", "", []),
        ("``````", "", []),
        ("**", "", []),
        ("**a**", "a", []),
    ],
)
def test_marks_become_entities(source: str, text: str, entities: list[Entity]) -> None:
    assert parse(source) == Formatted(text=text, entities=tuple(entities))


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("*a_b*", "a_b", [bold(0, 3)]),
        ("_*a*_", "*a*", [italic(0, 3)]),
        ("`*a* _b_ [c](d)`", "*a* _b_ [c](d)", [code(0, 14)]),
        ("[*a*](http://a.example)", "*a*", [link(0, 3, "http://a.example")]),
        ("*a [b](http://a.example) c*", "a [b](http://a.example) c", [bold(0, 25)]),
    ],
)
def test_nothing_nests(source: str, text: str, entities: list[Entity]) -> None:
    assert parse(source) == Formatted(text=text, entities=tuple(entities))


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        (r"\*a\*", "*a*", []),
        (r"snake\_case\_x", "snake_case_x", []),
        (r"\`a\`", "`a`", []),
        (r"\[a](b)", "[a](b)", []),
        (r"\\", r"\\", []),
        (r"\\_", r"\_", []),
        (r"a\b \] \( \-", r"a\b \] \( \-", []),
        ("a\\", "a\\", []),
        (r"*a\*b", r"a\b", [bold(0, 2)]),
        (r"_a\_", "a\\", [italic(0, 2)]),
        (r"\**a*", "*a", [bold(1, 1)]),
        (r"*snake\_case*", r"snake\_case", [bold(0, 11)]),
    ],
)
def test_a_backslash_counts_outside_entities_only(source: str, text: str, entities: list[Entity]) -> None:
    assert parse(source) == Formatted(text=text, entities=tuple(entities))


@pytest.mark.parametrize(
    ("source", "entities"),
    [
        (f"{FACE}*a*", [bold(2, 1)]),
        (f"*{FACE}*a_b_", [bold(0, 2), italic(3, 1)]),
        (f"{FAMILY} *{FAMILY}*", [bold(9, 8)]),
        (f"{FLAG}*{FLAG}*", [bold(4, 4)]),
        (f"{GOTHIC}_{GOTHIC}_`x`", [italic(2, 2), code(4, 1)]),
        (f"{HALF}*a*", [bold(1, 1)]),
        (f"{ACCENT}*a*", [bold(2, 1)]),
        ("Привет, *мир*!", [bold(8, 3)]),
        ("عربي *غامق*", [bold(5, 4)]),
        (f"\\_{FACE}\\*[{FACE}](http://a.example)", [link(4, 2, "http://a.example")]),
    ],
)
def test_offsets_are_units_of_utf_16(source: str, entities: list[Entity]) -> None:
    found = parse(source)
    assert isinstance(found, Formatted)
    assert list(found.entities) == entities
    assert found.length == len(found.text.encode("utf-16-le", "surrogatepass")) // 2


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("  *a*  ", "a", [bold(0, 1)]),
        ("\n *a* b\n", "a b", [bold(0, 1)]),
        ("* a *", "a", [bold(0, 1)]),
        ("* *a", "a", []),
        (" * *_b_ * * ", "b", [italic(0, 1)]),
        ("*a\n*", "a", [bold(0, 1)]),
        (" \n ", "", []),
    ],
)
def test_space_at_the_ends_is_taken_off_and_the_entities_move(source: str, text: str, entities: list[Entity]) -> None:
    assert parse(source) == Formatted(text=text, entities=tuple(entities))


@pytest.mark.parametrize(
    ("source", "at", "line", "column", "mark"),
    [
        ("*", 0, 1, 1, "*"),
        ("a *b", 2, 1, 3, "*"),
        ("*a* _b", 4, 1, 5, "_"),
        ("snake_case", 5, 1, 6, "_"),
        ("a\nb\n  `c", 6, 3, 3, "`"),
        ("a ```b``", 2, 1, 3, "```"),
        ("```", 0, 1, 1, "```"),
        ("````", 0, 1, 1, "```"),
        ("***", 2, 1, 3, "*"),
        ("[a", 0, 1, 1, "["),
        ("x [a](http://b", 2, 1, 3, "["),
        (f"{FACE}{FAMILY}\n{FACE} *", 9, 2, 3, "*"),
        (r"\**", 2, 1, 3, "*"),
    ],
)
def test_what_is_never_closed_is_a_mistake_where_it_begins(source: str, at: int, line: int, column: int, mark: str) -> None:
    found = parse(source)
    assert found == Mistake(fault=Fault.UNCLOSED, mark=mark, at=at, line=line, column=column)
    assert found.message == f"The {mark} in line {line}, column {column} is never closed."


@pytest.mark.parametrize(
    "url",
    ["", " ", "x", "javascript:alert(1", "http://", "https:///x", "ftp://a.example", "a b.example", "file:///etc/passwd", "tg:", "{click}"],
)
def test_a_link_that_leads_nowhere_is_a_mistake(url: str) -> None:
    found = parse(f"see [a]({url})")
    assert found == Mistake(fault=Fault.BAD_LINK, mark="[", at=4, line=1, column=5)
    assert "leads nowhere" in found.message


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_comes_out_as_itself(name: str) -> None:
    found = parse(f"*Hello,* {escape(name)} and _welcome_")
    assert isinstance(found, Formatted)
    assert found.text == f"Hello, {name} and welcome"
    assert [entity.kind for entity in found.entities] == [Kind.BOLD, Kind.ITALIC]


@given(MARKED)
def test_no_text_breaks_the_parser_and_entities_lie_within_in_order(source: str) -> None:
    found = parse(source)
    if isinstance(found, Mistake):
        assert source.startswith(found.mark, found.at)
        assert source.split("\n")[found.line - 1][found.column - 1 :].startswith(found.mark)
        return
    end = 0
    for entity in found.entities:
        assert entity.offset >= end
        assert entity.length > 0
        end = entity.offset + entity.length
        assert (entity.kind is Kind.LINK) is bool(entity.url)
    assert end <= found.length
    assert found.text == found.text.strip()
    units = found.text.encode("utf-16-le", "surrogatepass")
    for entity in found.entities:
        inside = units[2 * entity.offset : 2 * (entity.offset + entity.length)].decode("utf-16-le", "surrogatepass")
        assert utf16_length(inside) == entity.length
        assert inside in source


@given(MARKED)
def test_escaped_text_is_only_text(text: str) -> None:
    assert parse(escape(text)) == Formatted(text=text.strip(), entities=())


def test_a_long_text_of_marks_is_parsed_in_no_time() -> None:
    for source in ("*" * 100_001, "[" * 100_000, "```" * 33_333, "\\" * 100_000, "*a*" * 50_000, "[a](" * 25_000):
        parse(source)
