"""Looks after the private PostgreSQL and RabbitMQ: says when one has died, and starts it again."""

import time
from collections.abc import Callable
from typing import Final

from shared.local import Postgres, RabbitMQ, Services
from shared.local.postgres import PostgresFailed
from shared.local.rabbitmq import RabbitMQFailed

#: A server that does not come up again is tried again after this.
RETRY_S: Final = 5.0


class Servers:
    """The servers that are ours. They lose nothing by dying, and our processes wait until they are back."""

    def __init__(self, services: Services, hide: Callable[[str], str], say: Callable[[str], None]) -> None:
        ours: dict[str, Postgres | RabbitMQ | None] = {"PostgreSQL": services.postgres, "RabbitMQ": services.rabbitmq}
        self._servers = {name: server for name, server in ours.items() if server is not None}
        self._due = dict.fromkeys(self._servers, 0.0)
        self._hide = hide
        self._say = say

    def look(self) -> None:
        """Start again what has died. Returns when it is up."""
        for name, server in self._servers.items():
            if time.monotonic() >= self._due[name] and not server.running():
                self._start_again(name, server)

    def _start_again(self, name: str, server: Postgres | RabbitMQ) -> None:
        self._say(f"{name} has died. Starting it again.")
        try:
            server.start_again()
        except (PostgresFailed, RabbitMQFailed, OSError) as error:
            self._due[name] = time.monotonic() + RETRY_S
            self._say(f"{self._hide(str(error))} Trying again in {RETRY_S:.0f} s.")
        else:
            self._say(f"{name} is up again.")
