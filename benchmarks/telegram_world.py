"""Bots at Telegram in bulk: their accounts, chats, campaigns and sessions in a database, and the same bots at the server of the tests.

Bot `n` watches one channel with one campaign. It is logged in already: the server knows its auth key, and its session has it sealed.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import processes, world
from shared.db import inbox
from shared.db.connect import Raw
from shared.domain import keys
from shared.sealing import Sealer
from tests.telegram.core import HOME_DC, HOST
from tests.telegram.keys import PUBLIC_KEY

#: Ids in the database, and at Telegram: of bots, their channels, whoever owns those, and people.
ACCOUNT: Final = 1_000_000
BOT: Final = 3_000_000
CAMPAIGN: Final = 4_000_000
CHAT: Final = 5_000_000
TG_BOT: Final = 7_000_000_000
TG_CHANNEL: Final = 1_500_000_000
TG_OWNER: Final = 9_999_999
PERSON: Final = 10_000_000

#: Telegram's clients write the id of a channel below this.
CHANNELS_BELOW: Final = -1_000_000_000_000

#: The bots belong to so many accounts, each of which calls a tracker of its own.
ACCOUNTS: Final = 20

KEY_BYTES: Final = 256

#: A bot's numbers after it was made an administrator of its channel, which is the one thing that happened to it.
PTS, QTS = 1, 2

_ADD: Final = f"""
    WITH number AS (SELECT generate_series(0, %(bots)s::int - 1) AS n),
    accounts AS (
        INSERT INTO account (id, name, login, plan, paid_until, key_hash, transfer_token,
                             pb_wait, pb_hold, pb_approve, pb_cancel, pb_trash) OVERRIDING SYSTEM VALUE
        SELECT {ACCOUNT} + n, 'Account ' || n, 'owner' || n, 'tiger', now() + interval '30 days', %(hash)s, 'BenchTokenOfAcc' || n,
               url || 'lead', url || 'hold', url || 'sale', url || 'rejected', url || 'rejected'
        FROM generate_series(0, {ACCOUNTS} - 1) AS n,
             LATERAL (SELECT 'https://tracker' || n || '.example/postback?subid={{click}}&who={{subscriber}}&status=' AS url) AS tracker
    ), bots AS (
        INSERT INTO bot (id, account_id, created_by, tg_id, username, name) OVERRIDING SYSTEM VALUE
        SELECT {BOT} + n, {ACCOUNT} + n %% {ACCOUNTS}, {ACCOUNT} + n %% {ACCOUNTS}, {TG_BOT} + n, 'bot' || n || '_bot', 'Bot' FROM number
    ), inboxes AS (
        INSERT INTO bot_inbox (bot_id) SELECT {BOT} + n FROM number
    ), chats AS (
        INSERT INTO chat (id, tg_id, title, type) OVERRIDING SYSTEM VALUE
        SELECT {CHAT} + n, {CHANNELS_BELOW} - {TG_CHANNEL} - n, 'Channel ' || n, 'channel' FROM number
    ), seats AS (
        INSERT INTO bot_chat (bot_id, chat_id, admin) SELECT {BOT} + n, {CHAT} + n, true FROM number
    ), campaigns AS (
        INSERT INTO campaign (id, account_id, created_by, code, bot_id, chat_id, epoch_since, welcome, button_text, button_url)
        OVERRIDING SYSTEM VALUE
        SELECT {CAMPAIGN} + n, {ACCOUNT} + n %% {ACCOUNTS}, {ACCOUNT} + n %% {ACCOUNTS}, 'c' || {CAMPAIGN} + n, {BOT} + n, {CHAT} + n,
               now() - interval '1 day', 'Welcome to *channel* ' || n, 'Go on', 'https://shop.example/?subid={{click}}'
        FROM number
    ), bindings AS (
        INSERT INTO campaign_bot (campaign_id, bot_id, from_date) SELECT {CAMPAIGN} + n, {BOT} + n, now() - interval '1 day' FROM number
    )
    INSERT INTO lead_counter (campaign_id, epoch) SELECT {CAMPAIGN} + n, 0 FROM number
