"""Thousands of bots in one listener, of which each sees little: its memory, how long a push takes to become a lead, and a take-over.

All processes are real: the server in Telegram's place, relay, RabbitMQ, listener and ingest worker, on one machine. People are known: they
have started their bots before. When a push's transaction was committed PostgreSQL says itself.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import telegram_world
from benchmarks.ground import Ground
from benchmarks.processes import Processes, processes
from benchmarks.rounds import Effort
from benchmarks.table import Required, Row, alone
from benchmarks.telegram_ingest import end
from benchmarks.telegram_world import PERSON, TG_BOT, TG_CHANNEL, TG_OWNER
from benchmarks.waiting import until
from shared.db.connect import Raw, connect
from tests.telegram.remote import Remote, started

BOTS: Final = 2_000
PEOPLE: Final = 50
EVENTS_PER_S: Final = 500
SECONDS: Final = 300
SECONDS_QUICK: Final = 40

#: Things that people do at once, at so many moments a second.
TOGETHER: Final = 5

#: Things that happen right after the kill, asked for at once.
MISSED_TOGETHER: Final = 100

#: Neighbours in time are people of other bots.
STEP: Final = 7_919

#: A lease and a take-over as the listener has them if nobody says otherwise, in seconds.
LEASE_S: Final = 30.0
TAKE_OVER_S: Final = 5.0

SAMPLE_S: Final = 1.0
POLL_S: Final = 0.1
MB: Final = 1024

_TEMPLATE: Final = "bench_telegram_many"
_TURN: Final = "bench_turn"

_LATENCIES: Final = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(f.xmin)) - a.asked
    FROM asked a JOIN fact f ON f.subscriber = a.subscriber AND f.at = to_timestamp(a.second)
"""


@dataclass(slots=True)
class Regulars:
    """What the people who are known do, each in turn: a quarter start their bot with a new click, or ask to be let in; others come and go.

    `asked` has who it was, the second that Telegram dates it with, and when the server was asked to let it happen.
    """

    server: Remote
    asked: list[tuple[int, int, float]] = field(default_factory=list)

    def act(self, number: int) -> None:
        """Let the next ones do something."""
        now = time.time()
        deeds = [self._next(len(self.asked) + n, int(now)) for n in range(number)]
        self.server.together(deeds=deeds)
        self.asked += [(int(deed["person"]), int(now), now) for deed in deeds]

    @staticmethod
    def _next(turn: int, second: int) -> dict[str, Any]:
        """Who is at turn, and what they do. The first time it depends on who they are, then on what they did."""
        rounds, place = divmod(turn, BOTS * PEOPLE)
        bot = place * STEP % BOTS
        number = place // BOTS
        deed: dict[str, Any] = {"person": PERSON + bot * PEOPLE + number, "at": second}
        inside = {"chat": TG_CHANNEL + bot}
        match number % 4, rounds:
            case 0, 0:
                return {**deed, "do": "start", "bot": TG_BOT + bot, "payload": f"c{telegram_world.CAMPAIGN + bot}-again"}
            case 1, 0:
                return {**deed, "do": "ask", **inside}
            case 1, 1:
                return {**deed, "do": "approve", "by": TG_OWNER, **inside}
            case 0 | 1, _:
                return {**deed, "do": "join" if rounds % 2 else "leave", **inside}
            case _:
                return {**deed, "do": "leave" if rounds % 2 else "join", **inside}


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """Once, whatever the effort: it takes its time."""
    seconds = SECONDS_QUICK if effort.quick else SECONDS
    begin = _make_template(ground)
    ground.say(f"resting: {BOTS:,} bots with {PEOPLE} people each at one listener, {EVENTS_PER_S} events/s for {seconds} s")
    with _commit_times(ground), processes(ground) as running:
        url = ground.create(_TURN, template=_TEMPLATE)
        with started("--begin", str(begin), log=ground.folder / "telegram.log") as server, connect(url, name="bench", limits={}) as db:
            running.start("services", "relay", database_url=url)
            worker = running.start("services", "ingest", database_url=url)
            listener = _listen(running, server, url)
            until(lambda: len(server.counts()["listening"]) == BOTS, "all bots are connected", poll_s=POLL_S)
            people = Regulars(server)
            memory = _load(people, listener, seconds)
            _await_leads(db, people)
            latencies = _latencies(db, people)
            ground.say(f"resting: {_usage()}")
            late = _take_over(ground, running, listener, people, db, url)
            end(worker)
    ground.drop(_TURN)
    return _rows(memory, latencies, late)


