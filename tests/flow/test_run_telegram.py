"""What a run has for Telegram, and what becomes of the demo's sessions from one start to the next."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.run import demo, telegram
from services.run.telegram import Telegram
from shared.db.connect import Raw
from shared.sealing import Sealer, new_key

BOTS = 5
SERVICE_BOT = "6000000001:the-service-bots"


@pytest.fixture
def known(database_url: str, tmp_path: Path) -> demo.Demo:
    """A demo as it was made before bots had sessions."""
    return demo.make(database_url, tmp_path)


def settings(state: Path, key: str) -> telegram.Settings:
    return telegram.Settings(secret_keys=key, service_bot=SERVICE_BOT, media=state / "media")


def simulate(database_url: str, state: Path, known: demo.Demo, key: str) -> Telegram:
    return telegram.simulated(database_url, settings(state, key), state, [one.account for one in known.keys])


def lines(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / "telegram.jsonl").read_text().splitlines()]


def tokens(state: Path) -> set[str]:
    return {line["token"] for line in lines(state) if line["do"] == "add_bot"}


def test_a_demo_without_sessions_gets_them_and_keeps_them(database_url: str, db: Raw, known: demo.Demo, tmp_path: Path) -> None:
    key = new_key()
    first = simulate(database_url, tmp_path, known, key)
    given = tokens(tmp_path)
    assert len(given) == BOTS + 1
    assert SERVICE_BOT in given
    sealed = db.execute("SELECT b.tg_id, b.id, s.token FROM bot_session s JOIN bot b ON b.id = s.bot_id").fetchall()
    assert {Sealer.read(key).open(token, f"bot_session.token:{bot}").decode() for _, bot, token in sealed} == given - {SERVICE_BOT}
    assert all(any(token.startswith(f"{tg_id}:") for token in given) for tg_id, *_ in sealed)
    assert first.listener is not None
    assert first.listener.settings["GATEPOST_TELEGRAM_SERVER"].endswith(f":{first.port}")

    db.execute("UPDATE bot_session SET auth_key = 'x', dc = 2, port = 1, pts = 77, retry_at = now() + interval '1 day'")
    simulate(database_url, tmp_path, known, key)

    assert tokens(tmp_path) == given
    left = db.execute("SELECT DISTINCT auth_key, dc, address, port, pts, retry_at < now() FROM bot_session").fetchall()
    assert left == [(None, None, "127.0.0.1", None, 77, True)]


def test_the_server_is_told_of_bots_chats_and_campaigns_as_they_are(database_url: str, db: Raw, known: demo.Demo, tmp_path: Path) -> None:
    simulate(database_url, tmp_path, known, new_key())
    told = lines(tmp_path)
    chats = {-1_000_000_000_000 - tg_id: (kind, title) for tg_id, kind, title in db.execute("SELECT tg_id, type, title FROM chat")}
    assert {line["chat"]: (line["kind"], line["title"]) for line in told if line["do"] == "open_chat"} == chats
    assert sum(line["do"] == "promote" for line in told) == len(chats) * BOTS
    (crowd,) = [line for line in told if line["do"] == "crowd"]
    active = db.execute(
        "SELECT b.tg_id, -1000000000000 - c.tg_id, k.code FROM campaign k JOIN bot b ON b.id = k.bot_id JOIN chat c ON c.id = k.chat_id "
        "WHERE k.status = 0"
    )
    assert {(stage["bot"], stage["chat"], *stage["codes"]) for stage in crowd["stages"]} == set(active)


def test_with_another_key_the_demos_bots_get_other_tokens(database_url: str, known: demo.Demo, tmp_path: Path) -> None:
    simulate(database_url, tmp_path, known, new_key())
    before = tokens(tmp_path)
    simulate(database_url, tmp_path, known, new_key())
    assert len(tokens(tmp_path)) == BOTS + 1
    assert tokens(tmp_path) & before == {SERVICE_BOT}


def test_bots_at_telegram_itself_are_let_alone(database_url: str, db: Raw, known: demo.Demo, tmp_path: Path) -> None:
    simulate(database_url, tmp_path, known, new_key())
    db.execute("UPDATE bot_session SET address = '149.154.167.51', auth_key = 'x' WHERE bot_id = %s", [known.shown])
    played = simulate(database_url, tmp_path, known, new_key())
    assert (played.server, played.listener) == (None, None)
    assert "at Telegram itself: 1. Telegram needs GATEPOST_TELEGRAM_API_ID" in played.says

    real = telegram.itself(database_url, settings(tmp_path, new_key()), 1, "hash")

    assert db.execute("SELECT bot_id FROM bot_session").fetchall() == [(known.shown,)]
    assert real.listener is not None
    assert real.server is None
    assert "GATEPOST_TELEGRAM_SERVER" not in real.listener.settings
    assert real.listener.settings["GATEPOST_MODE"] == "production"
