"""Connecting a bot: what its token looks like, and which record a bot that has logged in becomes or is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

# BotFather's form: the bot's Telegram id, which has at most 52 bits, and a secret.
_TOKEN: Final = re.compile(r"[1-9][0-9]{0,15}:[A-Za-z0-9_-]+")


class Reason(StrEnum):
    """Why a bot is not connected; part of the public API."""

    TOKEN = "token"  # noqa: S105
    EXISTS = "exists"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final answer to a bot that is not connected, with the sentence for a person."""

    reason: Reason
    message: str


BAD_TOKEN: Final = Refusal(Reason.TOKEN, "This is no token of a bot, or BotFather has replaced it.")
TAKEN: Final = Refusal(Reason.EXISTS, "This bot is connected in another account.")
UNREACHABLE: Final = Refusal(Reason.WEBHOOK, "Telegram can't be reached now. Try again later.")
GIVEN_UP: Final = Refusal(Reason.WEBHOOK, "The bot could not be connected after several tries. Try again later.")


def flooded(wait_s: int) -> Refusal:
    """Telegram wants this bot to log in less often."""
    return Refusal(Reason.WEBHOOK, f"Telegram lets this bot log in again in {wait_s} seconds. Try again then.")


def turned_away(error: str) -> Refusal:
    """Telegram gave a reason of its own."""
    return Refusal(Reason.WEBHOOK, f"Telegram refused: {error}.")


def is_token(text: str) -> bool:
    """Whether this could be a bot's token; whether it is one, only Telegram knows."""
    return _TOKEN.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A record of the bot, by its Telegram id: one of the account's, or a connected one of somebody else's.

    `at_work`: it has a session whose auth key is of the very token that was given now.
    """

    id: int
    account: int
    disconnected: datetime | None
    revoked: bool
    at_work: bool


class Action(StrEnum):
    """What a bot that has logged in is to the account."""

    KEEP = "keep"  # connected, and well: the new login is for nothing
    RENEW = "renew"  # connected; it goes on with the new token and key from where it was
    REVIVE = "revive"  # was disconnected here
    CREATE = "create"  # new here, whatever it was elsewhere


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and with which record; None for a new one."""

    action: Action
    bot: int | None = None


_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


def decide(account: int, known: Sequence[Known]) -> Plan | Refusal:
    """Whose the bot is, on these records. A bot that is disconnected here more than once is the one that was here last."""
    connected = next((bot for bot in known if bot.disconnected is None), None)
    if connected is not None and connected.account != account:
        return TAKEN
    if connected is not None:
        return Plan(Action.KEEP if connected.at_work and not connected.revoked else Action.RENEW, connected.id)
    own = [bot for bot in known if bot.account == account]
    if own:
        return Plan(Action.REVIVE, max(own, key=lambda bot: (bot.disconnected or _LONG_AGO, bot.id)).id)
    return Plan(Action.CREATE)
