"""What a demo needs to play the database's bots, chats and campaigns at a server in Telegram's place, which knows only what it is told.

A session says by its address with whom it is logged in; those at the demo's server are told from Telegram's own by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.db.connect import Raw


@dataclass(frozen=True, slots=True, repr=False)
class SceneBot:
    """A connected bot. `token` is sealed; None where it has no session. No repr, for the token's sake."""

    id: int
    account_id: int
    tg_id: int
    username: str
    token: bytes | None


@dataclass(frozen=True, slots=True)
class SceneChat:
    """A chat, with the Telegram ids of the bots that are administrators there."""

    tg_id: int
    type: str
    title: str
    admins: list[int]


@dataclass(frozen=True, slots=True)
class SceneCampaign:
    """An active campaign: its code, and the Telegram ids of its bot and chat."""

    code: str
    bot: int
    chat: int


def count_elsewhere(db: Raw, address: str) -> int:
    """How many sessions are logged in at other servers than this."""
    row = db.execute("SELECT count(*) FROM bot_session WHERE address NOT IN ('', %s)", [address]).fetchone()
    assert row is not None, "an aggregate always answers"
    return int(row[0])


def get_bots(db: Raw) -> list[SceneBot]:
    """All connected bots."""
    rows = db.execute(
        """
        SELECT b.id, b.account_id, b.tg_id, b.username, s.token FROM bot b LEFT JOIN bot_session s ON s.bot_id = b.id
        WHERE b.disconnected IS NULL ORDER BY b.id
        """
    )
    return [SceneBot(*row) for row in rows]


def get_chats(db: Raw, bots: Sequence[int]) -> list[SceneChat]:
    """The chats where any of these bots is an administrator."""
    rows = db.execute(
        """
        SELECT c.tg_id, c.type, c.title, array_agg(b.tg_id ORDER BY b.id)
        FROM bot_chat bc JOIN chat c ON c.id = bc.chat_id JOIN bot b ON b.id = bc.bot_id
        WHERE bc.admin AND bc.bot_id = ANY(%s) GROUP BY c.id ORDER BY c.id
        """,
        [list(bots)],
    )
    return [SceneChat(*row) for row in rows]


def get_campaigns(db: Raw, bots: Sequence[int]) -> list[SceneCampaign]:
    """The active campaigns of these bots."""
    rows = db.execute(
        """
        SELECT k.code, b.tg_id, c.tg_id FROM campaign k JOIN bot b ON b.id = k.bot_id JOIN chat c ON c.id = k.chat_id
        WHERE k.status = 0 AND k.bot_id = ANY(%s) ORDER BY k.id
        """,
        [list(bots)],
    )
    return [SceneCampaign(*row) for row in rows]


def set_token(db: Raw, bot_id: int, token: bytes) -> None:
    """Give a bot a session with this sealed token, or its session another token."""
    db.execute(
        "INSERT INTO bot_session (bot_id, token) VALUES (%s, %s) ON CONFLICT (bot_id) DO UPDATE SET token = excluded.token", [bot_id, token]
    )


def begin_again(db: Raw, address: str) -> None:
    """All sessions are with a server at this address that remembers nothing: none is logged in, and no listener holds one.

    How far each bot's updates are taken in stays.
    """
    db.execute(
        """
        UPDATE bot_session SET address = %s, auth_key = NULL, dc = NULL, port = NULL, listener_id = NULL, retry_at = '-infinity',
            send_after = '-infinity'
        """,
        [address],
    )


def remove_sessions(db: Raw, address: str) -> int:
    """Remove the sessions at this server, and those that never were at any; how many."""
    return db.execute("DELETE FROM bot_session WHERE address = %s OR address = '' AND auth_key IS NULL", [address]).rowcount
