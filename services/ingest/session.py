"""A bot's session as Telethon wants to have it: read from the row, and never written by Telethon itself."""

from collections.abc import Sequence
from typing import Any, Final

from telethon.crypto import AuthKey
from telethon.sessions import MemorySession
from telethon.tl import types

from shared.db.inbox import UpdateState
from shared.db.sessions import Session
from shared.sealing import Sealer

#: The entry in which Telethon keeps the account's own state, beside those of channels.
_ACCOUNT: Final = 0


def token_place(bot: int) -> str:
    """Where a bot's sealed token belongs."""
    return f"bot_session.token:{bot}"


def key_place(bot: int) -> str:
    """Where a bot's sealed auth key belongs."""
    return f"bot_session.auth_key:{bot}"


class StoredSession(MemorySession):  # type: ignore[misc]
    """The key and the state of updates come from the row.

    Telethon would save the state whenever it likes, ahead of the events that belong to it; the client's checkpoint does it instead. Nor are
    entities kept here: access hashes are, with the events that name their peers.
    """

    def __init__(self, row: Session, sealer: Sealer) -> None:
        """Open the row's key.

        Raises:
            shared.sealing.NotOpened
        """
        super().__init__()
        self.state: Final[UpdateState | None] = row.state
        self.key_was_stored: Final = row.auth_key is not None
        if row.dc and row.port:
            self.set_dc(row.dc, row.address, row.port)
        if row.auth_key is not None:
            self._auth_key = AuthKey(sealer.open(row.auth_key, key_place(row.bot)))

    def get_update_states(self) -> Sequence[tuple[int, Any]]:
        """The stored state. None while there is no key: Telethon would ask for a difference before it is logged in, and give up."""
        if self.state is None or not self.key_was_stored:
            return ()
        return [(_ACCOUNT, types.updates.State(**self.state._asdict(), unread_count=0))]

    def set_update_state(self, entity_id: int, state: Any) -> None:
        """Nothing: see the class."""

    def process_entities(self, tlo: Any) -> None:
        """Nothing: see the class."""

    def get_input_entity(self, key: Any) -> Any:
        """Nobody is known here.

        Raises:
            ValueError: always; Telethon then looks further.
        """
        raise ValueError(f"not kept in the session: {type(key).__name__}")
