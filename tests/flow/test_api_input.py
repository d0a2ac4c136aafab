"""Bad input. Cases come from the route table, so that no new endpoint escapes them; whatever is sent, nothing is written."""

import json
from collections.abc import Iterator
from typing import Any, Final, get_args
from urllib.parse import quote, urlencode
from uuid import UUID

import pytest
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from services.gateway.app import ENDPOINTS
from services.gateway.endpoints import Endpoint
from services.gateway.params import FIELDS_MAX
from shared.db import schema
from shared.local import Services
from tests.api import Answer
from tests.flow.test_api_envelope import House, check, error, house
from tests.world import Account

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

GETS: Final = [endpoint for endpoint in ENDPOINTS if endpoint.method == "GET"]
POSTS: Final = [endpoint for endpoint in ENDPOINTS if endpoint.method == "POST"]
TRANSFERS: Final = [endpoint for endpoint in POSTS if "leads" in endpoint.model.model_fields]
WITH_FIELDS: Final = [endpoint for endpoint in POSTS if any(info.is_required() for info in endpoint.model.model_fields.values())]


def name_of(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path.removeprefix('/api/').removesuffix('.json')}"


def every(endpoints: list[Endpoint]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("endpoint", endpoints, ids=name_of)


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(local, template, tmp_path_factory.mktemp("input")) as home:
        yield home


@pytest.fixture(scope="module")
def ann(home: House) -> Account:
    return home.world.account("Ann")


#: What an owner can choose for a campaign, and for a bot.
SETTINGS: Final = {"welcome": "Hi", "answer": 1}


@pytest.fixture(scope="module")
def good(home: House, ann: Account) -> dict[str, object]:
    """A value for each field that would be accepted: a request with one bad field has nothing else against it."""
    bot, (campaign,) = home.world.bot_with_campaigns(ann, 1, welcome="Hi")
    token = home.world.account("Ben").token
    chat = home.one("SELECT min(tg_id) FROM chat")
    return {
        "id": campaign,
        "camp": campaign,
        "bot": bot,
        "token": token,
        "leads": 1,
        "transfer": str(UUID(int=1)),
        **SETTINGS,
        "chat": chat,
    }


def fingerprint(home: House) -> dict[str, object]:
    """A digest of every table."""
    return {
        table: home.db.execute(f"SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM \"{table}\" t").fetchone()
        for table in schema.metadata.tables
    }


@pytest.fixture(autouse=True)
def nothing_is_written(home: House, good: dict[str, object]) -> Iterator[None]:
    before = fingerprint(home)
    yield
    assert fingerprint(home) == before


def send(home: House, account: Account, endpoint: Endpoint, fields: dict[str, Any], *, form: bool = False) -> Answer:
    """A request with these fields, where the endpoint looks for them."""
    headers = {"Authorization": f"Bearer {account.key}"}
    if endpoint.method == "GET":
        return home.api.send("GET", f"{endpoint.path}?{urlencode(fields)}", headers=headers)
    headers["Content-Type"] = FORM if form else JSON
    return home.api.send("POST", endpoint.path, (urlencode(fields) if form else json.dumps(fields)).encode(), headers)


def post(home: House, account: Account, endpoint: Endpoint, body: bytes, label: str | None = JSON, **headers: str) -> Answer:
    named = {"Authorization": f"Bearer {account.key}", **({"Content-Type": label} if label else {}), **headers}
    return home.api.send("POST", endpoint.path, body, named)


def get(home: House, account: Account, endpoint: Endpoint, query: str) -> Answer:
    return home.api.send("GET", f"{endpoint.path}?{query}", headers={"Authorization": f"Bearer {account.key}"})


def names(info: FieldInfo, name: str) -> list[str]:
    """What a field is called on the wire."""
    match info.validation_alias:
        case AliasChoices(choices=choices):
            return [str(choice) for choice in choices]
        case None:
            return [name]
        case alias:
            return [str(alias)]


#: Every field of every endpoint under every name it has.
FIELDS: Final = [
    (endpoint, wire, info) for endpoint in ENDPOINTS for name, info in endpoint.model.model_fields.items() for wire in names(info, name)
]


def every_field(fields: list[tuple[Endpoint, str, FieldInfo]]) -> pytest.MarkDecorator:
    ids = [f"{name_of(endpoint)} {wire}" for endpoint, wire, _ in fields]
    return pytest.mark.parametrize(("endpoint", "wire", "info"), fields, ids=ids)


def is_text(info: FieldInfo) -> bool:
    return info.annotation is str or str in get_args(info.annotation)


def needed(endpoint: Endpoint, good: dict[str, object], but: str = "") -> dict[str, object]:
    """Good values for the required fields, and for an object that an endpoint wants under one of two names."""
    required = [(name, info) for name, info in endpoint.model.model_fields.items() if info.is_required()]
    fields = {names(info, name)[0]: good[names(info, name)[0]] for name, info in required if but not in names(info, name)}
    if "bots/" in endpoint.path and "id" in fields:
        fields["id"] = good["bot"]
    if {"bot", "camp"} <= endpoint.model.model_fields.keys() and but not in {"bot", "camp"}:
        fields["bot"] = good["bot"]
    return fields


#: What no field accepts, spelled so that a query, a form and JSON can all carry it.
BAD_TEXTS: Final = ["", "\0", "1\0", "x" * 300]

#: Texts of a campaign that may be these all the same: "" is none, and a welcome message may be long.
FREE_TEXTS: Final = {"welcome": {"x" * 300}, **{name: {""} for name in ("media", "button_text", "button_url", *schema.POSTBACKS)}}

#: What no field for a number accepts either.
BAD_NUMBERS: Final = ["x", "1.0", "1e3", " 1", "1 ", "+1", "0x1", "1_0", "١", "--1", "-", "-1", "true", "null", "[]", "NaN", "9" * 1001]

#: What only JSON can carry.
BAD_JSON: Final = [
    *("null", "[]", "[1]", "{}", '{"id":1}', "true", "false", '"\\ud800"'),
    *("1.5", "1.0", "1e0", "1e999", "-1", "9" * 30, "9" * 5000),
]


@every_field(FIELDS)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, wire: str, info: FieldInfo
) -> None:
    values: list[Any] = BAD_TEXTS + ([] if is_text(info) else BAD_NUMBERS)
    rest = needed(endpoint, good, but=wire)
    for value in values:
        if value in FREE_TEXTS.get(wire, ()) or (wire == "chat" and value == "-1"):
            continue
        answer = send(home, ann, endpoint, {**rest, wire: value})
        assert error(answer) == ("invalid", wire), value
        if endpoint.method == "POST":
            assert send(home, ann, endpoint, {**rest, wire: value}, form=True).body == answer.body, value


