"""Triggers of the harness: whoever writes what a listener writes is written down, by the role with which it has connected.

Each listener has a role of its own, named after its slot. A slot has one process at a time, or a dead one and its successor.
"""

from datetime import datetime
from typing import Any, Final

from shared.db.connect import Raw
from tests.chaos.telegram.evidence import Came, Entry, Lead, Postback, Taken, Write

#: Names of the public API's numbers.
STATUSES: Final = ("wait", "hold", "approve", "cancel", "trash")
WORDS: Final = ("join", "leave", "kick", "request")

INSTALL: Final = """
    CREATE TABLE audit_lease (
        n bigint GENERATED ALWAYS AS IDENTITY, slot text DEFAULT session_user, listener uuid, expires_at timestamptz
    );
    CREATE INDEX ON audit_lease (listener);
    CREATE TABLE audit_event (LIKE inbox_event, slot text DEFAULT session_user);
    CREATE TABLE audit_stranger (n bigint GENERATED ALWAYS AS IDENTITY, what text, bot bigint, slot text DEFAULT session_user, owner uuid);

    CREATE FUNCTION audit_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO audit_lease (listener, expires_at) VALUES (NEW.id, NEW.expires_at);
        RETURN NULL;
    END $$;
    CREATE FUNCTION audit_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO audit_event SELECT NEW.*, session_user;
        RETURN NULL;
    END $$;
    CREATE FUNCTION audit_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO audit_stranger (what, bot, owner)
        SELECT TG_TABLE_NAME, s.bot_id, s.listener_id FROM bot_session s
        WHERE s.bot_id = NEW.bot_id
          AND NOT EXISTS (SELECT FROM audit_lease l WHERE l.listener = s.listener_id AND l.slot = session_user);
        RETURN NULL;
    END $$;

    CREATE TRIGGER audit AFTER INSERT OR UPDATE OF expires_at ON listener FOR EACH ROW EXECUTE FUNCTION audit_lease();
    CREATE TRIGGER audit AFTER INSERT ON inbox_event FOR EACH ROW EXECUTE FUNCTION audit_event();
    CREATE TRIGGER audit_write AFTER INSERT ON inbox_event FOR EACH ROW EXECUTE FUNCTION audit_write();
    CREATE TRIGGER audit_write AFTER INSERT ON seen FOR EACH ROW EXECUTE FUNCTION audit_write();
    CREATE TRIGGER audit_write AFTER INSERT OR UPDATE ON peer FOR EACH ROW EXECUTE FUNCTION audit_write();
    CREATE TRIGGER audit_write AFTER UPDATE ON bot_session FOR EACH ROW
        WHEN ((OLD.pts, OLD.qts, OLD.date, OLD.seq, OLD.auth_key) IS DISTINCT FROM (NEW.pts, NEW.qts, NEW.date, NEW.seq, NEW.auth_key)
              AND OLD.epoch = NEW.epoch)
        EXECUTE FUNCTION audit_write();
"""


def install(db: Raw, slots: list[str], password: str) -> None:
    """Set the triggers, and make the roles. A role is the cluster's and may be there from another run."""
    db.execute(INSTALL)
    for slot in slots:
        db.execute(f"DROP ROLE IF EXISTS {slot}")
        db.execute(f"CREATE ROLE {slot} SUPERUSER LOGIN PASSWORD '{password}'")


def deadline(db: Raw, slot: str) -> float:
    """Until when the lease of the slot's process went, as last committed."""
    rows = db.execute("SELECT expires_at FROM audit_lease WHERE slot = %s ORDER BY n DESC LIMIT 1", (slot,)).fetchall()
    return float(rows[0][0].timestamp()) if rows else 0.0


