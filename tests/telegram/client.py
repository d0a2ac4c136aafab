"""Points a real Telethon client at this server instead of Telegram's."""

from dataclasses import dataclass
from typing import Any, Final

from telethon import TelegramClient
from telethon.crypto import rsa as telethon_rsa
from telethon.sessions import MemorySession

from tests.telegram.core import HOME_DC, HOST, Core
from tests.telegram.keys import PUBLIC_KEY

#: Any will do.
API_ID, API_HASH = 1, "0" * 32


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is to be found."""

    port: int
    host: str = HOST
    dc: int = HOME_DC


def address_of(core: Core) -> Address:
    return Address(core.ports[HOME_DC])


def trust() -> None:
    """Let Telethon accept the server's RSA key, besides Telegram's own."""
    telethon_rsa.add_key(PUBLIC_KEY.read_bytes(), old=False)


def point(client: Any, address: Address) -> None:
    """Make the client find this server. A session that has an auth key keeps the data centre it was agreed with."""
    trust()
    # Telethon keeps the list of data centres on the class, where another server's ports would outlive it.
    TelegramClient._config = None
    if not client.session.auth_key:
        client.session.set_dc(address.dc, address.host, address.port)


async def connect(client: Any, address: Address, *, token: str | None = None) -> Any:
    """Point, connect, and log in if a token is given and the session is not logged in yet; the client."""
    point(client, address)
    await client.connect()
    if token is not None:
        await client.sign_in(bot_token=token)
    return client


#: What a client of ours is given where stock Telethon would sleep, retry for long, or hide the reason.
PATIENCE: Final = {"connection_retries": 2, "retry_delay": 0.05, "request_retries": 2, "flood_sleep_threshold": 0, "timeout": 5}


def new_client(session: Any = None, **options: Any) -> Any:
    """A stock client with little patience."""
    return TelegramClient(session or MemorySession(), API_ID, API_HASH, **{**PATIENCE, **options})
