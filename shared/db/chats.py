"""Chats as bots learn of them, where bots stand in them, and whom accounts belong to: what events change that are nobody's lead.

Lock order: accounts (by id) → bots (by id) → bot inboxes → chats (by id) → campaigns (by id). Whatever changes what a bot may do in a chat
locks the bot first.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from shared.db.connect import Raw
from shared.db.ingest import EVENT_COLUMNS, SPECIAL, event_of_row
from shared.db.rows import numbers, texts
from shared.domain.events import ChatType, Event, EventKind
from shared.domain.leads import Action, Membership
from shared.domain.notices import NoticeKind
from shared.domain.seats import Place, Standing, likely_type

# Events

_PEEK: Final = f"""
    SELECT e.* FROM unnest(%(bots)s::bigint[]) AS b (bot) CROSS JOIN LATERAL (
        SELECT {EVENT_COLUMNS} FROM inbox_event WHERE bot_id = b.bot AND NOT parked ORDER BY id LIMIT %(share)s) AS e
    WHERE {SPECIAL}
"""
_PEEK_AT: Final = f"SELECT {EVENT_COLUMNS} FROM inbox_event WHERE id = %(only)s AND bot_id = ANY(%(bots)s) AND NOT parked AND {SPECIAL}"
_TAKE: Final = "SELECT bot_id FROM bot_inbox WHERE bot_id = ANY(%s) FOR UPDATE SKIP LOCKED"
_STILL_THERE: Final = "SELECT id FROM inbox_event WHERE id = ANY(%s)"


def peek(db: Raw, bots: Sequence[int], *, share: int, only: int | None = None) -> dict[int, Event]:
    """Events of the kinds dealt with here among the oldest `share` of each bot, by their ids, nothing locked; or `only` this one."""
    subject = {"bots": numbers(bots), "share": share, "only": only}
    rows = db.execute(_PEEK if only is None else _PEEK_AT, subject, prepare=True)
    return {row[0]: event_of_row(row) for row in rows}


def lock(tx: Raw, *, codes: Collection[str], bots: Collection[int]) -> None:
    """Lock the accounts with these link codes, then these bots."""
    if codes:
        tx.execute("SELECT id FROM account WHERE link_code = ANY(%s) ORDER BY id FOR NO KEY UPDATE", [list(codes)])
    if bots:
        tx.execute("SELECT id FROM bot WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", [list(bots)])


def take(tx: Raw, events: Mapping[int, Event]) -> dict[int, Event]:
    """Lock the inboxes of these events' bots; those events that are still there and whose inbox nobody else has."""
    mine = {row[0] for row in tx.execute(_TAKE, [list({event.bot for event in events.values()})])}
    left = {row[0] for row in tx.execute(_STILL_THERE, [list(events)])}
    return {number: event for number, event in events.items() if number in left and event.bot in mine}


def forget(tx: Raw, events: Iterable[int]) -> None:
    """Delete events that were applied."""
    tx.execute("DELETE FROM inbox_event WHERE id = ANY(%s)", [list(events)])


# Owners


def link_owner(tx: Raw, code: str, owner: int) -> bool:
    """Make whoever came with a link code the account's owner at Telegram. A code works once; False for one that nobody has."""
    row = tx.execute(
        f"""
        WITH linked AS (
            UPDATE account SET owner_tg_id = %s, owner_linked = now(), link_code = NULL WHERE link_code = %s RETURNING id)
        INSERT INTO notice (account_id, kind, params) SELECT id, '{NoticeKind.LINKED}', '{{}}' FROM linked RETURNING id
        """,
        [owner, code],
    ).fetchone()
    return row is not None


# Chats

_LEARN: Final = """
    INSERT INTO chat (tg_id, type, title)
    SELECT w.* FROM unnest(%(tg_ids)s::bigint[], %(likely)s::text[], %(titles)s::text[]) AS w (tg_id, type, title)
    WHERE NOT EXISTS (SELECT FROM chat WHERE chat.tg_id = w.tg_id) AND NOT EXISTS (SELECT FROM chat WHERE chat.former_tg_id = w.tg_id)
    ORDER BY w.tg_id ON CONFLICT DO NOTHING
"""
_LOCK_CHATS: Final = "SELECT id FROM chat WHERE tg_id = ANY(%(tg_ids)s) OR former_tg_id = ANY(%(tg_ids)s) ORDER BY id FOR NO KEY UPDATE"
# What is told of a group that has become a supergroup is no longer how the chat is called.
_RENAME: Final = """
    UPDATE chat SET type = coalesce(nullif(w.type, ''), chat.type), title = coalesce(nullif(w.title, ''), chat.title)
    FROM unnest(%(tg_ids)s::bigint[], %(types)s::text[], %(titles)s::text[]) AS w (tg_id, type, title)
    WHERE chat.tg_id = w.tg_id AND (w.type NOT IN ('', chat.type) OR w.title NOT IN ('', chat.title))
"""
_GET_IDS: Final = """
    SELECT w.tg_id, chat.id FROM unnest(%(tg_ids)s::bigint[]) AS w (tg_id)
    JOIN chat ON chat.tg_id = w.tg_id OR chat.former_tg_id = w.tg_id
"""


