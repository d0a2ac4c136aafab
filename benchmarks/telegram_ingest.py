"""From a full inbox to leads, journal, counters, deliveries and messages, by one ingest worker; against COPY of the rows that come of it.

The worker is the real process, woken through relay and RabbitMQ. COPY puts the same final rows into the same tables with the same indexes,
without a look at any of them: whoever applies events cannot do with less.
"""

import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from psycopg import sql

from benchmarks import telegram_world
from benchmarks.ground import Ground
from benchmarks.processes import processes
from benchmarks.rounds import Effort, take_turns
from benchmarks.table import Required, Row, against, alone
from benchmarks.telegram_world import BOT, CAMPAIGN, CHANNELS_BELOW, PERSON, TG_CHANNEL
from benchmarks.waiting import until
from shared.db.connect import Raw, connect

BOTS: Final = 200

#: Subscribers of each bot, for each second that a round should take about. Each has about three events.
PEOPLE_PER_S: Final = 25

#: What comes of the events. The counters are there before with nothing in them.
TABLES: Final = ("lead", "fact", "journal", "delivery", "lane", "send", "daily", "lead_counter")

POLL_S: Final = 0.05

_EMPTY: Final = "bench_telegram_empty"
_FULL: Final = "bench_telegram_full"
_TURN: Final = "bench_turn"

# Somebody comes to each bot every half a minute: starts it, asks to be let in if it is a third one, comes in eight people later, and leaves
# forty people later if it is a second one. So the events of one subscriber are seldom in one turn.
_FILL: Final = f"""
    INSERT INTO inbox_event (bot_id, kind, at, subscriber, chat, message, username, payload, before, after, own)
    SELECT {BOT} + n, e.kind, moment, {PERSON} + n * %(people)s::int + p,
           CASE WHEN e.kind = 'start' THEN 0 ELSE {CHANNELS_BELOW} - {TG_CHANNEL} - n END, CASE WHEN e.kind = 'start' THEN p + 1 ELSE 0 END,
           'user_' || n || '_' || p, CASE WHEN e.kind = 'start' THEN 'c' || {CAMPAIGN} + n || '-' || md5(n || '/' || p) ELSE '' END,
           e.before, e.after, e.own
    FROM generate_series(0, %(bots)s::int - 1) AS n, generate_series(0, %(people)s::int - 1) AS p,
         LATERAL (VALUES ('start', 0, '', '', false, 1), ('request', 120, '', '', false, 3), ('change', 240, 'out', 'in', true, 1),
                         ('change', 1200, 'in', 'out', true, 2)) AS e (kind, later, before, after, own, every),
         LATERAL (SELECT date_trunc('second', now()) - interval '12 hours' + (p * 30 + e.later) * interval '1 s' AS moment) AS date
    WHERE p %% e.every = 0
    ORDER BY moment, n
"""


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """Each turn has a database that begins anew. What COPY is given is what the first turn has left."""
    people = round(PEOPLE_PER_S * effort.seconds)
    events = _make_templates(ground, people)
    ground.say(f"ingest: {events:,} events of {BOTS * people:,} subscribers wait in the inboxes of {BOTS} bots")
    rows: dict[str, bytes] = {}
    turns: dict[str, Callable[[], float]] = {
        "ingest worker": partial(_ingest, ground, events, rows),
        "COPY": partial(_copy, ground, events, rows),
    }
    found = take_turns(effort.rounds, turns, ground.say)
    ground.drop(_TURN)
    what = f"inbox to leads and deliveries, {BOTS} bots, 1 ingest worker; COPY of the same rows"
    worker, copy = found["ingest worker"], found["COPY"]
    return [
        against(what, worker, copy, "events/s", Required("≥", 0.3)),
        alone("  of the same, the goal for a process", worker, "events/s", Required("≥", 10_000)),
    ]


def _make_templates(ground: Ground, people: int) -> int:
    """One database without events, one with. How many events."""
    with connect(ground.create(_EMPTY), name="bench", limits={}) as db:
        telegram_world.add(db, telegram_world.new_logins(BOTS))
    with connect(ground.create(_FULL, template=_EMPTY), name="bench", limits={}) as db:
        events = db.execute(_FILL, {"bots": BOTS, "people": people}).rowcount
        db.execute("VACUUM (FREEZE, ANALYZE)")
    return events


def _ingest(ground: Ground, events: int, rows: dict[str, bytes]) -> float:
    """Events that are applied in a second, from the first turn's beginning until nothing waits."""
    url = ground.create(_TURN, template=_FULL)
    with processes(ground) as running, connect(url, name="bench", limits={}) as db:
        worker = running.start("services", "ingest", database_url=url)
        running.start("services", "relay", database_url=url)
        until(lambda: not _waits(db), "everything is applied", poll_s=POLL_S)
        seconds = float(db.execute("SELECT extract(epoch FROM clock_timestamp() - min(created)) FROM delivery").fetchall()[0][0])
        if not rows:
            rows.update({table: _read(db, table) for table in TABLES})
        end(worker)
    return round(events / seconds)


def _waits(db: Raw) -> bool:
    """Whether an event is there."""
    return bool(db.execute("SELECT EXISTS (SELECT FROM inbox_event)", prepare=True).fetchall()[0][0])


def end(process: subprocess.Popen[str]) -> None:
    """End a worker in order: RabbitMQ would deliver again what it had in hand, and what comes twice is applied with care, which is slow."""
    process.terminate()
    process.wait()


def _copy(ground: Ground, events: int, rows: Mapping[str, bytes]) -> float:
    with connect(ground.create(_TURN, template=_EMPTY), name="bench", limits={}) as db:
        db.execute("DELETE FROM lead_counter")
        began = time.monotonic()
        with db.transaction():
            for table, content in rows.items():
                with db.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
                    copy.write(content)
        return round(events / (time.monotonic() - began))


def _read(db: Raw, table: str) -> bytes:
    with db.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
        return b"".join(copy)
