"""Telegram as our processes reach it: whose application we are, and where the servers are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telethon import TelegramClient
from telethon.crypto import rsa

#: Seconds for a connection, and for an answer to a request.
TIMEOUT_S: Final = 10

#: What every client of ours is given: errors come to us, and nothing sleeps or repeats behind our back.
PATIENCE: Final = {
    "connection_retries": 1,
    "retry_delay": 1,
    "request_retries": 1,
    "flood_sleep_threshold": 0,
    "raise_last_call_error": True,
    "timeout": TIMEOUT_S,
}


class NoTelegram(ValueError):
    """The settings do not lead to Telegram. The message is a sentence for an operator."""


@dataclass(frozen=True, slots=True, repr=False)
class Telegram:
    """The application's id and hash from my.telegram.org. No repr, for the hash's sake.

    `server` (data centre, host, port) is in the place of Telegram's own servers in a demo or a test.
    """

    api_id: int
    api_hash: str
    server: tuple[int, str, int] | None = None

    def new_client(self, session: Any, kind: type[Any] = TelegramClient, **options: Any) -> Any:
        """A Telethon client, not connected. A session without an auth key begins at `server` if there is one.

        One that has a key of that data centre finds it there, too, wherever it was when the key was agreed.
        """
        if self.server and (not session.auth_key or session.dc_id == self.server[0]):
            session.set_dc(*self.server)
        return kind(session, self.api_id, self.api_hash, **{**PATIENCE, **options})


def configure(*, api_id: int | None, api_hash: str | None, server: str | None, server_key: Path | None, mode: str) -> Telegram:
    """Telegram by the settings.

    `server` is `dc@host:port` in the place of Telegram's own, `server_key` its public RSA key in PEM; both are for mode `demo` and
    `test` only.

    Raises:
        NoTelegram
    """
    if server or server_key:
        if mode not in {"demo", "test"}:
            raise NoTelegram("Telegram's servers and key can be replaced in a demo or a test only (GATEPOST_MODE).")
        if not server or not server_key:
            raise NoTelegram("A server in Telegram's place needs both GATEPOST_TELEGRAM_SERVER and GATEPOST_TELEGRAM_SERVER_KEY.")
        dc, _, address = server.partition("@")
        host, _, port = address.rpartition(":")
        if not (dc.isdecimal() and host and port.isdecimal()):
            raise NoTelegram("GATEPOST_TELEGRAM_SERVER is written dc@host:port.")
        try:
            rsa.add_key(server_key.read_bytes(), old=False)
        except (OSError, ValueError) as error:
            raise NoTelegram(f"The key of the server in Telegram's place can't be read: {type(error).__name__}.") from None
        return Telegram(api_id or 1, api_hash or "0" * 32, (int(dc), host, int(port)))
    if not api_id or not api_hash:
        raise NoTelegram("Set GATEPOST_TELEGRAM_API_ID and GATEPOST_TELEGRAM_API_HASH, from https://my.telegram.org.")
    return Telegram(api_id, api_hash)