def learn(tx: Raw, chats: Mapping[int, tuple[ChatType | None, str]]) -> dict[int, int]:
    """Make or rename chats, by Telegram's ids, with types and titles; our ids for Telegram's.

    No type and an empty title leave them as they are; a chat that is made has the likely type then.
    """
    subject = {
        "tg_ids": numbers(chats),
        "types": texts(kind or "" for kind, _ in chats.values()),
        "likely": texts(kind or likely_type(chat) for chat, (kind, _) in chats.items()),
        "titles": texts(title for _, title in chats.values()),
    }
    for statement in (_LEARN, _LOCK_CHATS, _RENAME):
        tx.execute(statement, subject)
    return dict(tx.execute(_GET_IDS, subject).fetchall())


_LOCK_ALL: Final = "SELECT id FROM chat WHERE tg_id = ANY(%(ids)s) OR former_tg_id = ANY(%(ids)s) ORDER BY id FOR UPDATE"


def lock_chats(tx: Raw, chats: Collection[int]) -> None:
    """Lock chats before some of them may become one, so that turns which migrate several do not wait for each other."""
    tx.execute(_LOCK_ALL, {"ids": list(chats)})


_LOCK_PAIR: Final = """
    SELECT id, tg_id, former_tg_id FROM chat WHERE tg_id IN (%(group)s, %(supergroup)s) OR former_tg_id = %(group)s ORDER BY id FOR UPDATE
"""
_BECOME: Final = """
    UPDATE chat SET tg_id = %(supergroup)s, former_tg_id = %(group)s, type = 'supergroup',
        title = CASE WHEN %(title)s = '' THEN title ELSE %(title)s END
    WHERE id = %(chat)s
"""
_BEGIN: Final = "INSERT INTO chat (tg_id, former_tg_id, type, title) VALUES (%(supergroup)s, %(group)s, 'supergroup', %(title)s)"

# A join in the supergroup may overtake the news of it. Then no campaign was found for it, and it became an entry of the bot's own: such
# entries of bots that had campaigns in the group go back to the inboxes as the events they were, and find them now.
_TAKE_BACK: Final = f"""
    WITH overtaken AS (
        DELETE FROM journal WHERE chat_id = %(second)s AND campaign_id IS NULL AND bot_id IN (
            SELECT h.bot_id FROM campaign c JOIN campaign_bot h ON h.campaign_id = c.id WHERE c.chat_id = %(chat)s
            EXCEPT SELECT h.bot_id FROM campaign c JOIN campaign_bot h ON h.campaign_id = c.id WHERE c.chat_id = %(second)s)
        RETURNING id, bot_id, at, subscriber, username, action
    )
    INSERT INTO inbox_event (bot_id, kind, at, subscriber, chat, username, before, after, own)
    SELECT o.bot_id, w.kind, o.at, o.subscriber, %(supergroup)s, o.username, w.before, w.after, w.own
    FROM overtaken o JOIN (VALUES
        ({Action.REQUEST:d}, '{EventKind.REQUEST}', '', '', false),
        ({Action.JOIN:d}, '{EventKind.CHANGE}', '{Membership.OUT}', '{Membership.IN}', true),
        ({Action.LEAVE:d}, '{EventKind.CHANGE}', '{Membership.IN}', '{Membership.OUT}', true),
        ({Action.KICK:d}, '{EventKind.CHANGE}', '{Membership.IN}', '{Membership.BANNED}', false)
    ) AS w (action, kind, before, after, own) ON w.action = o.action
    ORDER BY o.id RETURNING bot_id
"""
# The second row of a chat that was met under both ids goes; all that hangs on it hangs on the first from now on. The journal is found by
# its indexes: entries of the bots that stand there, and of the campaigns.
_MERGE: Final = (
    "SELECT id FROM campaign WHERE chat_id IN (%(chat)s, %(second)s) ORDER BY id FOR NO KEY UPDATE",
    "UPDATE campaign SET chat_id = %(chat)s WHERE chat_id = %(second)s",
    """
    UPDATE journal SET chat_id = %(chat)s
    WHERE chat_id = %(second)s AND campaign_id IS NULL AND bot_id IN (
        SELECT bot_id FROM bot_chat WHERE chat_id IN (%(chat)s, %(second)s) UNION SELECT %(bot)s)
    """,
    """
    UPDATE journal j SET chat_id = %(chat)s FROM campaign c
    WHERE j.chat_id = %(second)s AND j.campaign_id = c.id AND c.chat_id = %(chat)s
    """,
    """
    INSERT INTO bot_chat (bot_id, chat_id, admin, changed)
    SELECT bot_id, %(chat)s, admin, changed FROM bot_chat WHERE chat_id = %(second)s ORDER BY bot_id
    ON CONFLICT (bot_id, chat_id) DO UPDATE SET admin = excluded.admin, changed = excluded.changed
        WHERE bot_chat.changed <= excluded.changed
    """,
    "DELETE FROM bot_chat WHERE chat_id = %(second)s",
    "DELETE FROM chat WHERE id = %(second)s",
)


