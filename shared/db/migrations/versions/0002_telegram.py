"""Telegram: sessions and their listeners, the inbox, facts, what is owed and what is to be sent."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; `shared/db/telegram_schema.py` says why each has its shape. Leads that are there count from their own dates."""
    op.execute(CHANGES)
    op.execute(TABLES)


CHANGES = """
ALTER TABLE account ADD COLUMN owner_tg_id BIGINT, ADD COLUMN owner_linked TIMESTAMP WITH TIME ZONE, ADD COLUMN link_code TEXT,
    ADD CONSTRAINT account_link_code_key UNIQUE (link_code);
CREATE INDEX account_owner ON account (owner_tg_id) WHERE owner_tg_id IS NOT NULL;
ALTER TABLE notice ADD COLUMN given_up BOOLEAN DEFAULT false NOT NULL;
CREATE INDEX notice_undelivered ON notice (account_id, created, id) WHERE delivered IS NULL AND NOT given_up;
ALTER TABLE bot ADD COLUMN answers_moved BOOLEAN DEFAULT true NOT NULL;
ALTER TABLE campaign ADD COLUMN deleted TIMESTAMP WITH TIME ZONE;
UPDATE campaign SET deleted = now() WHERE status = 2;
CREATE INDEX campaign_chat ON campaign (chat_id);

-- The views of 0001 name their columns once and for all, so they are made anew.
DROP VIEW current_lead;
ALTER TABLE lead
    ADD COLUMN seen TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ADD COLUMN member TEXT DEFAULT '' NOT NULL CONSTRAINT lead_member CHECK (member IN ('', 'out', 'in', 'banned')),
    ADD COLUMN starts_day DATE, ADD COLUMN holds_day DATE, ADD COLUMN confirms_day DATE, ADD COLUMN unsubs_day DATE,
    ADD COLUMN told_says SMALLINT, ADD COLUMN told_standing SMALLINT, ADD COLUMN postbacks INTEGER DEFAULT 0 NOT NULL;
UPDATE lead SET
    seen = updated, starts_day = (start_time AT TIME ZONE 'UTC')::date,
    holds_day = CASE WHEN status = 1 THEN (updated AT TIME ZONE 'UTC')::date END,
    confirms_day = (join_time AT TIME ZONE 'UTC')::date,
    unsubs_day = CASE WHEN status IN (3, 4) THEN (updated AT TIME ZONE 'UTC')::date END,
    member = CASE status WHEN 2 THEN 'in' WHEN 3 THEN 'out' WHEN 4 THEN 'banned' ELSE '' END;
CREATE VIEW current_lead AS
    SELECT l.*, c.account_id FROM lead l JOIN campaign c ON c.id = l.campaign_id AND c.lead_epoch = l.epoch;
"""

