"""Accounts, bots and campaigns in bulk, numbered so that a pgbench script can compute every id from one number.

Pair `p` is two accounts on a paid plan, a bot of the first, and its one campaign. Ids of different things are never alike.
"""

from typing import Final

from shared.db.connect import Raw
from shared.domain import keys

SENDER: Final = 1_000_000
RECIPIENT: Final = 2_000_000
BOT: Final = 3_000_000
CAMPAIGN: Final = 4_000_000
CHAT: Final = 5_000_000
SECOND_BOT: Final = 6_000_000
COMMAND: Final = 100_000_000_000

#: The key of every account. What it protects lives for minutes.
KEY: Final = keys.new_key(lambda letters: letters[7])

#: Neighbours in the queue must not be neighbours in the tables: command `n` is of pair `n * STEP % pairs`.
STEP: Final = 7_919

_ADD_PAIRS: Final = f"""
    WITH pair AS (SELECT generate_series(%(first)s::int, %(last)s::int) AS p),
    accounts AS (
        INSERT INTO account (id, name, login, plan, paid_until, key_hash, transfer_token) OVERRIDING SYSTEM VALUE
        SELECT base + p, 'Account ' || base + p, 'owner' || base + p, 'tiger', now() + interval '30 days', %(hash)s,
               'BenchTokenOfAcc' || base + p
        FROM pair, unnest(ARRAY[{SENDER}, {RECIPIENT}]) AS base
    ), bots AS (
        INSERT INTO bot (id, account_id, created_by, tg_id, username, name) OVERRIDING SYSTEM VALUE
        SELECT {BOT} + p, {SENDER} + p, {SENDER} + p, {BOT} + p, 'bot' || {BOT} + p || '_bot', 'Bot' FROM pair
    ), chats AS (
        INSERT INTO chat (id, tg_id, title, type) OVERRIDING SYSTEM VALUE
        SELECT {CHAT} + p, -({CHAT} + p), 'Chat ' || {CHAT} + p, 'channel' FROM pair
    ), seats AS (
        INSERT INTO bot_chat (bot_id, chat_id, admin) SELECT {BOT} + p, {CHAT} + p, true FROM pair
    ), campaigns AS (
        INSERT INTO campaign (id, account_id, created_by, code, bot_id, chat_id) OVERRIDING SYSTEM VALUE
        SELECT {CAMPAIGN} + p, {SENDER} + p, {SENDER} + p, 'c' || {CAMPAIGN} + p, {BOT} + p, {CHAT} + p FROM pair
    ), bindings AS (
        INSERT INTO campaign_bot (campaign_id, bot_id) SELECT {CAMPAIGN} + p, {BOT} + p FROM pair
    )
    INSERT INTO lead_counter (campaign_id, epoch) SELECT {CAMPAIGN} + p, 0 FROM pair
"""

_FILL_QUEUE: Final = f"""
    INSERT INTO command (id, kind, account_id, object_id, token, keep_leads)
    SELECT ('00000000-0000-7000-8000-' || {COMMAND} + n)::uuid, 'bot', {SENDER} + p, {BOT} + p, 'BenchTokenOfAcc' || {RECIPIENT} + p, true
    FROM generate_series(0, %(count)s::int - 1) AS n, LATERAL (SELECT n * {STEP}::bigint %% %(pairs)s AS p) AS pair
"""

#: One pair of accounts passes its bots to and fro; the keys let the queue hold the same request twice.
_FILL_PAIR: Final = f"""
    INSERT INTO command (id, kind, account_id, object_id, token, keep_leads, idempotency_key)
    SELECT ('00000000-0000-7000-8000-' || {COMMAND} + n)::uuid, 'bot', CASE WHEN back THEN {RECIPIENT} ELSE {SENDER} END,
           {BOT} + n %% %(bots)s, 'BenchTokenOfAcc' || CASE WHEN back THEN {SENDER} ELSE {RECIPIENT} END, true, n::text
    FROM generate_series(0, %(count)s::int - 1) AS n, LATERAL (SELECT n / %(bots)s %% 2 = 1 AS back) AS direction
"""


def token(account: int) -> str:
    """The transfer token of an account."""
    return f"BenchTokenOfAcc{account}"


def other(account: int) -> int:
    """The other account of the pair."""
    return account - RECIPIENT + SENDER if account >= RECIPIENT else account - SENDER + RECIPIENT


def credential(account: int) -> str:
    """The whole key of an account."""
    return f"{account}-{KEY}"


def add_pairs(db: Raw, count: int) -> None:
    """Pairs 0 to `count`, each with its bot and campaign."""
    db.execute(_ADD_PAIRS, {"first": 0, "last": count - 1, "hash": keys.hash_key(KEY)})
    settle(db)


def add_second_bots(db: Raw, pairs: int) -> None:
    """In each of the first pairs a bot for the other account too, in the same chat, so that the campaign alone can go to and fro."""
    db.execute(
        f"""
        WITH bots AS (
            INSERT INTO bot (id, account_id, created_by, tg_id, username, name) OVERRIDING SYSTEM VALUE
            SELECT {SECOND_BOT} + p, {RECIPIENT} + p, {RECIPIENT} + p, {SECOND_BOT} + p, 'bot' || {SECOND_BOT} + p || '_bot', 'Bot'
            FROM generate_series(0, %(pairs)s::int - 1) AS p)
        INSERT INTO bot_chat (bot_id, chat_id, admin)
        SELECT {SECOND_BOT} + p, {CHAT} + p, true FROM generate_series(0, %(pairs)s::int - 1) AS p
        """,
        {"pairs": pairs},
    )


def give_leads_back(db: Raw, campaign: int) -> None:
    """Undo what a transfer with leads=0 did to the leads, as if their purge had never been asked for."""
    db.execute("UPDATE campaign SET lead_epoch = lead_epoch - 1 WHERE id = %s", [campaign])
    db.execute("DELETE FROM purge WHERE campaign_id = %s", [campaign])
    db.execute("DELETE FROM outbox")


def fill_queue(db: Raw, *, pairs: int) -> None:
    """One waiting command for each pair's bot, to hand it to the pair's other account."""
    db.execute(_FILL_QUEUE, {"count": pairs, "pairs": pairs})
    settle(db)


def fill_pair(db: Raw, count: int, *, bots: int) -> None:
    """So many waiting commands between the accounts of pair 0, which is given that many bots first."""
    db.execute(f"UPDATE bot SET account_id = {SENDER}, created_by = {SENDER} WHERE id < {BOT} + %s", [bots])
    db.execute(f"UPDATE campaign SET account_id = {SENDER}, created_by = {SENDER} WHERE bot_id < {BOT} + %s", [bots])
    db.execute(_FILL_PAIR, {"count": count, "bots": bots})
    settle(db)


def settle(db: Raw) -> None:
    """What autovacuum would do some time, done now."""
    db.execute("VACUUM (FREEZE, ANALYZE)")
