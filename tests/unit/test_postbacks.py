"""Templates: which set is in force, what macros become, whom a template calls."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.domain.leads import LeadStatus
from shared.domain.postbacks import MACROS, Call, Unsent, call, destination, in_force, render, values

NONE = dict.fromkeys(LeadStatus, "")
OWN = {**NONE, LeadStatus.HOLD: "https://own/hold"}
GLOBAL = {status: f"https://global/{status.name}" for status in LeadStatus}

VALUES = values(
    click="c&1",
    status=LeadStatus.APPROVE,
    campaign="code123",
    user=42,
    lead=7,
    subscriber=123,
    username="",
    chat=-1001234,
    at=datetime(2026, 5, 1, tzinfo=UTC),
)


def test_one_template_of_its_own_makes_the_whole_set_the_campaigns() -> None:
    assert in_force(OWN, GLOBAL) is OWN
    assert in_force(NONE, GLOBAL) is GLOBAL
    assert in_force(NONE, NONE) == NONE


def test_every_macro_has_its_value() -> None:
    assert set(VALUES) == set(MACROS)
    template = "https://t/?" + "&".join(f"{name}={{{name}}}" for name in MACROS)
    assert render(template, VALUES) == (
        "https://t/?click=c%261&status=approve&campaign=code123&user=42&lead=7&subscriber=123&username=&chat=-1001234&time=1777593600"
    )


@pytest.mark.parametrize("value", ["&a=b", "#", "%41", "+", " ", "\r\nX: y", "/../", "?", "😀", "ы", "{lead}", "\\", '"', "x" * 4096])
def test_a_value_changes_nothing_but_its_own_place(value: str) -> None:
    url = urlsplit(render("https://host/p?a={click}&b=1#f", {"click": value}))
    assert (url.netloc, url.path, url.fragment) == ("host", "/p", "f")
    assert parse_qs(url.query) == {"a": [value], "b": ["1"]}


def test_what_is_no_macro_stays_as_typed() -> None:
    assert render("https://t/{Click}/{unknown}/{}/{{lead}}/{click", VALUES) == "https://t/{Click}/{unknown}/{}/{7}/{click"


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("https://Track.Example/p?x={click}", "https://track.example:443"),
        ("HTTP://track.example", "http://track.example:80"),
        ("https://track.example:8443/", "https://track.example:8443"),
        ("http://[2001:DB8::1]/x", "http://[2001:db8::1]:80"),
        ("https://user:secret@track.example/", "https://track.example:443"),
        ("https://{click}.example/", ""),
        ("https://track.example:{user}/", ""),
        ("https://track.example:0/", ""),
        ("https://track.example:99999/", ""),
        ("https:///path", ""),
        ("ftp://track.example/", ""),
        ("{click}", ""),
        ("http://[::1/", ""),
        ("https://two words/", ""),
        ("", ""),
    ],
)
def test_a_template_calls_the_host_it_names(template: str, place: str) -> None:
    assert destination(template) == place


def test_a_template_that_is_empty_or_calls_nobody_makes_no_call() -> None:
    assert call("", VALUES) is Unsent.TEMPLATE_EMPTY
    assert call("https://{click}/", VALUES) is Unsent.TEMPLATE_INVALID
    assert call("http://t/{lead}", VALUES) == Call("http://t/7", "http://t:80")
