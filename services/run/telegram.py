"""What a run has for Telegram: Telegram itself; a server of the tests in its place, with the demo's bots and people; or nothing.

The server in Telegram's place remembers nothing. It is told at each of its starts, by a file, who there is: the bots that have sessions at
its address, their chats and campaigns, and the people. So it may crash and be started again like any process.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.run import files
from services.run.keys import new_token
from services.run.supervisor import Program
from shared.db import scene
from shared.db.connect import Raw, connect
from shared.db.scene import SceneBot, SceneCampaign, SceneChat
from shared.local.ports import LOOPBACK, choose
from shared.sealing import NotOpened, Sealer

#: The data centre which the server says it is, and its public key.
DC: Final = 2
PUBLIC_KEY: Final = Path("tests/telegram/test-key.pub.pem")

#: Telegram's clients write the id of a channel or supergroup below this.
CHANNELS_BELOW: Final = -1_000_000_000_000

#: Whose the chats are.
OWNER: Final = 5_000_001

#: So many people at a time do so many things a second, for ten minutes; then they calm down, so that a demo can be forgotten for days.
PEOPLE: Final = 30
LIVELY_PER_S: Final = 4.0
LIVELY_EVENTS: Final = 2_400
CALM_PER_S: Final = 0.2


#: In the demo a listener that was killed is replaced within seconds. Telegram itself is given more time, as the listener's options say.
QUICK_LEASE: Final = ("--lease", "6", "--renew", "1", "--take-over", "1")

#: The demo's service bot.
SERVICE_BOT: Final = "gatepost_demo_bot"

NEEDED: Final = (
    "Telegram needs GATEPOST_TELEGRAM_API_ID and GATEPOST_TELEGRAM_API_HASH, from https://my.telegram.org; everything else runs without."
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What the listener is given, whatever it talks to. No repr, for the secrets' sake."""

    secret_keys: str
    service_bot: str
    media: Path

    def shared(self) -> dict[str, str]:
        """What the gateway is given as well."""
        return {"GATEPOST_SECRET_KEYS": self.secret_keys, "GATEPOST_MEDIA": str(self.media)}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Telegram:
    """What is to be started, and what is to be said of it.

    Where a server is in Telegram's place, the listener is started when its port answers, and `example` is what may be asked of it.
    """

    says: str
    listener: Program | None = None
    server: Program | None = None
    port: int = 0
    control_port: int | None = None
    example: str = ""


def itself(database_url: str, settings: Settings, api_id: int, api_hash: str) -> Telegram:
    """Telegram. The demo's bots do not exist there, so their sessions are removed."""
    with connect(database_url, name="run") as db:
        scene.remove_sessions(db, LOOPBACK)
    given = {"GATEPOST_MODE": "production", "GATEPOST_TELEGRAM_API_ID": str(api_id), "GATEPOST_TELEGRAM_API_HASH": api_hash}
    says = "Telegram itself is connected. Add your bots with bots/add; those of the demo do not exist there and stay silent."
    return Telegram(listener=_listener(settings, given), says=says)


def simulated(database_url: str, settings: Settings, state: Path, accounts: Collection[int]) -> Telegram:
    """A server in Telegram's place, where the bots of these accounts have sessions.

    1. Where bots have sessions at Telegram itself there is nothing: what Telegram has for them, only Telegram can tell.
    2. Every bot whose token can be read is known there; the demo's others get tokens.
    3. All begin again, since the server does.
    4. Write down who there is, for each of the server's starts.
    """
    sealer = Sealer.read(settings.secret_keys)
    with connect(database_url, name="run") as db:
        if elsewhere := scene.count_elsewhere(db, LOOPBACK):
            return Telegram(says=f"Bots with sessions at Telegram itself: {elsewhere}. {NEEDED}")
        bots = scene.get_bots(db)
        tokens = {bot.tg_id: token for bot in bots if (token := _token(db, sealer, bot, accounts))}
        scene.begin_again(db, LOOPBACK)
        known = [bot for bot in bots if bot.tg_id in tokens]
        chats = scene.get_chats(db, [bot.id for bot in known])
        campaigns = scene.get_campaigns(db, [bot.id for bot in known])
    port, control_port = choose(2)
    lines = [
        {"do": "add_bot", "token": settings.service_bot, "username": SERVICE_BOT},
        *({"do": "add_bot", "token": tokens[bot.tg_id], "username": bot.username} for bot in known),
        *(line for chat in chats for line in _chat_lines(chat)),
        *_crowd_lines(campaigns),
    ]
    begin = (state / "telegram.jsonl").resolve()
    files.write_private_text(begin, "".join(f"{json.dumps(line)}\n" for line in lines))
    where = ("--port", str(port), "--control-port", str(control_port), "--begin", str(begin), "--by-clock")
    given = {
        "GATEPOST_MODE": "demo",
        "GATEPOST_TELEGRAM_SERVER": f"{DC}@{LOOPBACK}:{port}",
        "GATEPOST_TELEGRAM_SERVER_KEY": str(PUBLIC_KEY),
    }
    return Telegram(
        says=f"A server of the tests is in Telegram's place: {len(known)} bots, {len(chats)} chats, {PEOPLE} people at a time.",
        server=Program("telegram", ("tests.telegram", *where)),
        port=port,
        control_port=control_port,
        example=f"start person=42 bot={campaigns[0].bot} payload={campaigns[0].code}-my-click" if campaigns else "",
        listener=_listener(settings, given, *QUICK_LEASE),
    )


def nothing() -> Telegram:
    """No Telegram, and so no listener."""
    return Telegram(says=NEEDED)


def _listener(settings: Settings, given: Mapping[str, str], *options: str) -> Program:
    return Program(
        "listener", ("services", "listener", *options), {**settings.shared(), "GATEPOST_SERVICE_BOT_TOKEN": settings.service_bot, **given}
    )


def _token(db: Raw, sealer: Sealer, bot: SceneBot, accounts: Collection[int]) -> str | None:
    """The bot's token; a new one for a bot of the demo that has none which can be read."""
    place = f"bot_session.token:{bot.id}"
    if bot.token is not None:
        try:
            return sealer.open(bot.token, place).decode()
        except NotOpened:
            pass
    if bot.account_id not in accounts:
        return None
    token = new_token(bot.tg_id)
    scene.set_token(db, bot.id, sealer.seal(token.encode(), place))
    return token


def _chat_lines(chat: SceneChat) -> Iterator[dict[str, Any]]:
    number = _bare(chat.tg_id)
    yield {"do": "open_chat", "chat": number, "owner": OWNER, "kind": chat.type, "title": chat.title}
    for bot in chat.admins:
        yield {"do": "promote", "who": bot, "chat": number, "by": OWNER}


def _crowd_lines(campaigns: Iterable[SceneCampaign]) -> Iterator[dict[str, Any]]:
    """People who follow the campaigns' deep links, and go on to the chats."""
    stages = [{"bot": c.bot, "chat": _bare(c.chat), "admin": OWNER, "codes": [c.code]} for c in campaigns]
    if stages:
        pace = {"people": PEOPLE, "per_s": LIVELY_PER_S, "events": LIVELY_EVENTS, "then_per_s": CALM_PER_S, "wait": False}
        yield {"do": "crowd", "stages": stages, **pace}


def _bare(chat: int) -> int:
    """A chat's id without the mark of its kind."""
    return CHANNELS_BELOW - chat if chat < CHANNELS_BELOW else -chat
