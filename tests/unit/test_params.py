"""Parameters from bytes to checked values."""

import json
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from services.gateway.answers import ApiError, encode_error
from services.gateway.app import ENDPOINTS
from services.gateway.params import (
    BIGINT_MAX,
    FIELDS_MAX,
    LIMIT_MAX,
    Flag,
    Id,
    Page,
    Params,
    Token,
    check,
    check_pairs,
    object_id,
    parse_body,
    parse_query,
)

#: A slow machine is no failure.
steady = settings(deadline=None)

MODELS = sorted({endpoint.model for endpoint in ENDPOINTS}, key=lambda model: model.__name__)
LABELS = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "", "text/plain; charset=utf-16"])


class Sample(Params):
    id: Id = object_id("camp")
    token: Token
    leads: Flag
    since: Id | None = Field(default=None, validation_alias="from")


GOOD = {"id": 7, "token": "abc", "leads": 0}


def refused(model: type[Params], fields: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        check(model, fields)
    return caught.value.code, caught.value.field


def judge(body: bytes, label: str) -> None:
    """Either the fields of a mapping, or an error that can be written, with a field; anything else is a bug."""
    try:
        fields = parse_body(body, label)
        for model in MODELS:
            check(model, fields)
    except ApiError as error:
        _, written = encode_error(error)
        assert json.loads(written)["error"] == "invalid"
        assert json.loads(written)["field"]


@steady
@given(st.binary(), LABELS)
@example(b'{"\\ud800":1,"\\ud800":2}', "")
@example(b"\xff=1", "")
def test_any_bytes_are_fields_or_an_invalid_field(body: bytes, label: str) -> None:
    judge(body, label)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_NAMES = st.sampled_from(["id", "bot", "camp", "token", "leads", "limit", "offset", "status", "from", "to", "transfer", "\ud800", ""])


@steady
@given(st.lists(st.tuples(_NAMES, _JSON)), LABELS)
def test_any_json_is_fields_or_an_invalid_field(members: list[tuple[str, Any]], label: str) -> None:
    body = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members)
    judge(f"{{{body}}}".encode(), label)


@steady
@given(st.lists(st.tuples(_NAMES.filter(str.isprintable), st.binary())))
def test_any_form_is_fields_or_an_invalid_field(pairs: list[tuple[str, bytes]]) -> None:
    judge("&".join(f"{name}={quote_from_bytes(value)}" for name, value in pairs).encode(), "")


@steady
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.text(st.characters(exclude_characters="\0", codec="utf-8"))
    )
)
def test_text_arrives_as_it_was_meant_in_both_forms(fields: dict[str, str]) -> None:
    assert parse_body(urlencode(fields).encode(), "") == fields
    assert parse_body(json.dumps(fields).encode(), "application/json") == fields
    assert parse_body(json.dumps(fields, ensure_ascii=False).encode(), "application/json") == fields


@pytest.mark.parametrize("label", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
def test_a_brace_says_json_whatever_the_label(label: str) -> None:
    assert parse_body(b' \r\n{"bot": 1}', label) == {"bot": 1}


@pytest.mark.parametrize(("body", "label"), [(b"", ""), (b"", "application/json"), (b"  ", "application/json")])
def test_an_empty_body_has_no_fields(body: bytes, label: str) -> None:
    assert parse_body(body, label) == {}


@pytest.mark.parametrize("number", [5, "5", "05", "0005"])
def test_numbers_may_come_as_text_and_are_normalised(number: object) -> None:
    assert check(Sample, {**GOOD, "id": number}).id == 5


@pytest.mark.parametrize(
    "number", [True, 5.0, "5.0", " 5", "5 ", "+5", "٥", "5\n", "", None, [5], {}, "0x5", "5e0", 0, "0", -5, BIGINT_MAX + 1]
)
def test_what_only_looks_like_a_number_is_none(number: object) -> None:
    assert refused(Sample, {**GOOD, "id": number}) == ("invalid", "id")


@pytest.mark.parametrize("flag", [True, False, 2, -1, "2", "", "yes", 0.0, None])
def test_a_flag_is_0_or_1_and_nothing_that_python_holds_equal(flag: object) -> None:
    assert refused(Sample, {**GOOD, "leads": flag}) == ("invalid", "leads")
    assert [check(Sample, {**GOOD, "leads": good}).leads for good in (0, 1, "0", "1")] == [0, 1, 0, 1]


@pytest.mark.parametrize("token", ["", "x" * 256, 5, True, None, ["abc"]])
def test_a_token_is_a_short_text(token: object) -> None:
    assert refused(Sample, {**GOOD, "token": token}) == ("invalid", "token")


def test_the_first_wrong_field_in_the_models_order_is_named() -> None:
    assert refused(Sample, {}) == ("invalid", "id")
    assert refused(Sample, {"leads": 9, "token": "", "id": 1}) == ("invalid", "token")


def test_an_object_goes_by_its_kind_too_and_is_blamed_by_the_name_used() -> None:
    rest = {"token": "abc", "leads": 0}
    assert check(Sample, {**rest, "camp": 9}).id == 9
    assert refused(Sample, {**rest, "camp": "x"}) == ("invalid", "camp")


def test_a_field_goes_only_by_its_public_name() -> None:
    assert check(Sample, {**GOOD, "from": 3}).since == 3
    assert check(Sample, {**GOOD, "since": "rubbish"}).since is None


def test_unknown_fields_are_ignored() -> None:
    assert check(Sample, {**GOOD, "x": object(), "model_fields": 1}) == check(Sample, GOOD)


@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (200, LIMIT_MAX), (201, 200), ("9" * 999, 200)])
def test_a_limit_is_cut(limit: object, rows: int) -> None:
    assert check(Page, {"limit": limit}).limit == rows
    assert check(Page, {}).limit == 50


def test_a_hundred_fields_are_enough() -> None:
    check_pairs([(str(n), "") for n in range(FIELDS_MAX)])
    with pytest.raises(ApiError):
        check_pairs([(str(n), "") for n in range(FIELDS_MAX + 1)])


def test_a_query_is_read_whatever_it_holds_and_judged_later() -> None:
    """Who sent it must be known before what is wrong with it is said."""
    pairs = parse_query("id=1-x&a=%FF&a=%00&%FF=2&b")
    assert pairs[0] == ("id", "1-x")
    assert len(pairs) == 5
    with pytest.raises(ApiError):
        check_pairs(pairs)