def _rows(memory: float, latencies: list[float], late: list[float]) -> list[Row]:
    what = f"{BOTS:,} resting bots"
    return [
        alone(f"{what}: memory of the listener", [memory], "MB", Required("≤", 300, " MB")),
        alone(f"{what}: p50 from push to committed lead", [_quantile(latencies, 0.5) * 1e3], "ms"),
        alone(f"{what}: p99 of the same", [_quantile(latencies, 0.99) * 1e3], "ms", Required("≤", 500, " ms")),
        alone(f"{what}: taken over after a kill, half of them, beyond lease and {TAKE_OVER_S:.0f} s", [_quantile(late, 0.5)], "s"),
        alone(f"{what}: the same, all of them", [max(late)], "s"),
    ]


def _quantile(figures: list[float], part: float) -> float:
    return sorted(figures)[min(int(len(figures) * part), len(figures) - 1)]


def _make_template(ground: Ground) -> Path:
    logins = telegram_world.new_logins(BOTS)
    with connect(ground.create(_TEMPLATE), name="bench", limits={}) as db:
        telegram_world.add(db, logins)
        telegram_world.add_leads(db, bots=BOTS, people=PEOPLE)
    begin = ground.folder / "telegram-begin.jsonl"
    telegram_world.write_beginning(begin, logins)
    return begin


@contextmanager
def _commit_times(ground: Ground) -> Iterator[None]:
    """PostgreSQL remembers when each transaction was committed, for as long as the block runs."""

    def remember(word: str) -> None:
        with connect(ground.url("postgres"), name="bench", limits={}) as db:
            db.execute(f"ALTER SYSTEM SET track_commit_timestamp = {word}")
        ground.postgres.restart()

    remember("on")
    try:
        yield
    finally:
        remember("DEFAULT")


def _listen(running: Processes, server: Remote, url: str) -> "subprocess.Popen[str]":
    return running.start("services", *telegram_world.listener_options(server.ports), database_url=url)


def _load(people: Regulars, listener: "subprocess.Popen[str]", seconds: int) -> float:
    """So many events a second, evenly; the most memory that the listener had, in MB."""
    began, most = time.monotonic(), 0.0
    for moment in range(seconds * EVENTS_PER_S // TOGETHER):
        time.sleep(max(began + moment * TOGETHER / EVENTS_PER_S - time.monotonic(), 0))
        people.act(TOGETHER)
        if moment * TOGETHER % round(EVENTS_PER_S * SAMPLE_S) == 0:
            most = max(most, memory_of(listener.pid))
    return most


def _take_over(ground: Ground, running: Processes, listener: "subprocess.Popen[str]", people: Regulars, db: Raw, url: str) -> list[float]:
    """Kill the listener, let each bot miss something, start another; seconds from the earliest moment to each one made up for."""
    listener.kill()
    killed = time.time()
    missed = len(people.asked)
    while len(people.asked) < missed + BOTS:
        people.act(MISSED_TOGETHER)
    _listen(running, people.server, url)
    _await_leads(db, people)
    free = float(db.execute("SELECT extract(epoch FROM min(expires_at)) FROM listener").fetchall()[0][0]) + TAKE_OVER_S
    committed = [asked + late for (_, _, asked), late in zip(people.asked[missed:], _latencies(db, people, missed), strict=True)]
    ground.say(
        f"resting: taken over {max(committed) - killed:.1f} s after the kill; the lease had {free - TAKE_OVER_S - killed:.1f} s left"
    )
    return [moment - free for moment in committed]


def _await_leads(db: Raw, people: Regulars) -> None:
    """Until everything that happened has come to its lead."""

    def applied() -> bool:
        return bool(db.execute("SELECT count(*) FROM fact", prepare=True).fetchall()[0][0] == len(people.asked))

    until(applied, "all is applied", poll_s=POLL_S)


def _latencies(db: Raw, people: Regulars, since: int = 0) -> list[float]:
    """Seconds from asking the server to the commit, of each thing that happened, in order."""
    db.execute("CREATE TEMP TABLE IF NOT EXISTS asked (n bigint, subscriber bigint, second bigint, asked double precision)")
    db.execute("TRUNCATE asked")
    with db.cursor().copy("COPY asked FROM STDIN") as copy:
        for n, row in enumerate(people.asked[since:]):
            copy.write_row((n, *row))
    db.execute("ANALYZE asked")
    found = [float(row[0]) for row in db.execute(f"{_LATENCIES} ORDER BY a.n")]
    assert len(found) == len(people.asked) - since, "every event has one fact"
    return found


def memory_of(process: int) -> float:
    """What a process has in memory, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / MB


def _usage() -> str:
    """What each process that was started here has used, for whoever wonders where the machine's time went."""
    children = [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    return ", ".join(f"{_name_of(pid)} {memory_of(pid):.0f} MB {_cpu_s_of(pid):.0f} s" for pid in children)


def _name_of(process: int) -> str:
    """What stands behind `-m` and the module, or the module."""
    words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
    return words[3] if words[2:3] == ["services"] else " ".join(words[2:3])


def _cpu_s_of(process: int) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