@every_field([field for field in FIELDS if field[0] in POSTS])
def test_a_wrong_json_value_is_refused_by_the_name_of_its_field(
    home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, wire: str, info: FieldInfo
) -> None:
    rest = "".join(f"{json.dumps(name)}: {json.dumps(value)}, " for name, value in needed(endpoint, good, but=wire).items())
    for literal in BAD_JSON + (["1", "0"] if is_text(info) else []):
        if wire == "chat" and literal == "-1":
            continue
        answer = post(home, ann, endpoint, f'{{{rest}"{wire}": {literal}}}'.encode())
        assert error(answer) == ("invalid", wire), literal[:50]


@every_field([field for field in FIELDS if field[2].is_required()])
def test_a_missing_field_is_named(
    home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, wire: str, info: FieldInfo
) -> None:
    rest = needed(endpoint, good, but=wire)
    answer = send(home, ann, endpoint, rest)
    assert error(answer) == ("invalid", names(info, wire)[0] if wire != "camp" or "camp" in endpoint.model.model_fields else "id")
    if endpoint.method == "POST":
        assert send(home, ann, endpoint, rest, form=True).body == answer.body


@every(TRANSFERS)
@pytest.mark.parametrize("leads", [2, -1, 10, True, False, "", "yes", "01x", None, 1.0, [1], "true"])
def test_only_0_and_1_say_what_becomes_of_the_leads(
    home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, leads: object
) -> None:
    assert error(send(home, ann, endpoint, {**needed(endpoint, good), "leads": leads})) == ("invalid", "leads")


