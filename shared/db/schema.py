"""The tables, but for Telegram's (`telegram_schema.py`). What a table is for and why it has its shape is said beside it.

Ownership lives on `bot` and `campaign` alone. Leads, journal, counters and daily rows hang on (campaign, lead_epoch): a transfer that keeps
them rewrites none of them, and one that drops them raises the campaign's epoch, which hides them at once. They are read through the views
`current_lead`, `current_counter`, `current_daily` and `current_journal`, which join the epoch that counts.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

#: What a queue-like table needs: room for updates in place, and vacuum by the number of dead rows, not by a share of the table.
_QUEUE_STORAGE = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "2000",
}
QUEUE_TABLES = ("command", "outbox", "purge")


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _when(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=null, server_default=None if null else func.now())


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False, server_default="") for name in names]


POSTBACKS = ("pb_wait", "pb_hold", "pb_approve", "pb_cancel", "pb_trash")

# A tenant. `login` is the Telegram user name. `key_hash` is all that is kept of the API key; the transfer token is an
# address, not a secret. `owner_tg_id` is who pressed Start at the service bot with the one-time `link_code`: there notices are delivered.
account = Table(
    "account",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    *_texts("login"),
    Column("lang", Text, CheckConstraint("lang IN ('en', 'ru')", name="lang"), nullable=False, server_default="en"),
    Column("plan", Text, CheckConstraint("plan IN ('kitten', 'cat', 'tiger')", name="plan"), nullable=False, server_default="kitten"),
    _when("paid_until", null=True),
    Column("suspended", Boolean, nullable=False, server_default=text("false")),
    Column("key_hash", LargeBinary, nullable=False),
    Column("transfer_token", Text, nullable=False, unique=True),
    *_texts(*POSTBACKS),
    Column("notify_tariff", Boolean, nullable=False, server_default=text("true")),
    Column("notify_leads", Boolean, nullable=False, server_default=text("false")),
    Column("owner_tg_id", BigInteger, nullable=True),
    _when("owner_linked", null=True),
    Column("link_code", Text, nullable=True, unique=True),
    _when("created"),
    Index("account_owner", "owner_tg_id", postgresql_where=text("owner_tg_id IS NOT NULL")),
)

# `created_by` is the first owner and never changes: with the transfer history it tells every owner there has been. `answers_moved`: a
# start with the code of a campaign that moved to another bot is answered with the new link.
bot = Table(
    "bot",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False, index=True),
    Column("created_by", BigInteger, nullable=False),
    Column("tg_id", BigInteger, nullable=False),
    *_texts("username", "name"),
    Column("token_revoked", Boolean, nullable=False, server_default=text("false")),
    Column("answers_moved", Boolean, nullable=False, server_default=text("true")),
    _when("disconnected", null=True),
    _when("created"),
    Index("bot_connected_tg_id_key", "tg_id", unique=True, postgresql_where=text("disconnected IS NULL")),
)

# A channel or group. A basic group that became a supergroup is one chat under both Telegram ids.
chat = Table(
    "chat",
    metadata,
    _id(),
    Column("tg_id", BigInteger, nullable=False, unique=True),
    Column("former_tg_id", BigInteger, nullable=True, unique=True),
    Column("type", Text, CheckConstraint("type IN ('channel', 'supergroup', 'group')", name="type"), nullable=False),
    *_texts("title"),
)

# What a bot knows of its chats. Telegram can't list them, so a row is learned when the bot is added or promoted.
bot_chat = Table(
    "bot_chat",
    metadata,
    Column("bot_id", BigInteger, ForeignKey("bot.id"), primary_key=True),
    Column("chat_id", BigInteger, ForeignKey("chat.id"), primary_key=True),
    Column("admin", Boolean, nullable=False),
    _when("changed"),
    Index("bot_chat_admins", "chat_id", "bot_id", postgresql_where=text("admin")),
)

campaign = Table(
    "campaign",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("created_by", BigInteger, nullable=False),
    Column("code", Text, CheckConstraint("code ~ '^[a-z0-9]{6,10}$'", name="code"), nullable=False, unique=True),
    Column("bot_id", BigInteger, ForeignKey("bot.id"), nullable=False),
    Column("chat_id", BigInteger, ForeignKey("chat.id"), nullable=False),
    Column("status", SmallInteger, CheckConstraint("status IN (0, 1, 2)", name="status"), nullable=False, server_default="0"),
    Column("lead_epoch", Integer, nullable=False, server_default="0"),
    _when("epoch_since"),
    *_texts("welcome", "media", "button_text", "button_url", *POSTBACKS),
    Column("media_type", SmallInteger, nullable=False, server_default="0"),
    Column("unsub_window", Integer, nullable=False, server_default="2592000"),
    _when("deleted", null=True),
    _when("created"),
    Index("campaign_chat", "chat_id"),
    Index("campaign_bot_chat_key", "bot_id", "chat_id", unique=True, postgresql_where=text("status <> 2")),
    Index("campaign_account", "account_id", "id", postgresql_where=text("status <> 2")),
)

# Which bot held a campaign when: events count by the binding at their Telegram date.
campaign_bot = Table(
    "campaign_bot",
    metadata,
    Column("campaign_id", BigInteger, primary_key=True),
    Column("from_date", DateTime(timezone=True), primary_key=True, server_default=func.now()),
    Column("bot_id", BigInteger, nullable=False),
    _when("to_date", null=True),
    Index("campaign_bot_bot", "bot_id"),
    Index("campaign_bot_open", "campaign_id", unique=True, postgresql_where=text("to_date IS NULL")),
)

# When a campaign was paused: an event counts by the state at its date, whenever it arrives.
campaign_pause = Table(
    "campaign_pause",
    metadata,
    Column("campaign_id", BigInteger, primary_key=True),
    Column("since", DateTime(timezone=True), primary_key=True, server_default=func.now()),
    _when("until", null=True),
    Index("campaign_pause_open", "campaign_id", unique=True, postgresql_where=text("until IS NULL")),
)

# One subscriber in one campaign and epoch. No foreign keys: a purge must not be held up, and an insert must not lock the campaign.
# From `seen` on stands what `shared/domain/fold.py` keeps of a lead beside its facts: the date of the last one, where the subscriber
# stands in the chat, the days on which it counted, the last postback owed and how many there were.
lead = Table(
    "lead",
    metadata,
    _id(),
    Column("campaign_id", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("subscriber", BigInteger, nullable=False),
    *_texts("username", "click"),
    Column("status", SmallInteger, CheckConstraint("status BETWEEN 0 AND 4", name="status"), nullable=False, server_default="0"),
    _when("start_time"),
    _when("join_time", null=True),
    _when("updated"),
    _when("seen"),
    Column("member", Text, CheckConstraint("member IN ('', 'out', 'in', 'banned')", name="member"), nullable=False, server_default=""),
    *(Column(name, Date, nullable=True) for name in ("starts_day", "holds_day", "confirms_day", "unsubs_day")),
    Column("told_says", SmallInteger, nullable=True),
    Column("told_standing", SmallInteger, nullable=True),
    Column("postbacks", Integer, nullable=False, server_default="0"),
    Index("lead_subscriber_key", "campaign_id", "epoch", "subscriber", unique=True),
    Index("lead_newest", "campaign_id", "epoch", "id"),
)

# Totals of a campaign and epoch: each lead counts once for ever in starts, holds, confirms, unsubs, and now in one of the five statuses.
lead_counter = Table(
    "lead_counter",
    metadata,
    Column("campaign_id", BigInteger, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in ("starts", "holds", "confirms", "unsubs", "n_wait", "n_hold", "n_approve", "n_cancel", "n_trash")
    ),
)

# The same totals by the UTC day of the event.
daily = Table(
    "daily",
    metadata,
    Column("campaign_id", BigInteger, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("day", Date, primary_key=True),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in ("starts", "holds", "confirms", "unsubs")),
)

# What a bot saw in a chat. An attributed entry hangs on the campaign and epoch, an organic one (no campaign) on bot and chat.
journal = Table(
    "journal",
    metadata,
    _id(),
    Column("bot_id", BigInteger, nullable=False),
    Column("chat_id", BigInteger, nullable=False),
    Column("campaign_id", BigInteger, nullable=True),
    Column("epoch", Integer, nullable=True),
    Column("lead_id", BigInteger, nullable=True),
    Column("subscriber", BigInteger, nullable=False),
    *_texts("username"),
    Column("action", SmallInteger, CheckConstraint("action BETWEEN 0 AND 3", name="action"), nullable=False),
    _when("at"),
    Index("journal_paid", "campaign_id", "epoch", "id", postgresql_where=text("campaign_id IS NOT NULL")),
    Index("journal_organic", "bot_id", "chat_id", "id", postgresql_where=text("campaign_id IS NULL")),
)

# A transfer as it was asked for, and its answer. The request is kept as typed columns: two are the same when these are equal.
# The last index lets a request without a key join an equal unfinished one, and makes two that race for it one.
command = Table(
    "command",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, CheckConstraint("kind IN ('bot', 'camp')", name="kind"), nullable=False),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("object_id", BigInteger, nullable=False),
    Column("token", Text, nullable=False),
    Column("keep_leads", Boolean, nullable=False),
    Column("idempotency_key", Text, nullable=True),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('pending', 'parked', 'done', 'refused', 'withdrawn')", name="state"),
        nullable=False,
        server_default="pending",
    ),
    *_texts("reason", "field", "message", "worker", "trouble"),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("announced", SmallInteger, nullable=False, server_default="0"),
    _when("announced_at"),
    _when("created"),
    _when("finished", null=True),
    Index("command_pending", "id", postgresql_where=text("state = 'pending'")),
    Index("command_idempotency_key", "account_id", "idempotency_key", unique=True, postgresql_where=text("idempotency_key IS NOT NULL")),
    Index(
        "command_unfinished_key",
        "account_id",
        "object_id",
        "kind",
        "token",
        "keep_leads",
        text("coalesce(idempotency_key, '')"),
        unique=True,
        postgresql_where=text("state IN ('pending', 'parked')"),
    ),
    Index("command_account", "account_id", "id"),
)

# Every transfer that happened, in the order of the commits (`seq` is drawn while the accounts are locked).
# Replayed from `created_by` on, it tells today's owners.
transfer = Table(
    "transfer",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("command_id", Uuid, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("object_id", BigInteger, nullable=False),
    *_texts("title"),
    Column("from_account", BigInteger, nullable=False),
    Column("to_account", BigInteger, nullable=False),
    Column("keep_leads", Boolean, nullable=False),
    Column("campaigns", ARRAY(BigInteger), nullable=False),
    Column("to_bot", BigInteger, nullable=True),
    Column("leads", BigInteger, nullable=False),
    _when("at"),
    Index("transfer_from", "from_account", "seq"),
    Index("transfer_to", "to_account", "seq"),
)

# A message for an account's owner. Its text is made when it is read, in the owner's language, from `params`. One that is `given_up` is not
# brought by the service bot any more; it stays in the list.
notice = Table(
    "notice",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("params", JSONB, nullable=False),
    _when("created"),
    _when("delivered", null=True),
    Column("given_up", Boolean, nullable=False, server_default=text("false")),
    Index("notice_account", "account_id", "id"),
    Index("notice_undelivered", "account_id", "created", "id", postgresql_where=text("delivered IS NULL AND NOT given_up")),
)

# Wake-ups not yet published. Written in the transaction that made the work; a relay claims rows under a lease and deletes them once
# RabbitMQ has confirmed them.
outbox = Table(
    "outbox",
    metadata,
    _id(),
    Column("wake", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("swept", Boolean, nullable=False, server_default=text("false")),
    Column("claimed_until", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
)

# Epochs whose leads are to be removed. `after_lead` is how far the removal got, so that no turn reads the dead rows of the one before.
purge = Table(
    "purge",
    metadata,
    Column("campaign_id", BigInteger, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("leads", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False, server_default="0"),
    Column("after_lead", BigInteger, nullable=False, server_default="0"),
    _when("requested"),
    Column("announced", SmallInteger, nullable=False, server_default="0"),
    _when("announced_at"),
)

#: Views that join the epoch that counts. What is read for a tenant is read here; the base tables belong to ingest and purge.
#: The one exception says why (`leads.py`).
VIEWS = {
    "current_lead": """
        SELECT l.*, c.account_id FROM lead l JOIN campaign c ON c.id = l.campaign_id AND c.lead_epoch = l.epoch""",
    "current_counter": """
        SELECT n.*, c.account_id FROM lead_counter n JOIN campaign c ON c.id = n.campaign_id AND c.lead_epoch = n.epoch""",
    "current_daily": """
        SELECT d.*, c.account_id FROM daily d JOIN campaign c ON c.id = d.campaign_id AND c.lead_epoch = d.epoch""",
    "current_journal": """
        SELECT j.*, c.account_id FROM journal j JOIN campaign c ON c.id = j.campaign_id AND c.lead_epoch = j.epoch
        UNION ALL
        SELECT j.*, b.account_id FROM journal j JOIN bot b ON b.id = j.bot_id WHERE j.campaign_id IS NULL""",
}

#: The views as statements name them. They have a collection of their own: migrations make them from their SQL.
views = MetaData()


def _view(name: str, base: Table) -> Table:
    return Table(name, views, *(Column(column.name, column.type) for column in base.columns), Column("account_id", BigInteger))


current_lead = _view("current_lead", lead)
current_counter = _view("current_counter", lead_counter)
current_daily = _view("current_daily", daily)
current_journal = _view("current_journal", journal)

#: Statements that follow the tables in the first migration.
STORAGE = tuple(
    f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in _QUEUE_STORAGE.items())})" for table in QUEUE_TABLES
)
