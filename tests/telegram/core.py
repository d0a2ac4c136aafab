"""The parts of the server that everything else is given, and the tricks that are played once on somebody."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.telegram.courier import Courier
from tests.telegram.handshake import Secrets
from tests.telegram.keys import DhSecret, KeyRing, RsaKey
from tests.telegram.nasty import Nasty
from tests.telegram.people import People
from tests.telegram.record import Record
from tests.telegram.state import Bot, World
from tests.telegram.tl import now

#: The data centre a client begins with, and another where a bot may live.
HOME_DC, OTHER_DC = 2, 4

HOST: Final = "127.0.0.1"


def random_number() -> int:
    return int.from_bytes(os.urandom(8), "big") >> 2


@dataclass(slots=True)
class Core:
    """What there is of the server besides its sockets."""

    nasty: Nasty = field(default_factory=Nasty)
    record: Record = field(default_factory=Record)
    world: World = field(default_factory=World)
    secrets: Secrets = field(default_factory=lambda: Secrets(RsaKey(), DhSecret(), KeyRing()))
    ports: dict[int, int] = field(default_factory=dict)
    """Data centre -> port."""
    salt: int = field(default_factory=random_number)
    lines: set[Any] = field(default_factory=set)
    """All open connections."""
    courier: Courier = field(init=False)
    people: People = field(init=False)

    def __post_init__(self) -> None:
        self.courier = Courier(self.world, self.record, self.nasty)
        self.people = People(self.world, self.courier, self.nasty)

    def add_bot(self, token: str, username: str | None = None, *, dc: int = HOME_DC) -> Bot:
        """A bot that BotFather has given this token; its id is the number before the colon. A new token replaces the old."""
        bot_id = int(token.partition(":")[0])
        known = self.world.bots.get(bot_id)
        if known is None:
            known = Bot(bot_id, token, username or f"bot{bot_id}_bot", dc, now(), self.world.first, self.world.first)
            self.world.bots[bot_id] = known
        known.token, known.revoked = token, False
        return known

    def log_in(self, bot_id: int, key: bytes) -> None:
        """Know this key as the bot's without any handshake or login, for tests with thousands of clients."""
        self.secrets.ring.add(key, self.world.bots[bot_id].dc, bot_id)

    # Tricks

    def drop(self, bot_id: int | None = None) -> int:
        """Cut connections: the bot's, or all."""
        return sum(1 for line in self._lines(bot_id) if line.drop() is None)

    def silence(self, bot_id: int | None = None) -> int:
        """Leave the connections open, and never say or hear anything on them again."""
        lines = list(self._lines(bot_id))
        for line in lines:
            line.fall_silent()
        return len(lines)

    def kill_keys(self, bot_id: int) -> None:
        """The bot's keys are logged out, as when its owner ends the session: 401 from now on."""
        for agreed in self.secrets.ring.of(bot_id):
            agreed.bot_id = None
        self._stop_pushing(bot_id)

    def forget_keys(self, bot_id: int) -> None:
        """The server knows the bot's keys no longer: -404 from now on."""
        for agreed in self.secrets.ring.of(bot_id):
            self.secrets.ring.forget(agreed)
        self._stop_pushing(bot_id)

    def revoke(self, bot_id: int) -> None:
        """The owner has asked BotFather for a new token: keys are dead, and the token is refused."""
        self.world.bots[bot_id].revoked = True
        self.kill_keys(bot_id)

    def expire_media(self, bot_id: int) -> None:
        """The bot's file references are too old now."""
        self.world.bots[bot_id].media.clear()

    def renew_salt(self) -> None:
        """Clients learn the new one by being told that theirs is bad."""
        self.salt = random_number()

    def _stop_pushing(self, bot_id: int) -> None:
        self.world.bots[bot_id].lines.clear()
        self.record.changed()

    def _lines(self, bot_id: int | None) -> Iterator[Any]:
        return (line for line in list(self.lines) if bot_id is None or line.bot_id == bot_id)