@pytest.mark.parametrize("fields", [{}, {"bot": 1, "camp": 1}])
def test_a_preview_is_of_a_bot_or_of_a_campaign(home: House, ann: Account, fields: dict[str, int]) -> None:
    refused = error(home.api.get("transfer/preview", ann.key, token="x", leads=1, **fields))
    assert refused in {("invalid", "bot"), ("invalid", "camp")}


@every(GETS)
def test_what_is_unknown_is_ignored(home: House, ann: Account, good: dict[str, object], endpoint: Endpoint) -> None:
    fields = needed(endpoint, good)
    plain = send(home, ann, endpoint, fields)
    strange = {"x": "", "start_from": "x", "start_to": "", "model_config": "1", "account": "1", "key": "é", "": "1"}
    assert send(home, ann, endpoint, {**strange, **fields}).body == plain.body
    assert plain.json.get("error") in {None, "notfound"}


@every(TRANSFERS)
def test_unknown_fields_of_a_post_are_ignored(home: House, ann: Account, good: dict[str, object], endpoint: Endpoint) -> None:
    """Seen by the complaint about another field, since an accepted command would be written."""
    fields = {**needed(endpoint, good), "leads": 2}
    plain = send(home, ann, endpoint, fields)
    strange = {"x": None, "account": [1, {"": {}}], "id": "1", "keep_leads": 1, "y": 10**400, "z": "é" * 99}
    assert send(home, ann, endpoint, {**strange, **fields}).body == plain.body
    assert error(plain) == ("invalid", "leads")


#: Bodies that are no JSON object, whatever they are.
NO_OBJECTS: Final = {
    "an open brace": b"{",
    "a closed brace": b"}",
    "two objects": b"{}{}",
    "a comma too many": b'{"leads":1,}',
    "single quotes": b"{'leads':1}",
    "a comment": b'{"leads":1/**/}',
    "an array": b'[{"leads":1}]',
    "a number": b"1",
    "a text": b'"leads"',
    "null": b"null",
    "true": b"true",
    "NaN": b'{"leads":NaN}',
    "Infinity": b'{"x":-Infinity}',
    "nested arrays": b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "nested objects": b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
    "open arrays": b"[" * 65_000,
    "bad UTF-8": b'{"x":"\xff"}',
    "a cut letter": b'{"x":"\xd0"}',
    "an overlong NUL": b'{"x":"\xc0\x80"}',
    "a surrogate in bytes": b'{"x":"\xed\xa0\x80"}',
    "UTF-16": '{"leads":1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"leads":1}',
    "a raw NUL": b'{"x":"\0"}',
    "a raw NUL outside": b"{\0}",
    "a bad escape": b'{"x":"\\ud8"}',
    "a compressed body": b"\x1f\x8b\x08\0\0\0\0\0\0\0",
}


@every(POSTS)
@pytest.mark.parametrize("what", NO_OBJECTS)
def test_what_is_no_json_object_is_an_invalid_body(home: House, ann: Account, endpoint: Endpoint, what: str) -> None:
    body = NO_OBJECTS[what]
    for label in (JSON, "application/json; charset=utf-8", "APPLICATION/JSON"):
        assert error(post(home, ann, endpoint, body, label)) == ("invalid", "body")
    if body.startswith(b"{"):
        for other in (FORM, "text/plain", None):
            assert error(post(home, ann, endpoint, body, other)) == ("invalid", "body"), "a brace says it is JSON"


