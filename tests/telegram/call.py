"""A request on its way to a method, and why it may be refused, in Telegram's codes and words."""

from dataclasses import dataclass
from typing import Any

from tests.telegram.core import Core
from tests.telegram.keys import Agreed
from tests.telegram.state import Bot


class Refusal(Exception):
    """Answered as an RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class NotLoggedIn(Refusal):
    """The key belongs to no bot, or no longer."""

    def __init__(self) -> None:
        super().__init__(401, "AUTH_KEY_UNREGISTERED")


class Duplicated(Refusal):
    """The key was used from two addresses at once; nothing brings it back."""

    def __init__(self) -> None:
        super().__init__(406, "AUTH_KEY_DUPLICATED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a method is given. Only those open to everybody are called without a bot."""

    core: Core
    agreed: Agreed
    request: Any
    caller: Bot | None

    @property
    def bot(self) -> Bot:
        if self.caller is None:
            raise NotLoggedIn
        return self.caller