def migrate(tx: Raw, *, bot: int, group: int, supergroup: int, title: str) -> set[int]:
    """A group became a supergroup: it is one chat under both Telegram ids, whichever of them was known.

    Returns the bots that have events again.

    Raises:
        psycopg.errors.UniqueViolation: one bot has a campaign in each.
    """
    subject = {"bot": bot, "group": group, "supergroup": supergroup, "title": title}
    ids: dict[int, int] = {}
    for chat, tg_id, former in tx.execute(_LOCK_PAIR, subject):
        if former == group:
            return set()
        ids[tg_id] = chat
    chat = ids.get(group) or ids.get(supergroup)
    if chat is None:
        tx.execute(_BEGIN, subject)
        return set()
    again: set[int] = set()
    if len(ids) == 2:
        both = {**subject, "chat": chat, "second": ids[supergroup]}
        again = {row[0] for row in tx.execute(_TAKE_BACK, both)}
        for statement in _MERGE:
            tx.execute(statement, both)
    tx.execute(_BECOME, {**subject, "chat": chat})
    return again


# Seats

_GET_STANDINGS: Final = """
    SELECT bot_id, chat_id, admin, changed FROM bot_chat WHERE bot_id = ANY(%s) AND chat_id = ANY(%s)
"""
_PUT_STANDINGS: Final = """
    INSERT INTO bot_chat (bot_id, chat_id, admin, changed)
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::boolean[], %s::timestamptz[])
    ON CONFLICT (bot_id, chat_id) DO UPDATE SET admin = excluded.admin, changed = excluded.changed
"""
_TELL_LOST: Final = f"""
    INSERT INTO notice (account_id, kind, params)
    SELECT bot.account_id, '{NoticeKind.BOT_ADMIN_LOST}', jsonb_build_object('title', '@' || bot.username, 'chat', chat.title)
    FROM unnest(%s::bigint[], %s::bigint[]) AS w (bot_id, chat_id)
    JOIN bot ON bot.id = w.bot_id JOIN chat ON chat.id = w.chat_id
    WHERE EXISTS (SELECT FROM campaign c WHERE c.bot_id = w.bot_id AND c.chat_id = w.chat_id AND c.status <> 2)
    RETURNING id
"""


def get_standings(tx: Raw, places: Collection[Place]) -> dict[Place, Standing]:
    """Where bots stand in these chats, by our ids, as far as it is known. The bots are locked."""
    rows = tx.execute(_GET_STANDINGS, [[bot for bot, _ in places], [chat for _, chat in places]])
    return {(bot, chat): Standing(admin, changed) for bot, chat, admin, changed in rows}


def put_standings(tx: Raw, standings: Mapping[Place, Standing]) -> None:
    """Keep where bots stand now."""
    bots, chats = [bot for bot, _ in standings], [chat for _, chat in standings]
    tx.execute(_PUT_STANDINGS, [bots, chats, [s.admin for s in standings.values()], [s.changed for s in standings.values()]])


def tell_lost(tx: Raw, places: Collection[Place]) -> bool:
    """Tell the owners of bots that are no longer administrators of chats which campaigns of theirs track. Whether there were any."""
    return tx.execute(_TELL_LOST, [[bot for bot, _ in places], [chat for _, chat in places]]).rowcount > 0
