"""From the socket to the committed inbox: a listener with the bots of many, against bare Telethon clients that only count.

The server has all pushes ready, and lets them go as fast as the sockets take them. It is a process of its own, which shares the machine
with whoever takes them in: with the bare clients, or with the listener and PostgreSQL.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import telegram_world
from benchmarks.ground import Ground
from benchmarks.processes import processes, read_line, say_line
from benchmarks.rounds import Effort, take_turns
from benchmarks.table import Required, Row, against, alone
from benchmarks.telegram_world import Login
from benchmarks.waiting import until
from shared.db.connect import Raw, connect
from tests.telegram.remote import Remote, started

BOTS: Final = 200

#: Who does things at a time; enough that nobody does the next before the listener has heard of the one before.
PEOPLE: Final = 4_000

#: Things that happen in a round, for each second that it should take about.
EVENTS_PER_S: Final = 4_000

#: Updates that say nothing to a listener are few: what people write to bots, and restrictions.
STORED_MIN: Final = 0.8

POLL_S: Final = 0.02

_TEMPLATE: Final = "bench_telegram"
_TURN: Final = "bench_turn"


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """Each turn has a server that begins anew with the same people, and a listener's one a database that does."""
    logins = telegram_world.new_logins(BOTS)
    begin, keys = ground.folder / "telegram-begin.jsonl", ground.folder / "telegram-keys"
    telegram_world.write_beginning(begin, logins)
    keys.write_text("\n".join(login.key.hex() for login in logins))
    _make_template(ground, logins)
    events = round(EVENTS_PER_S * effort.seconds)
    ground.say(f"listener: {BOTS} bots, {events:,} things that happen, all of them ready to be pushed; {_cores()}")
    turns: dict[str, Callable[[], float]] = {
        "listener": partial(_listener, ground, begin, events),
        "bare clients": partial(_bare, ground, begin, keys, events),
    }
    found = take_turns(effort.rounds, turns, ground.say)
    ground.drop(_TURN)
    what = f"socket to committed inbox, {BOTS} bots; bare clients"
    return [against(what, found["listener"], found["bare clients"], "events/s", Required("≥", 0.5)), _goal(found["listener"])]


def _goal(rates: list[float]) -> Row:
    return alone("  of the same, the goal for a process", rates, "events/s", Required("≥", 5_000))


def _cores() -> str:
    return "the server, what takes them in and PostgreSQL share the machine's cores"


def _make_template(ground: Ground, logins: list[Login]) -> None:
    with connect(ground.create(_TEMPLATE), name="bench", limits={}) as db:
        telegram_world.add(db, logins)


def _listener(ground: Ground, begin: Path, events: int) -> float:
    """Events that are committed in a second, until the bots' states say that all updates are taken in."""
    url = ground.create(_TURN, template=_TEMPLATE)
    with started("--begin", str(begin), log=ground.folder / "telegram.log") as server, processes(ground) as running:
        running.start("services", *telegram_world.listener_options(server.ports), database_url=url)
        _await_clients(server)
        pushes = _get_ready(server, events)
        with connect(url, name="bench", limits={}) as db:
            goal = _taken_in(db) + pushes
            with _opened(server) as began:
                until(lambda: _taken_in(db) >= goal, "all updates are taken in", poll_s=POLL_S)
            seconds = time.monotonic() - began
            stored = int(db.execute("SELECT count(*) FROM inbox_event WHERE kind <> 'seat'").fetchall()[0][0])
    assert stored >= pushes * STORED_MIN, f"only {stored} of {pushes} updates became events"
    return round(stored / seconds)


def _bare(ground: Ground, begin: Path, keys: Path, events: int) -> float:
    """Updates that are handled in a second."""
    with started("--begin", str(begin), log=ground.folder / "telegram.log") as server, processes(ground) as running:
        clients = running.start("benchmarks.telegram_bare", str(server.ports["port"]), str(keys))
        assert read_line(clients) == "ready\n"
        _await_clients(server)
        pushes = _get_ready(server, events)
        say_line(clients, str(pushes))
        assert read_line(clients) == "counting\n"
        with _opened(server) as began:
            ended = float(read_line(clients))
    return round(pushes / (ended - began))


def _await_clients(server: Remote) -> None:
    until(lambda: len(server.counts()["listening"]) == BOTS, "all bots are connected", poll_s=POLL_S)


def _get_ready(server: Remote, events: int) -> int:
    """Let people do so much while the pushes are kept back; how many pushes that are."""
    before = server.counts()["owed"]
    server.dam()
    server.crowd(stages=telegram_world.stages(BOTS), events=events, people=PEOPLE)
    return int(server.counts()["owed"]) - int(before)


@contextmanager
def _opened(server: Remote) -> Iterator[float]:
    """The pushes are let go; since when. At the end the server has let go of all."""
    with ThreadPoolExecutor(1) as pool, server.another() as other:
        began = time.monotonic()
        letting_go = pool.submit(other.open_dam)
        yield began
        letting_go.result()


def _taken_in(db: Raw) -> int:
    return int(db.execute("SELECT sum(pts + qts) FROM bot_session", prepare=True).fetchall()[0][0])
