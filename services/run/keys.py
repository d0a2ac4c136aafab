"""The secrets a run makes for itself where none are given: once, in the state folder, for its owner alone."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.run.files import write_private
from shared import sealing

#: The demo's service bot is somebody with such an id; other bots of the demo have higher ones.
SERVICE_BOT_FROM: Final = 6_000_000_000
SERVICE_BOTS: Final = 900_000_000

#: What follows the colon of a bot's token has 35 characters.
TOKEN_RANDOM_BYTES: Final = 26


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keys:
    """The key that secrets are sealed with, and the token of the demo's service bot. No repr, for their sake."""

    sealing: str
    service_bot: str


def recall_or_make(state: Path) -> Keys:
    """Those of this state folder."""
    file = state / "keys.json"
    try:
        return Keys(**json.loads(file.read_text()))
    except FileNotFoundError:
        made = Keys(sealing=sealing.new_key(), service_bot=new_token(SERVICE_BOT_FROM + secrets.randbelow(SERVICE_BOTS)))
        write_private(file, {"sealing": made.sealing, "service_bot": made.service_bot})
        return made


def new_token(bot: int) -> str:
    """A token as BotFather gives them, for a bot that only the demo's Telegram knows."""
    return f"{bot}:{secrets.token_urlsafe(TOKEN_RANDOM_BYTES)}"
