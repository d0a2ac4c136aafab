"""The spine: accounts, bots, chats, campaigns, leads, commands, history, notices, outbox, purge."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything; `shared/db/schema.py` says why each table has its shape."""
    op.execute(SCHEMA)


SCHEMA = """
CREATE TABLE account (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    login TEXT DEFAULT '' NOT NULL,
    lang TEXT DEFAULT 'en' NOT NULL CONSTRAINT account_lang CHECK (lang IN ('en', 'ru')),
    plan TEXT DEFAULT 'kitten' NOT NULL CONSTRAINT account_plan CHECK (plan IN ('kitten', 'cat', 'tiger')),
    paid_until TIMESTAMP WITH TIME ZONE,
    suspended BOOLEAN DEFAULT false NOT NULL,
    key_hash BYTEA NOT NULL,
    transfer_token TEXT NOT NULL,
    pb_wait TEXT DEFAULT '' NOT NULL,
    pb_hold TEXT DEFAULT '' NOT NULL,
    pb_approve TEXT DEFAULT '' NOT NULL,
    pb_cancel TEXT DEFAULT '' NOT NULL,
    pb_trash TEXT DEFAULT '' NOT NULL,
    notify_tariff BOOLEAN DEFAULT true NOT NULL,
    notify_leads BOOLEAN DEFAULT false NOT NULL,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT account_pkey PRIMARY KEY (id),
    CONSTRAINT account_transfer_token_key UNIQUE (transfer_token)
);

CREATE TABLE campaign_bot (
    campaign_id BIGINT NOT NULL,
    from_date TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    bot_id BIGINT NOT NULL,
    to_date TIMESTAMP WITH TIME ZONE,
    CONSTRAINT campaign_bot_pkey PRIMARY KEY (campaign_id, from_date)
);
CREATE INDEX campaign_bot_bot ON campaign_bot (bot_id);
CREATE UNIQUE INDEX campaign_bot_open ON campaign_bot (campaign_id) WHERE to_date IS NULL;

CREATE TABLE chat (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    tg_id BIGINT NOT NULL,
    former_tg_id BIGINT,
    type TEXT NOT NULL CONSTRAINT chat_type CHECK (type IN ('channel', 'supergroup', 'group')),
    title TEXT DEFAULT '' NOT NULL,
    CONSTRAINT chat_pkey PRIMARY KEY (id),
    CONSTRAINT chat_tg_id_key UNIQUE (tg_id),
    CONSTRAINT chat_former_tg_id_key UNIQUE (former_tg_id)
);

CREATE TABLE daily (
    campaign_id BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    day DATE NOT NULL,
    starts BIGINT DEFAULT '0' NOT NULL,
    holds BIGINT DEFAULT '0' NOT NULL,
    confirms BIGINT DEFAULT '0' NOT NULL,
    unsubs BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT daily_pkey PRIMARY KEY (campaign_id, epoch, day)
);

CREATE TABLE journal (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    bot_id BIGINT NOT NULL,
    chat_id BIGINT NOT NULL,
    campaign_id BIGINT,
    epoch INTEGER,
    lead_id BIGINT,
    subscriber BIGINT NOT NULL,
    username TEXT DEFAULT '' NOT NULL,
    action SMALLINT NOT NULL CONSTRAINT journal_action CHECK (action BETWEEN 0 AND 3),
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT journal_pkey PRIMARY KEY (id)
);
CREATE INDEX journal_organic ON journal (bot_id, chat_id, id) WHERE campaign_id IS NULL;
CREATE INDEX journal_paid ON journal (campaign_id, epoch, id) WHERE campaign_id IS NOT NULL;

CREATE TABLE lead (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    campaign_id BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    subscriber BIGINT NOT NULL,
    username TEXT DEFAULT '' NOT NULL,
    click TEXT DEFAULT '' NOT NULL,
    status SMALLINT DEFAULT '0' NOT NULL CONSTRAINT lead_status CHECK (status BETWEEN 0 AND 4),
    start_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    join_time TIMESTAMP WITH TIME ZONE,
    updated TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT lead_pkey PRIMARY KEY (id)
);
CREATE INDEX lead_newest ON lead (campaign_id, epoch, id);
CREATE UNIQUE INDEX lead_subscriber_key ON lead (campaign_id, epoch, subscriber);

CREATE TABLE lead_counter (
    campaign_id BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    starts BIGINT DEFAULT '0' NOT NULL,
    holds BIGINT DEFAULT '0' NOT NULL,
    confirms BIGINT DEFAULT '0' NOT NULL,
    unsubs BIGINT DEFAULT '0' NOT NULL,
    n_wait BIGINT DEFAULT '0' NOT NULL,
    n_hold BIGINT DEFAULT '0' NOT NULL,
    n_approve BIGINT DEFAULT '0' NOT NULL,
    n_cancel BIGINT DEFAULT '0' NOT NULL,
    n_trash BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT lead_counter_pkey PRIMARY KEY (campaign_id, epoch)
);

CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    wake TEXT NOT NULL,
    key TEXT NOT NULL,
    swept BOOLEAN DEFAULT false NOT NULL,
    claimed_until TIMESTAMP WITH TIME ZONE DEFAULT '-infinity' NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
);

CREATE TABLE purge (
    campaign_id BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    leads BIGINT NOT NULL,
    deleted BIGINT DEFAULT '0' NOT NULL,
    after_lead BIGINT DEFAULT '0' NOT NULL,
    requested TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    announced SMALLINT DEFAULT '0' NOT NULL,
    announced_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT purge_pkey PRIMARY KEY (campaign_id, epoch)
);

CREATE TABLE transfer (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    command_id UUID NOT NULL,
    kind TEXT NOT NULL,
    object_id BIGINT NOT NULL,
    title TEXT DEFAULT '' NOT NULL,
    from_account BIGINT NOT NULL,
    to_account BIGINT NOT NULL,
    keep_leads BOOLEAN NOT NULL,
    campaigns BIGINT[] NOT NULL,
    to_bot BIGINT,
    leads BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT transfer_pkey PRIMARY KEY (seq),
    CONSTRAINT transfer_command_id_key UNIQUE (command_id)
);
CREATE INDEX transfer_from ON transfer (from_account, seq);
CREATE INDEX transfer_to ON transfer (to_account, seq);

CREATE TABLE bot (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    account_id BIGINT NOT NULL,
    created_by BIGINT NOT NULL,
    tg_id BIGINT NOT NULL,
    username TEXT DEFAULT '' NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    token_revoked BOOLEAN DEFAULT false NOT NULL,
    disconnected TIMESTAMP WITH TIME ZONE,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT bot_pkey PRIMARY KEY (id),
    CONSTRAINT bot_account_id_fkey FOREIGN KEY(account_id) REFERENCES account (id)
);
CREATE INDEX bot_account_id ON bot (account_id);
CREATE UNIQUE INDEX bot_connected_tg_id_key ON bot (tg_id) WHERE disconnected IS NULL;

CREATE TABLE command (
    id UUID NOT NULL,
    kind TEXT NOT NULL CONSTRAINT command_kind CHECK (kind IN ('bot', 'camp')),
    account_id BIGINT NOT NULL,
    object_id BIGINT NOT NULL,
    token TEXT NOT NULL,
    keep_leads BOOLEAN NOT NULL,
    idempotency_key TEXT,
    state TEXT DEFAULT 'pending' NOT NULL CONSTRAINT command_state CHECK (state IN ('pending', 'parked', 'done', 'refused', 'withdrawn')),
    reason TEXT DEFAULT '' NOT NULL,
    field TEXT DEFAULT '' NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    worker TEXT DEFAULT '' NOT NULL,
    trouble TEXT DEFAULT '' NOT NULL,
    attempts SMALLINT DEFAULT '0' NOT NULL,
    announced SMALLINT DEFAULT '0' NOT NULL,
    announced_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished TIMESTAMP WITH TIME ZONE,
    CONSTRAINT command_pkey PRIMARY KEY (id),
    CONSTRAINT command_account_id_fkey FOREIGN KEY(account_id) REFERENCES account (id)
);
CREATE INDEX command_account ON command (account_id, id);
CREATE UNIQUE INDEX command_idempotency_key ON command (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX command_pending ON command (id) WHERE state = 'pending';
CREATE UNIQUE INDEX command_unfinished_key ON command (account_id, object_id, kind, token, keep_leads, coalesce(idempotency_key, '')) WHERE state IN ('pending', 'parked');

CREATE TABLE notice (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    account_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    params JSONB NOT NULL,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    delivered TIMESTAMP WITH TIME ZONE,
    CONSTRAINT notice_pkey PRIMARY KEY (id),
    CONSTRAINT notice_account_id_fkey FOREIGN KEY(account_id) REFERENCES account (id)
);
CREATE INDEX notice_account ON notice (account_id, id);

CREATE TABLE bot_chat (
    bot_id BIGINT NOT NULL,
    chat_id BIGINT NOT NULL,
    admin BOOLEAN NOT NULL,
    changed TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT bot_chat_pkey PRIMARY KEY (bot_id, chat_id),
    CONSTRAINT bot_chat_bot_id_fkey FOREIGN KEY(bot_id) REFERENCES bot (id),
    CONSTRAINT bot_chat_chat_id_fkey FOREIGN KEY(chat_id) REFERENCES chat (id)
);
CREATE INDEX bot_chat_admins ON bot_chat (chat_id, bot_id) WHERE admin;

CREATE TABLE campaign (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    account_id BIGINT NOT NULL,
    created_by BIGINT NOT NULL,
    code TEXT NOT NULL CONSTRAINT campaign_code CHECK (code ~ '^[a-z0-9]{6,10}$'),
    bot_id BIGINT NOT NULL,
    chat_id BIGINT NOT NULL,
    status SMALLINT DEFAULT '0' NOT NULL CONSTRAINT campaign_status CHECK (status IN (0, 1, 2)),
    lead_epoch INTEGER DEFAULT '0' NOT NULL,
    epoch_since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    welcome TEXT DEFAULT '' NOT NULL,
    media TEXT DEFAULT '' NOT NULL,
    button_text TEXT DEFAULT '' NOT NULL,
    button_url TEXT DEFAULT '' NOT NULL,
    pb_wait TEXT DEFAULT '' NOT NULL,
    pb_hold TEXT DEFAULT '' NOT NULL,
    pb_approve TEXT DEFAULT '' NOT NULL,
    pb_cancel TEXT DEFAULT '' NOT NULL,
    pb_trash TEXT DEFAULT '' NOT NULL,
    media_type SMALLINT DEFAULT '0' NOT NULL,
    unsub_window INTEGER DEFAULT '2592000' NOT NULL,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT campaign_pkey PRIMARY KEY (id),
    CONSTRAINT campaign_account_id_fkey FOREIGN KEY(account_id) REFERENCES account (id),
    CONSTRAINT campaign_code_key UNIQUE (code),
    CONSTRAINT campaign_bot_id_fkey FOREIGN KEY(bot_id) REFERENCES bot (id),
    CONSTRAINT campaign_chat_id_fkey FOREIGN KEY(chat_id) REFERENCES chat (id)
);
CREATE INDEX campaign_account ON campaign (account_id, id) WHERE status <> 2;
CREATE UNIQUE INDEX campaign_bot_chat_key ON campaign (bot_id, chat_id) WHERE status <> 2;

ALTER TABLE command SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE outbox SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE purge SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE VIEW current_lead AS
    SELECT l.*, c.account_id FROM lead l JOIN campaign c ON c.id = l.campaign_id AND c.lead_epoch = l.epoch;
CREATE VIEW current_counter AS
    SELECT n.*, c.account_id FROM lead_counter n JOIN campaign c ON c.id = n.campaign_id AND c.lead_epoch = n.epoch;
CREATE VIEW current_daily AS
    SELECT d.*, c.account_id FROM daily d JOIN campaign c ON c.id = d.campaign_id AND c.lead_epoch = d.epoch;
CREATE VIEW current_journal AS
    SELECT j.*, c.account_id FROM journal j JOIN campaign c ON c.id = j.campaign_id AND c.lead_epoch = j.epoch
    UNION ALL
    SELECT j.*, b.account_id FROM journal j JOIN bot b ON b.id = j.bot_id WHERE j.campaign_id IS NULL;
"""
