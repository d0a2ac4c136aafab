"""Campaigns and bots as the API names their states, and the deep link that leads to one."""

from enum import IntEnum

#: Letters of a campaign code (public API: 6 to 10 of a-z0-9).
CODE_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
CODE_LENGTH = 8


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