def taken(db: Raw) -> list[Taken]:
    """Every event that was taken in."""
    rows = db.execute("SELECT bot_id, kind, at, subscriber, chat, message, payload, before, after, own FROM audit_event").fetchall()
    return [
        Taken(
            bot=bot,
            kind=kind,
            at=_second(at),
            subscriber=subscriber,
            chat=chat,
            message=message,
            payload=payload,
            before=before,
            after=after,
            own=own,
        )
        for bot, kind, at, subscriber, chat, message, payload, before, after, own in rows
        if kind != "seat"
    ]


def count_taken(db: Raw) -> int:
    """How many there are."""
    rows = db.execute("SELECT count(*) FROM audit_event WHERE kind <> 'seat'").fetchall()
    return int(rows[0][0])


def strangers(db: Raw) -> list[Write]:
    """Every row that somebody wrote who had not the bot."""
    rows = db.execute(
        """SELECT w.what, w.bot, w.slot, coalesce((SELECT min(slot) FROM audit_lease l WHERE l.listener = w.owner), '')
           FROM audit_stranger w ORDER BY n"""
    ).fetchall()
    return [Write(table=table, bot=bot, slot=slot, owner=owner) for table, bot, slot, owner in rows]


def came(db: Raw, campaign: int, chat: int, *, bot: int | None = None) -> Came:
    """What came of a campaign and its chat, in the epoch that counts; of the chat's journal, what one bot saw if it is named."""
    postbacks: dict[int, list[Postback]] = {}
    for lead, status, click, at, state, rule, correction in db.execute(
        """SELECT d.lead_id, d.status, d.click, d.at, d.state, d.rule, d.correction
           FROM delivery d JOIN campaign c ON c.id = d.campaign_id WHERE c.id = %s AND d.epoch = c.lead_epoch ORDER BY d.id""",
        (campaign,),
    ):
        postbacks.setdefault(lead, []).append(
            Postback(status=STATUSES[status], click=click, at=_second(at), pending=state == "pending", rule=rule, correction=correction)
        )
    leads = {
        subscriber: Lead(
            status=STATUSES[status],
            click=click,
            started=_second(started),
            joined=joined and _second(joined),
            postbacks=tuple(postbacks.get(lead, ())),
        )
        for lead, subscriber, status, click, started, joined in db.execute(
            "SELECT id, subscriber, status, click, start_time, join_time FROM current_lead WHERE campaign_id = %s", (campaign,)
        )
    }
    journal = [
        Entry(subscriber=subscriber, word=WORDS[action], at=_second(at), paid=of is not None)
        for subscriber, action, at, of in db.execute(
            "SELECT subscriber, action, at, campaign_id FROM journal WHERE chat_id = %s AND bot_id = coalesce(%s, bot_id)", (chat, bot)
        )
    ]
    days = {
        (counter, day): count
        for day, *counts in db.execute(
            "SELECT day - '1970-01-01'::date, starts, holds, confirms, unsubs FROM current_daily WHERE campaign_id = %s", (campaign,)
        )
        for counter, count in zip(("starts", "holds", "confirms", "unsubs"), counts, strict=True)
    }
    return Came(leads=leads, journal=journal, days=days, totals=_totals(db, campaign))


def left(db: Raw) -> dict[str, int]:
    """Rows that still wait for somebody."""
    names = ("events in the inbox", "messages to send", "wake-ups")
    rows: Any = db.execute(
        "SELECT (SELECT count(*) FROM inbox_event), (SELECT count(*) FROM send), (SELECT count(*) FROM outbox)"
    ).fetchone()
    return dict(zip(names, rows, strict=True))


def _totals(db: Raw, campaign: int) -> dict[str, int]:
    names = ("starts", "holds", "confirms", "unsubs", *(f"n_{status}" for status in STATUSES))
    rows = db.execute(f"SELECT {', '.join(names)} FROM current_counter WHERE campaign_id = %s", (campaign,)).fetchall()
    return dict(zip(names, rows[0], strict=True)) if rows else {}


def _second(moment: datetime) -> int:
    return int(moment.timestamp())
