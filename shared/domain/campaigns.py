"""Campaigns and bots as the API names their states; what an owner may choose for a campaign, and when one may be made or resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final
from urllib.parse import urlsplit

from shared.domain import markdown, plans
from shared.domain.plans import PlanCode

#: Letters of a campaign code (public API: 6 to 10 of a-z0-9).
CODE_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
CODE_LENGTH = 8

#: Telegram's limits of a message's text, and of the text beside a photo or video, in UTF-16 units after the marks are taken out.
WELCOME_LENGTH_MAX: Final = 4_096
CAPTION_LENGTH_MAX: Final = 1_024

#: Characters of a button. Telegram names no limit and cuts what does not fit on a screen.
BUTTON_TEXT_LENGTH_MAX: Final = 64

#: Characters of a postback template and of a button's address (public API).
TEMPLATE_LENGTH_MAX: Final = 2_048

#: Seconds after a join during which a leave fires a postback; the most is ten years.
UNSUB_WINDOW_DEFAULT: Final = 2_592_000
UNSUB_WINDOW_MAX: Final = 315_360_000


class CampaignStatus(IntEnum):
    """Status of a campaign; part of the public API."""

    ACTIVE = 0
    PAUSED = 1
    DELETED = 2


class BotStatus(IntEnum):
    """Status of a bot; part of the public API."""

    ACTIVE = 0
    WARNING = 1
    DELETED = 3


def bot_state(*, connected: bool, revoked: bool, lacks_admin: bool) -> tuple[BotStatus, str]:
    """A bot's status and the reason for a warning: `token` before `admin`, since a revoked token hides everything else."""
    if not connected:
        return BotStatus.DELETED, ""
    if revoked:
        return BotStatus.WARNING, "token"
    return (BotStatus.WARNING, "admin") if lacks_admin else (BotStatus.ACTIVE, "")


class Reason(StrEnum):
    """Why a campaign is not made, changed or resumed; part of the public API."""

    INVALID = "invalid"
    LIMIT = "limit"
    EXISTS = "exists"
    NOBOT = "nobot"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason, the parameter to blame, and the sentence for a person."""

    reason: Reason
    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an owner chooses for a campaign; "" is none."""

    welcome: str = ""
    media: str = ""
    button_text: str = ""
    button_url: str = ""
    pb_wait: str = ""
    pb_hold: str = ""
    pb_approve: str = ""
    pb_cancel: str = ""
    pb_trash: str = ""
    unsub_window: int = UNSUB_WINDOW_DEFAULT


_TEMPLATES: Final = ("button_url", "pb_wait", "pb_hold", "pb_approve", "pb_cancel", "pb_trash")


def mistake(given: Mapping[str, str | int]) -> Refusal | None:
    """The first of the given settings that is wrong in itself, whatever the others are."""
    if (welcome := given.get("welcome")) and isinstance(parsed := markdown.parse(str(welcome)), markdown.Mistake):
        return _invalid("welcome", parsed.message)
    if len(str(given.get("button_text", ""))) > BUTTON_TEXT_LENGTH_MAX:
        return _invalid("button_text", f"The button's text is longer than {BUTTON_TEXT_LENGTH_MAX} characters.")
    for name in _TEMPLATES:
        if (template := str(given.get(name, ""))) and (fault := template_fault(template)):
            return _invalid(name, fault)
    return None


def disagreements(settings: Settings) -> list[Refusal]:
    """What is wrong with settings that are each well: a text too long, no text and no picture, half a button."""
    parsed = markdown.parse(settings.welcome)
    length = parsed.length if isinstance(parsed, markdown.Formatted) else 0
    longest = CAPTION_LENGTH_MAX if settings.media else WELCOME_LENGTH_MAX
    found = []
    if length > longest:
        beside = " beside a photo or video" if settings.media else ""
        found.append(_invalid("welcome", f"The text has {length} UTF-16 units; Telegram takes {longest}{beside}."))
    if not length and not settings.media:
        found.append(_invalid("welcome", "The welcome message says nothing."))
    if settings.button_url and not settings.button_text.strip():
        found.append(_invalid("button_text", "A button with an address needs a text."))
    if settings.button_text and not settings.button_url:
        found.append(_invalid("button_url", "A button with a text needs an address."))
    return found


def template_fault(template: str) -> str:
    """What is wrong with an address that may hold macros, as a sentence; "" if nothing. Where a name leads is not looked at here."""
    try:
        address = urlsplit(template)
        host, _port = address.hostname, address.port
    except ValueError:
        return "This is no address."
    faults = {
        f"The address is longer than {TEMPLATE_LENGTH_MAX} characters.": len(template) > TEMPLATE_LENGTH_MAX,
        "The address has a space, a backslash or a character that can't be seen.": not template.isprintable()
        or bool({" ", "\\"} & {*template}),
        "An address begins with http:// or https://.": address.scheme not in {"http", "https"},
        "An address with a user or a password is not accepted.": "@" in address.netloc,
        "Macros are for the path, the query and the fragment, not for the host.": bool({"{", "}"} & {*address.netloc}),
        "The address has no host.": not host,
    }
    return next((fault for fault, is_there in faults.items() if is_there), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a campaign finds where it is to run: the account's plan and active campaigns, and its bot in the chat.

    `fit`: the bot is connected and its token works; `admin`: it is an administrator of the chat; `taken`: it has a campaign there.
    """

    plan: PlanCode
    active: int
    fit: bool
    admin: bool
    taken: bool


def may_add(room: Room) -> Refusal | None:
    """Why no campaign can be made there."""
    if plans.exceeds(room.plan, active=room.active, adding=1):
        return Refusal(Reason.LIMIT, "bot", "The plan has no free campaign slot.")
    if room.taken:
        return Refusal(Reason.EXISTS, "chat", "This bot already has a campaign in this chat.")
    if not (room.fit and room.admin):
        return Refusal(Reason.NOBOT, "bot", "This bot is no administrator of this chat, or is not connected.")
    return None


def may_resume(plan: PlanCode, *, active: int, connected: bool) -> Refusal | None:
    """Why a paused campaign stays so."""
    if plans.exceeds(plan, active=active, adding=1):
        return Refusal(Reason.LIMIT, "id", "The plan has no free campaign slot.")
    if not connected:
        return Refusal(Reason.NOBOT, "id", "The campaign's bot is not connected.")
    return None


def _invalid(field: str, message: str) -> Refusal:
    return Refusal(Reason.INVALID, field, message)
