"""What a tracker is called with: which template is in force, its macros, and the destination that answers for the call."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit

from shared.domain.leads import LeadStatus

#: The macros a template may use; part of the public API.
MACROS: Final = ("click", "status", "campaign", "user", "lead", "subscriber", "username", "chat", "time")

#: A template for each status; "" where there is none.
Templates = Mapping[LeadStatus, str]

#: Templates whose destination is remembered.
DESTINATIONS_MAX: Final = 4_096

_MACRO: Final = re.compile(r"\{(" + "|".join(MACROS) + r")\}")
_HOST: Final = re.compile(r"[^\s{}/?#@\\]+")
_PORTS: Final = {"http": 80, "https": 443}


class Unsent(StrEnum):
    """Why a postback that is owed is not sent; the log's words."""

    TEMPLATE_EMPTY = "template empty"
    TEMPLATE_INVALID = "template invalid"


@dataclass(frozen=True, slots=True)
class Call:
    """A GET to make: the address, and the destination it goes to, as scheme://host:port."""

    url: str
    destination: str


def in_force(campaign: Templates, account: Templates) -> Templates:
    """The campaign's own set if any of it is set, else the account's. An empty one in the set in force means: send nothing."""
    return campaign if any(campaign.values()) else account


def values(  # noqa: PLR0913  # one for each macro
    *, click: str, status: LeadStatus, campaign: str, user: int, lead: int, subscriber: int, username: str, chat: int, at: datetime
) -> dict[str, str]:
    """The macros' values: `campaign` its code, `user` the account's id, `chat` Telegram's id, `at` the event's date."""
    return {
        "click": click,
        "status": status.name.lower(),
        "campaign": campaign,
        "user": str(user),
        "lead": str(lead),
        "subscriber": str(subscriber),
        "username": username,
        "chat": str(chat),
        "time": str(int(at.timestamp())),
    }


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with its macros' values, percent-encoded. What has no value is empty; unknown macros stay as typed."""
    return _MACRO.sub(lambda macro: quote(values.get(macro[1], ""), safe=""), template)


def call(template: str, values: Mapping[str, str]) -> Call | Unsent:
    """The call a template makes with these values, or why it makes none."""
    if not template:
        return Unsent.TEMPLATE_EMPTY
    place = destination(template)
    return Call(render(template, values), place) if place else Unsent.TEMPLATE_INVALID


@lru_cache(DESTINATIONS_MAX)
def destination(template: str) -> str:
    """Whom a template calls, as scheme://host:port in lower case; "" if it names nobody, or a macro stands where the name should."""
    try:
        url = urlsplit(template)
        port = url.port
    except ValueError:
        return ""
    host = url.hostname or ""
    if url.scheme not in _PORTS or not _HOST.fullmatch(host) or port == 0:
        return ""
    return f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port or _PORTS[url.scheme]}"
