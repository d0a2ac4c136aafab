"""Who is calling: the credential of a request, and the account behind it."""

import re
from collections.abc import Sequence
from typing import Final

from services.gateway.answers import ApiError, Code, invalid
from shared.db.accounts import Caller
from shared.domain import keys, plans

_CREDENTIAL_FORM: Final = re.compile(r"[0-9]+-.*", re.DOTALL)
_BEARER: Final = re.compile(r"bearer( .*)?", re.IGNORECASE | re.DOTALL)

#: Compared with when there is no such account, so that its absence takes as long as a wrong key.
_NOBODY: Final = b"\0" * 32


def split_query(pairs: Sequence[tuple[str, str]], authorization: str | None) -> tuple[str, list[tuple[str, str]]]:
    """The text of the credential, and the other pairs. In the query an `id` of digits, hyphen, key is the credential, any other the object.

    An Authorization other than Bearer is not for us: it may belong to a proxy in front.

    Raises:
        ApiError: `invalid` for two credentials; `key` for none.
    """
    credentials = [value for name, value in pairs if name == "id" and _CREDENTIAL_FORM.fullmatch(value)]
    others = [(name, value) for name, value in pairs if not (name == "id" and _CREDENTIAL_FORM.fullmatch(value))]
    if bearer := _BEARER.fullmatch(authorization or ""):
        credentials.append((bearer[1] or "").strip())
    if len(credentials) > 1:
        raise invalid("id", "There is more than one credential.")
    if not credentials:
        raise _bad_key()
    return credentials[0], others


def parse(text: str) -> keys.Credential:
    """The credential.

    Raises:
        ApiError: `key`; it is none of ours.
    """
    credential = keys.parse_credential(text)
    if credential is None:
        raise _bad_key()
    return credential


def verify(credential: keys.Credential, caller: Caller | None, *, open_when_lapsed: bool) -> Caller:
    """The account, if the key is its own and it may use the API: key, then suspension, then lapse.

    Raises:
        ApiError: `key`, `ban` or `unpaid`.
    """
    matches = keys.key_matches(credential.key, caller.key_hash if caller else _NOBODY)
    if caller is None or not matches:
        raise _bad_key()
    if caller.suspended:
        raise ApiError(Code.BAN, "The account is suspended.")
    if not open_when_lapsed and plans.is_lapsed(caller.plan, caller.paid_until, caller.now):
        raise ApiError(Code.UNPAID, "The plan ran out more than 7 days ago.")
    return caller


def _bad_key() -> ApiError:
    return ApiError(Code.KEY, "The API key is missing or wrong.")
