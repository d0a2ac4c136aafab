"""Deep links: what a /start carries, and the link that makes Telegram carry it (public API)."""

import re
from dataclasses import dataclass
from typing import Final

#: Telegram's limit of a start payload.
PAYLOAD_LENGTH_MAX: Final = 64

_PAYLOAD: Final = re.compile(r"[A-Za-z0-9_-]*")
_CODE: Final = re.compile(r"[a-z0-9]{6,10}")
_USERNAME: Final = re.compile(r"[A-Za-z0-9_]{1,32}")
_LINK: Final = re.compile(r"link-([0-9A-Za-z]{1,59})")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPayload:
    """The campaign code that a start names, and the tracker's click, which may be empty."""

    code: str
    click: str


def parse(payload: str) -> StartPayload | None:
    """What a payload says: the code before its first hyphen, the click after it, hyphens included.

    None where it names no code: a bare start, and what Telegram would not have let through.
    """
    if len(payload) > PAYLOAD_LENGTH_MAX or not _PAYLOAD.fullmatch(payload):
        return None
    code, _, click = payload.partition("-")
    return StartPayload(code=code, click=click) if _CODE.fullmatch(code) else None


def build(username: str, code: str, click: str = "") -> str:
    """The link that starts this bot with this code and click.

    Raises:
        ValueError: a bot or code that cannot be, or a click that does not fit into a payload.
    """
    payload = f"{code}-{click}" if click else code
    if not _USERNAME.fullmatch(username):
        raise ValueError(f"not a bot's user name: {username!r}")
    if parse(payload) != StartPayload(code=code, click=click):
        raise ValueError(f"not a start payload: {payload!r}")
    return f"https://t.me/{username}?start={payload}"


def template(username: str, code: str) -> str:
    """The link with `{click}` where the tracker is to put its click.

    Raises:
        ValueError: as `build`.
    """
    return f"{build(username, code)}-{{click}}"


def build_link(username: str, code: str) -> str:
    """The link that makes whoever opens it at the service bot the owner to whom an account's notices go.

    Raises:
        ValueError: a bot that cannot be.
    """
    if not _USERNAME.fullmatch(username):
        raise ValueError(f"not a bot's user name: {username!r}")
    return f"https://t.me/{username}?start=link-{code}"


def parse_link(payload: str) -> str:
    """The one-time code that a start of the service bot carries; "" if it carries none."""
    link = _LINK.fullmatch(payload)
    return link[1] if link else ""