#: JSON that can be read and still is no good, with the field to blame.
BAD_OBJECTS: Final = {
    b'{"x":1,"x":1}': "x",
    b'{"x":1,"\\u0078":2}': "x",
    b'{"y":{"x":1,"x":2}}': "x",
    b'{"x":"\\u0000"}': "x",
    b'{"x":"a\\ud800b"}': "x",
    b'{"x":"\\udc00\\ud800"}': "x",
    b'{"a\\u0000":1}': "body",
    b'{"\\ud800":1}': "body",
    b'{"\\ud800":1,"\\ud800":2}': "body",
    b'{"\\u0000":1,"\\u0000":2}': "body",
    b'{"":1,"":2}': "body",
    '{"é":1,"é":2}'.encode(): "body",
}


@every(POSTS)
@pytest.mark.parametrize("body", BAD_OBJECTS)
def test_repeated_fields_and_text_that_is_none_are_invalid_in_json(home: House, ann: Account, endpoint: Endpoint, body: bytes) -> None:
    assert error(post(home, ann, endpoint, body)) == ("invalid", BAD_OBJECTS[body])


#: The same for a query or a form.
BAD_PAIRS: Final = {
    "x=1&x=1": "x",
    "x=1&%78=2": "x",
    "x=1&x": "x",
    "x=%00": "x",
    "x=a%00b": "x",
    "%00=1": "body",
    "x=%FF": "x",
    "x=%C0%80": "x",
    "x=%ED%A0%80": "x",
    "x=%D0": "x",
    "%FF=1": "body",
    "%FF=1&%FF=2": "body",
    "&".join(f"x{n}=1" for n in range(FIELDS_MAX + 1)): "body",
    "%C3%A9=1&%C3%A9=2": "body",
    "=1&=2": "body",
}


@every(GETS)
@pytest.mark.parametrize("query", BAD_PAIRS, ids=lambda query: query[:20])
def test_repeated_fields_and_text_that_is_none_are_invalid_in_a_query(home: House, ann: Account, endpoint: Endpoint, query: str) -> None:
    assert error(get(home, ann, endpoint, query)) == ("invalid", BAD_PAIRS[query])


@every(POSTS)
@pytest.mark.parametrize("form", BAD_PAIRS, ids=lambda form: form[:20])
def test_repeated_fields_and_text_that_is_none_are_invalid_in_a_form(home: House, ann: Account, endpoint: Endpoint, form: str) -> None:
    for label in (FORM, "text/plain", None):
        assert error(post(home, ann, endpoint, form.encode(), label)) == ("invalid", BAD_PAIRS[form])


@every(TRANSFERS)
@pytest.mark.parametrize("wire", ["token", "leads"])
def test_a_field_given_twice_is_named_in_every_form(
    home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, wire: str
) -> None:
    fields = needed(endpoint, good)
    pair = urlencode({wire: fields[wire]})
    assert error(post(home, ann, endpoint, f"{urlencode(fields)}&{pair}".encode(), FORM)) == ("invalid", wire)
    member = json.dumps({wire: fields[wire]})[1:]
    assert error(post(home, ann, endpoint, f"{json.dumps(fields)[:-1]}, {member}".encode())) == ("invalid", wire)


def first_needed(endpoint: Endpoint) -> str:
    return next(names(info, name)[0] for name, info in endpoint.model.model_fields.items() if info.is_required())


@every(WITH_FIELDS)
@pytest.mark.parametrize(
    "body", [b"", b"   ", b"{}", b" {} ", b"&", b"==", b"%", b"%zz=%", b"x", b"----x\r\nContent-Disposition: form-data"]
)
@pytest.mark.parametrize("label", [JSON, FORM, "multipart/form-data; boundary=x", "", None])
def test_a_body_without_fields_lacks_the_first_field(home: House, ann: Account, endpoint: Endpoint, body: bytes, label: str | None) -> None:
    refused = error(post(home, ann, endpoint, body, label))
    first = first_needed(endpoint)
    no_json = label == JSON and bool(body.strip()) and b"{" not in body
    assert refused == ("invalid", "body" if no_json else first)