TABLES = """
CREATE TABLE campaign_pause (
    campaign_id BIGINT NOT NULL,
    since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT campaign_pause_pkey PRIMARY KEY (campaign_id, since)
);
CREATE UNIQUE INDEX campaign_pause_open ON campaign_pause (campaign_id) WHERE until IS NULL;

CREATE TABLE listener (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    capacity INTEGER NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT listener_pkey PRIMARY KEY (id)
);

CREATE TABLE bot_session (
    bot_id BIGINT NOT NULL,
    token BYTEA NOT NULL,
    auth_key BYTEA,
    dc SMALLINT,
    address TEXT DEFAULT '' NOT NULL,
    port INTEGER,
    username TEXT DEFAULT '' NOT NULL,
    pts INTEGER,
    qts INTEGER,
    seq INTEGER,
    date TIMESTAMP WITH TIME ZONE,
    listener_id UUID,
    epoch BIGINT DEFAULT '0' NOT NULL,
    retry_at TIMESTAMP WITH TIME ZONE DEFAULT '-infinity' NOT NULL,
    send_after TIMESTAMP WITH TIME ZONE DEFAULT '-infinity' NOT NULL,
    trouble TEXT DEFAULT '' NOT NULL,
    checked TIMESTAMP WITH TIME ZONE,
    CONSTRAINT bot_session_pkey PRIMARY KEY (bot_id)
);
CREATE INDEX bot_session_listener_id ON bot_session (listener_id);

CREATE TABLE peer (
    bot_id BIGINT NOT NULL,
    peer_id BIGINT NOT NULL,
    access_hash BIGINT NOT NULL,
    CONSTRAINT peer_pkey PRIMARY KEY (bot_id, peer_id)
);

CREATE TABLE blocked (
    bot_id BIGINT NOT NULL,
    subscriber BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT blocked_pkey PRIMARY KEY (bot_id, subscriber)
);

CREATE TABLE inbox_event (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    bot_id BIGINT NOT NULL,
    kind TEXT NOT NULL CONSTRAINT inbox_event_kind CHECK (kind IN ('start', 'request', 'change', 'seat', 'stopped', 'migrated')),
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    subscriber BIGINT DEFAULT '0' NOT NULL,
    chat BIGINT DEFAULT '0' NOT NULL,
    message BIGINT DEFAULT '0' NOT NULL,
    username TEXT DEFAULT '' NOT NULL,
    payload TEXT DEFAULT '' NOT NULL,
    before TEXT DEFAULT '' NOT NULL,
    after TEXT DEFAULT '' NOT NULL,
    own BOOLEAN DEFAULT false NOT NULL,
    title TEXT DEFAULT '' NOT NULL,
    chat_type TEXT DEFAULT '' NOT NULL,
    arrived TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    attempts SMALLINT DEFAULT '0' NOT NULL,
    parked BOOLEAN DEFAULT false NOT NULL,
    trouble TEXT DEFAULT '' NOT NULL,
    CONSTRAINT inbox_event_pkey PRIMARY KEY (id)
);
CREATE INDEX inbox_event_parked ON inbox_event (id) WHERE parked;
CREATE INDEX inbox_event_waiting ON inbox_event (bot_id, id) WHERE NOT parked;

CREATE TABLE seen (
    bot_id BIGINT NOT NULL,
    key BYTEA NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT seen_pkey PRIMARY KEY (bot_id, key, at)
) PARTITION BY RANGE (at);

CREATE TABLE bot_inbox (
    bot_id BIGINT NOT NULL,
    awake BOOLEAN DEFAULT false NOT NULL,
    announced SMALLINT DEFAULT '0' NOT NULL,
    announced_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT bot_inbox_pkey PRIMARY KEY (bot_id)
);

CREATE TABLE fact (
    campaign_id BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    subscriber BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    what TEXT NOT NULL,
    bot_id BIGINT NOT NULL,
    message BIGINT DEFAULT '0' NOT NULL,
    click TEXT DEFAULT '' NOT NULL,
    own BOOLEAN DEFAULT false NOT NULL,
    weight TEXT NOT NULL CONSTRAINT fact_weight CHECK (weight IN ('full', 'silent', 'journal')),
    unsub_window INTEGER NOT NULL,
    owed BOOLEAN DEFAULT false NOT NULL,
    held TEXT DEFAULT '' NOT NULL,
    journal TEXT DEFAULT '' NOT NULL,
    journal_id BIGINT,
    CONSTRAINT fact_pkey PRIMARY KEY (campaign_id, epoch, subscriber, at, what, bot_id, message)
);

CREATE TABLE delivery (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    account_id BIGINT NOT NULL,
    campaign_id BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    lead_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    status SMALLINT NOT NULL,
    click TEXT DEFAULT '' NOT NULL,
    url TEXT DEFAULT '' NOT NULL,
    destination TEXT DEFAULT '' NOT NULL,
    correction BOOLEAN DEFAULT false NOT NULL,
    state TEXT NOT NULL CONSTRAINT delivery_state CHECK (state IN ('pending', 'held')),
    rule TEXT DEFAULT '' NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    due TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT delivery_pkey PRIMARY KEY (id)
);
CREATE INDEX delivery_epoch ON delivery (campaign_id, epoch, id);
CREATE INDEX delivery_lead ON delivery (lead_id, id);
CREATE INDEX delivery_pending ON delivery (destination, account_id, due) WHERE state = 'pending';

CREATE TABLE lane (
    destination TEXT NOT NULL,
    account_id BIGINT NOT NULL,
    next_due TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    served_at TIMESTAMP WITH TIME ZONE DEFAULT '-infinity' NOT NULL,
    announced_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT lane_pkey PRIMARY KEY (destination, account_id)
);

CREATE TABLE send (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    bot_id BIGINT NOT NULL,
    subscriber BIGINT NOT NULL,
    kind TEXT NOT NULL CONSTRAINT send_kind CHECK (kind IN ('welcome', 'moved', 'notice')),
    campaign_id BIGINT,
    lead_id BIGINT,
    notice_id BIGINT,
    username TEXT DEFAULT '' NOT NULL,
    click TEXT DEFAULT '' NOT NULL,
    random_id BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    due TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    attempts SMALLINT DEFAULT '0' NOT NULL,
    trouble TEXT DEFAULT '' NOT NULL,
    CONSTRAINT send_pkey PRIMARY KEY (id)
);
CREATE INDEX send_due ON send (bot_id, due, id);

CREATE TABLE media (
    id TEXT NOT NULL,
    account_id BIGINT NOT NULL,
    type SMALLINT NOT NULL CONSTRAINT media_type CHECK (type IN (1, 2)),
    sha256 BYTEA NOT NULL,
    size BIGINT NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT media_pkey PRIMARY KEY (id),
    CONSTRAINT media_account_id_fkey FOREIGN KEY(account_id) REFERENCES account (id)
);

CREATE TABLE media_upload (
    bot_id BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    file_id BIGINT NOT NULL,
    access_hash BIGINT NOT NULL,
    file_reference BYTEA NOT NULL,
    CONSTRAINT media_upload_pkey PRIMARY KEY (bot_id, sha256)
);

CREATE TABLE bot_request (
    id UUID NOT NULL,
    account_id BIGINT NOT NULL,
    token BYTEA,
    bot_id BIGINT,
    state TEXT DEFAULT 'pending' NOT NULL CONSTRAINT bot_request_state CHECK (state IN ('pending', 'done', 'refused', 'withdrawn')),
    reason TEXT DEFAULT '' NOT NULL,
    field TEXT DEFAULT '' NOT NULL,
    message TEXT DEFAULT '' NOT NULL,
    taken_until TIMESTAMP WITH TIME ZONE DEFAULT '-infinity' NOT NULL,
    attempts SMALLINT DEFAULT '0' NOT NULL,
    created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished TIMESTAMP WITH TIME ZONE,
    CONSTRAINT bot_request_pkey PRIMARY KEY (id),
    CONSTRAINT bot_request_account_id_fkey FOREIGN KEY(account_id) REFERENCES account (id)
);
CREATE INDEX bot_request_pending ON bot_request (account_id, id) WHERE state = 'pending';

CREATE TABLE seen_default PARTITION OF seen DEFAULT;
ALTER TABLE inbox_event SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE send SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE lane SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE bot_inbox SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE bot_session SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

INSERT INTO bot_inbox (bot_id) SELECT id FROM bot UNION SELECT 0;
INSERT INTO campaign_pause (campaign_id) SELECT id FROM campaign WHERE status = 1;
"""
