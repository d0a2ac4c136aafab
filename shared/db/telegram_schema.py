"""The tables of what Telegram tells and is told. The rest is in `schema.py`, which also says how leads hang on epochs.

Three tables of a bot have three writers: `bot` its owners, `bot_session` the listener that leases it, `bot_inbox` the ingest workers.
None of them waits for another.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from shared.db.schema import metadata

#: Tables whose rows come and go; they are vacuumed by the number of dead rows.
QUEUE_TABLES: Final = ("inbox_event", "send", "lane", "bot_inbox", "bot_session")

#: The service bot's place in `bot_session`, `bot_inbox`, `peer` and `send`. It is nobody's bot and has no row in `bot`.
SERVICE_BOT: Final = 0


def _when(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=null, server_default=None if null else func.now())


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False, server_default="") for name in names]


# A listener process. It owns the sessions that name it, until `expires_at`; who takes one over waits some seconds more. `capacity` is how
# many it can have, for a fair share of all.
listener = Table(
    "listener",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("capacity", Integer, nullable=False),
    _when("expires_at"),
    _when("started"),
)

# The one connection a bot has to Telegram: its token and auth key, encrypted and bound to the row, and how far its updates are taken in
# (`pts` null: never logged in; then updates begin with the login). `epoch` rises with every owner and fences the writes of the one before.
# `retry_at`: not before, after a flood wait or a failure; `send_after` the same for what it sends. `username` is the service bot's, for
# links to it; other bots have theirs in `bot`.
bot_session = Table(
    "bot_session",
    metadata,
    Column("bot_id", BigInteger, primary_key=True, autoincrement=False),
    Column("token", LargeBinary, nullable=False),
    Column("auth_key", LargeBinary, nullable=True),
    Column("dc", SmallInteger, nullable=True),
    *_texts("address"),
    Column("port", Integer, nullable=True),
    *_texts("username"),
    Column("pts", Integer, nullable=True),
    Column("qts", Integer, nullable=True),
    Column("seq", Integer, nullable=True),
    _when("date", null=True),
    Column("listener_id", Uuid, nullable=True, index=True),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("retry_at", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    Column("send_after", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    *_texts("trouble"),
    _when("checked", null=True),
)

# Whom a bot can address: Telegram wants the access hash that this bot was given. Ids are marked as Telegram clients mark them: people
# positive, groups negative, channels and supergroups from -1000000000000 down.
peer = Table(
    "peer",
    metadata,
    Column("bot_id", BigInteger, primary_key=True),
    Column("peer_id", BigInteger, primary_key=True),
    Column("access_hash", BigInteger, nullable=False),
)

# People who have blocked a bot: nothing is sent to them until they start it again.
blocked = Table(
    "blocked",
    metadata,
    Column("bot_id", BigInteger, primary_key=True),
    Column("subscriber", BigInteger, primary_key=True),
    _when("at"),
)

# Events taken in and not yet applied; deleted when they are. Columns that a kind has no use for are empty. `attempts` counts workers that
# died over it; a parked one waits for an operator.
inbox_event = Table(
    "inbox_event",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("bot_id", BigInteger, nullable=False),
    Column(
        "kind",
        Text,
        CheckConstraint("kind IN ('start', 'request', 'change', 'seat', 'stopped', 'migrated')", name="kind"),
        nullable=False,
    ),
    _when("at"),
    Column("subscriber", BigInteger, nullable=False, server_default="0"),
    Column("chat", BigInteger, nullable=False, server_default="0"),
    Column("message", BigInteger, nullable=False, server_default="0"),
    *_texts("username", "payload", "before", "after"),
    Column("own", Boolean, nullable=False, server_default=text("false")),
    *_texts("title", "chat_type"),
    _when("arrived"),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("parked", Boolean, nullable=False, server_default=text("false")),
    *_texts("trouble"),
    Index("inbox_event_waiting", "bot_id", "id", postgresql_where=text("NOT parked")),
    Index("inbox_event_parked", "id", postgresql_where=text("parked")),
)

# What each bot has been told already, by the content's key, for as long as Telegram may tell it again. Partitioned by Telegram's date.
seen = Table(
    "seen",
    metadata,
    Column("bot_id", BigInteger, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("at", DateTime(timezone=True), primary_key=True),
    postgresql_partition_by="RANGE (at)",
)

# The ingest's lock on a bot, and whether a wake-up for it is under way: at most one is.
bot_inbox = Table(
    "bot_inbox",
    metadata,
    Column("bot_id", BigInteger, primary_key=True, autoincrement=False),
    Column("awake", Boolean, nullable=False, server_default=text("false")),
    Column("announced", SmallInteger, nullable=False, server_default="0"),
    _when("announced_at"),
)

# What was seen of a subscriber in a campaign and epoch, and what was done for it (`shared/domain/fold.py`). `what` is start, request, or a
# change of membership such as out>in. `journal_id` is its journal entry. Nobody but the ingest reads facts.
fact = Table(
    "fact",
    metadata,
    Column("campaign_id", BigInteger, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("subscriber", BigInteger, primary_key=True),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("what", Text, primary_key=True),
    Column("bot_id", BigInteger, primary_key=True),
    Column("message", BigInteger, primary_key=True, server_default="0"),
    *_texts("click"),
    Column("own", Boolean, nullable=False, server_default=text("false")),
    Column("weight", Text, CheckConstraint("weight IN ('full', 'silent', 'journal')", name="weight"), nullable=False),
    Column("unsub_window", Integer, nullable=False),
    Column("owed", Boolean, nullable=False, server_default=text("false")),
    *_texts("held", "journal"),
    Column("journal_id", BigInteger, nullable=True),
)

# A postback that a lead's step asks for, with its address as rendered when the event was committed; or one that is held back, and by which
# rule. `account_id` owes it for ever, whoever has the campaign later. Columns are few: what is not held is the postback workers' queue.
delivery = Table(
    "delivery",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("lead_id", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", SmallInteger, nullable=False),
    *_texts("click", "url", "destination"),
    Column("correction", Boolean, nullable=False, server_default=text("false")),
    Column("state", Text, CheckConstraint("state IN ('pending', 'held')", name="state"), nullable=False),
    *_texts("rule"),
    Column("at", DateTime(timezone=True), nullable=False),
    _when("due"),
    _when("created"),
    Index("delivery_lead", "lead_id", "id"),
    Index("delivery_epoch", "campaign_id", "epoch", "id"),
    Index("delivery_pending", "destination", "account_id", "due", postgresql_where=text("state = 'pending'")),
)

# What one account owes one destination: the unit in which postback workers take turns.
lane = Table(
    "lane",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("account_id", BigInteger, primary_key=True),
    _when("next_due"),
    Column("served_at", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    _when("announced_at", null=True),
)

# A message a bot is to send; deleted when that is settled. `random_id` makes Telegram send it once however often it is asked. The text is
# made when it is sent, from the campaign as it then is, or for the service bot from a notice.
send = Table(
    "send",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("bot_id", BigInteger, nullable=False),
    Column("subscriber", BigInteger, nullable=False),
    Column("kind", Text, CheckConstraint("kind IN ('welcome', 'moved', 'notice')", name="kind"), nullable=False),
    *(Column(name, BigInteger, nullable=True) for name in ("campaign_id", "lead_id", "notice_id")),
    *_texts("username", "click"),
    Column("random_id", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    _when("due"),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    *_texts("trouble"),
    Index("send_due", "bot_id", "due", "id"),
)

# A photo or video for welcome messages; the file itself lies in the media folder under its hash. It lives while a campaign names it.
media = Table(
    "media",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("type", SmallInteger, CheckConstraint("type IN (1, 2)", name="type"), nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    *_texts("name"),
    _when("created"),
)

# Telegram's own copy of a file, as one bot may name it, so that it need not be uploaded for each message.
media_upload = Table(
    "media_upload",
    metadata,
    Column("bot_id", BigInteger, primary_key=True),
    Column("sha256", LargeBinary, primary_key=True),
    Column("file_id", BigInteger, nullable=False),
    Column("access_hash", BigInteger, nullable=False),
    Column("file_reference", LargeBinary, nullable=False),
)

# A request to connect a bot, answered like a transfer: a listener logs in with the token and connects it, or says why not. The token is
# encrypted, bound to the row, and gone with the answer. `taken_until` is the lease of the listener at work on it.
bot_request = Table(
    "bot_request",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("token", LargeBinary, nullable=True),
    Column("bot_id", BigInteger, nullable=True),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('pending', 'done', 'refused', 'withdrawn')", name="state"),
        nullable=False,
        server_default="pending",
    ),
    *_texts("reason", "field", "message"),
    Column("taken_until", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    _when("created"),
    _when("finished", null=True),
    Index("bot_request_pending", "account_id", "id", postgresql_where=text("state = 'pending'")),
)

#: Statements that follow the tables in their migration: storage, and where events of odd dates are remembered.
AFTERWARDS: Final = (
    "CREATE TABLE seen_default PARTITION OF seen DEFAULT",
    *(
        f"ALTER TABLE {table} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)"
        for table in QUEUE_TABLES
    ),
)