@every(WITH_FIELDS)
def test_a_form_must_be_percent_encoded(home: House, ann: Account, endpoint: Endpoint) -> None:
    assert error(post(home, ann, endpoint, "token=é".encode(), FORM)) == ("invalid", "body")


@every(WITH_FIELDS)
def test_the_query_of_a_post_is_no_parameter(home: House, ann: Account, good: dict[str, object], endpoint: Endpoint) -> None:
    answer = home.api.send("POST", f"{endpoint.path}?id={ann.key}&{urlencode(needed(endpoint, good))}", b"{}")
    assert error(answer) == ("invalid", first_needed(endpoint))


@every(TRANSFERS)
@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a b", "a\tb", "é", "\xff"])
def test_an_idempotency_key_is_1_to_255_visible_ascii_characters(
    home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, key: str
) -> None:
    answer = post(home, ann, endpoint, json.dumps(needed(endpoint, good)).encode(), **{"Idempotency-Key": key})
    assert error(answer) == ("invalid", "Idempotency-Key")


@every(TRANSFERS)
def test_parameters_are_named_before_a_bad_idempotency_key(home: House, ann: Account, good: dict[str, object], endpoint: Endpoint) -> None:
    fields = {**needed(endpoint, good), "leads": 5}
    assert error(post(home, ann, endpoint, json.dumps(fields).encode(), **{"Idempotency-Key": ""})) == ("invalid", "leads")


LISTS: Final = [endpoint for endpoint in GETS if "limit" in endpoint.model.model_fields]


def of(endpoint: Endpoint, good: dict[str, object]) -> str:
    """The beginning of a query: what the list is of, if it is of one thing."""
    return "".join(f"{name}={value}&" for name, value in needed(endpoint, good).items())


@every(LISTS)
@pytest.mark.parametrize("wrong", ["0", "-1", "", "x", "-" + "9" * 30])
def test_a_page_holds_at_least_one_row(home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, wrong: str) -> None:
    assert error(get(home, ann, endpoint, f"{of(endpoint, good)}limit={quote(wrong)}")) == ("invalid", "limit")


@every(LISTS)
@pytest.mark.parametrize("limit", ["1", "200", "201", "9" * 19, "9" * 100])
def test_a_large_limit_is_cut_and_not_refused(home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, limit: str) -> None:
    assert "total" in check(get(home, ann, endpoint, f"{of(endpoint, good)}limit={limit}")).json


@every(LISTS)
@pytest.mark.parametrize("wrong", ["-1", "", "x", "9" * 30])
def test_an_offset_counts_from_zero(home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, wrong: str) -> None:
    assert error(get(home, ann, endpoint, f"{of(endpoint, good)}offset={wrong}")) == ("invalid", "offset")


@every(LISTS)
@pytest.mark.parametrize("offset", [10**6, 2**31])
def test_an_offset_beyond_the_end_gives_an_empty_page(
    home: House, ann: Account, good: dict[str, object], endpoint: Endpoint, offset: int
) -> None:
    assert check(get(home, ann, endpoint, f"{of(endpoint, good)}offset={offset}")).data == []


@pytest.mark.parametrize(
    "query",
    ["from=-1", "to=-1", "from=253402300800", "to=1.5", "from=2026-01-01", "status=5", "status=-1", "campaign=0", "after=0", "after=x"],
)
def test_a_filter_of_leads_that_cannot_be_is_named(home: House, ann: Account, query: str) -> None:
    (leads,) = (endpoint for endpoint in GETS if endpoint.path == "/api/leads/list.json")
    assert error(get(home, ann, leads, query)) == ("invalid", query.partition("=")[0])


@pytest.mark.parametrize("query", ["from=0&to=253402300799", "from=2&to=1", "campaign=9223372036854775807", "after=9223372036854775807"])
def test_the_edges_of_a_filter_are_accepted(home: House, ann: Account, query: str) -> None:
    (leads,) = (endpoint for endpoint in GETS if endpoint.path == "/api/leads/list.json")
    assert check(get(home, ann, leads, query)).json == {"status": "ok", "data": [], "total": 0}
