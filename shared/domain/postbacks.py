"""What a tracker is called with: a template's macros, each replaced by its value."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

#: The macros a template may use; part of the public API.
MACROS: Final = ("click", "status", "campaign", "user", "lead", "subscriber", "username", "chat", "time")

_MACRO: Final = re.compile(r"\{(" + "|".join(MACROS) + r")\}")


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with its macros' values, percent-encoded. What has no value is empty; unknown macros stay as typed."""
    return _MACRO.sub(lambda macro: quote(values.get(macro[1], ""), safe=""), template)