"""

# Everybody has started the bot an hour ago, and no more.
_ADD_LEADS: Final = f"""
    WITH added AS (
        INSERT INTO lead (campaign_id, epoch, subscriber, username, click, status, start_time, updated, seen, starts_day,
                          told_says, told_standing, postbacks)
        SELECT {CAMPAIGN} + n, 0, {PERSON} + n * %(people)s::int + p, '', 'known', 0, ago, ago, ago, (ago AT TIME ZONE 'UTC')::date, 0, 0, 1
        FROM generate_series(0, %(bots)s::int - 1) AS n, generate_series(0, %(people)s::int - 1) AS p,
             LATERAL (SELECT date_trunc('second', now()) - interval '1 hour' AS ago) AS hour
        RETURNING campaign_id
    )
    UPDATE lead_counter SET starts = %(people)s, n_wait = %(people)s WHERE campaign_id IN (SELECT campaign_id FROM added)
"""


@dataclass(frozen=True, slots=True)
class Login:
    """A bot's token, and the auth key with which it is logged in."""

    bot: int
    token: str
    key: bytes


def new_logins(bots: int) -> list[Login]:
    return [Login(BOT + n, f"{TG_BOT + n}:{'x' * 35}", os.urandom(KEY_BYTES)) for n in range(bots)]


def add(db: Raw, logins: list[Login]) -> None:
    """The bots with all that belongs to them."""
    inbox.keep_partitions(db)
    db.execute(_ADD, {"bots": len(logins), "hash": keys.hash_key(world.KEY)})
    sealer = Sealer.read(processes.SECRET_KEYS)
    rows = [
        (
            login.bot,
            sealer.seal(login.token.encode(), f"bot_session.token:{login.bot}"),
            sealer.seal(login.key, f"bot_session.auth_key:{login.bot}"),
        )
        for login in logins
    ]
    with db.cursor() as cursor:
        cursor.executemany(
            f"""
            INSERT INTO bot_session (bot_id, token, auth_key, dc, address, port, pts, qts, seq, date)
            VALUES (%s, %s, %s, {HOME_DC}, '{HOST}', 1, {PTS}, {QTS}, 0, now())
            """,
            rows,
        )
    world.settle(db)


def add_leads(db: Raw, *, bots: int, people: int) -> None:
    """So many people of each bot have started it, and wait; the bots know their access hashes."""
    db.execute(_ADD_LEADS, {"bots": bots, "people": people})
    db.execute(
        f"""
        INSERT INTO peer (bot_id, peer_id, access_hash)
        SELECT {BOT} + n, {PERSON} + n * %(people)s::int + p, p FROM generate_series(0, %(bots)s::int - 1) AS n,
               generate_series(0, %(people)s::int - 1) AS p
        """,
        {"bots": bots, "people": people},
    )
    world.settle(db)


def write_beginning(file: Path, logins: list[Login]) -> None:
    """What the server is told at its start (`--begin`)."""
    file.write_text("".join(json.dumps(line) + "\n" for line in _beginning(logins)))


def _beginning(logins: Iterable[Login]) -> Iterator[dict[str, Any]]:
    for n, login in enumerate(logins):
        bot, chat = TG_BOT + n, TG_CHANNEL + n
        yield {"do": "add_bot", "token": login.token}
        yield {"do": "log_in", "bot_id": bot, "key": login.key.hex()}
        yield {"do": "open_chat", "chat": chat, "owner": TG_OWNER, "kind": "channel"}
        yield {"do": "promote", "who": bot, "chat": chat, "by": TG_OWNER}


def stages(bots: int) -> list[dict[str, Any]]:
    """Where crowds meet."""
    return [{"bot": TG_BOT + n, "chat": TG_CHANNEL + n, "admin": TG_OWNER, "codes": [f"c{CAMPAIGN + n}"]} for n in range(bots)]


def listener_options(ports: dict[str, Any]) -> list[str]:
    """For `python -m services`, so that the listener finds the server in Telegram's place."""
    server = f"{ports['dc']}@{ports['host']}:{ports['port']}"
    return ["listener", "--mode", "test", "--telegram-server", server, "--telegram-server-key", str(PUBLIC_KEY)]
