"""Parameters of requests: read from query or body, checked and normalised by one model for each endpoint.

Numbers may come as strings, unknown fields are ignored, a field given twice, NUL and text that is no UTF-8 are refused.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeVar
from urllib.parse import parse_qsl

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from services.gateway.answers import ApiError, invalid
from shared.domain.leads import LeadStatus

BODY_BYTES_MAX: Final = 65_536
FIELDS_MAX: Final = 100
LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
TOKEN_LENGTH_MAX: Final = 255
BIGINT_MAX: Final = 2**63 - 1
UNIX_TIME_MAX: Final = 253_402_300_799  # the end of year 9999, where dates end

#: Far beyond every limit below, so that a huge number is judged by its size; Python itself refuses to read 4,300 digits.
DIGITS_MAX: Final = 1_000

_DIGITS: Final = re.compile(rf"-?[0-9]{{1,{DIGITS_MAX}}}", re.ASCII)

Fields = Mapping[str, object]


def _whole_number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise ValueError("must be a whole number")


Whole = Annotated[int, BeforeValidator(_whole_number)]
Id = Annotated[Whole, Field(ge=1, le=BIGINT_MAX)]
Flag = Annotated[Whole, Field(ge=0, le=1)]
UnixTime = Annotated[Whole, Field(ge=0, le=UNIX_TIME_MAX)]
Token = Annotated[str, Field(min_length=1, max_length=TOKEN_LENGTH_MAX)]
Limit = Annotated[Whole, Field(ge=1), AfterValidator(lambda limit: min(limit, LIMIT_MAX))]
Offset = Annotated[Whole, Field(ge=0, le=2**31)]
Status = Annotated[LeadStatus, BeforeValidator(_whole_number)]


class Params(BaseModel):
    """No parameters; the base of all that have some."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=False)


class Page(Params):
    """A page of a list."""

    limit: Limit = LIMIT_DEFAULT
    offset: Offset = 0


P = TypeVar("P", bound=Params)
V = TypeVar("V")


def object_id(alias: str) -> Any:
    """The field of an object, called `id` or by its kind."""
    return Field(validation_alias=AliasChoices("id", alias))


def check(model: type[P], fields: Fields) -> P:
    """The parameters as the endpoint wants them.

    Raises:
        ApiError: `invalid`, with the first field in the model's order that is wrong.
    """
    for field in model.model_fields.values():
        names = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else []
        if sum(name in fields for name in names) > 1:
            raise invalid(str(names[0]), "The object is named more than once.")
    try:
        return model.model_validate(fields)
    except ValidationError as errors:
        raise _explain(errors) from None


def parse_query(query: str) -> list[tuple[str, str]]:
    """The pairs of a query string or a form, unchecked. Bytes that are no UTF-8 become characters that `check_pairs` refuses."""
    return parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="surrogateescape")


def check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """See that the pairs can be read as fields.

    Raises:
        ApiError: `invalid`; there are too many, or there is NUL, or text that is no UTF-8.
    """
    if len(pairs) > FIELDS_MAX:
        raise invalid("body", f"There are more than {FIELDS_MAX} fields.")
    for name, value in pairs:
        _check_text(name, name)
        _check_text(name, value)


def parse_body(body: bytes, content_type: str) -> Fields:
    """The fields of a POST body. What begins with a brace is JSON, whatever its label: `curl -d` labels everything a form.

    Raises:
        ApiError: `invalid`; `body` when the whole cannot be read, else the field.
    """
    if body.lstrip()[:1] == b"{" or "json" in content_type.lower():
        return _parse_json(body) if body.strip() else {}
    try:
        pairs = parse_query(body.decode("ascii"))
    except UnicodeDecodeError:
        raise invalid("body", "A form must be percent-encoded.") from None
    check_pairs(pairs)
    return unique(pairs)


def unique(pairs: Iterable[tuple[str, V]]) -> dict[str, V]:
    """The pairs as a mapping.

    Raises:
        ApiError: `invalid`; a field is given twice.
    """
    fields: dict[str, V] = {}
    for name, value in pairs:
        if name in fields:
            raise invalid(_nameable(name), "The field is given more than once.")
        fields[name] = value
    return fields


def _parse_json(body: bytes) -> Fields:
    try:
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=unique, parse_int=_parse_int, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise invalid("body", "The body is not UTF-8.") from None
    except (ValueError, RecursionError):
        raise invalid("body", "The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise invalid("body", "The body is not a JSON object.")
    for name, value in fields.items():
        _check_text(name, name)
        if isinstance(value, str):
            _check_text(name, value)
    return fields


def _parse_int(digits: str) -> int | str:
    """A number longer than any limit stays text, which the field it is meant for refuses by name."""
    return int(digits) if len(digits) <= DIGITS_MAX else digits


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_text(field: str, text: str) -> None:
    """NUL cannot be stored, and a lone surrogate, which JSON can spell and bad UTF-8 leaves behind, is no text."""
    if "\0" in text or (not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise invalid(_nameable(field), "The text is not UTF-8, or has a character that cannot be stored.")


def _nameable(field: str) -> str:
    """The field as an answer can name it."""
    return field if field and field.isprintable() and field.isascii() else "body"


def _explain(errors: ValidationError) -> ApiError:
    error = errors.errors(include_url=False, include_input=False)[0]
    field = str(error["loc"][0]) if error["loc"] else "body"
    if error["type"] == "missing":
        return invalid(field, "The field is missing.")
    return invalid(field, f"The value is not accepted: {error['msg'].removeprefix('Value error, ')}.")
