"""One run from beginning to verdict, and how it is shown."""

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from shared.db.connect import Raw
from shared.local import Services
from tests.chaos.telegram import audit, stock
from tests.chaos.telegram.evidence import Case, Mark, mark
from tests.chaos.telegram.faults import POINTS, Fault, Hands, kill_at, plan, wait_for
from tests.chaos.telegram.judge import expect, expected, judge
from tests.chaos.telegram.stage import CATCH_UP_S, OWNER, Stage, stage
from tests.chaos.telegram.stock import Losses
from tests.stack import eventually

#: So much of what happens, happens at our bots; the rest at the control's.
SHARE_OURS: Final = 0.8

WITHHELD_PERCENT: Final = 2.0
DUPLICATED_PERCENT: Final = 1.0
PEOPLE: Final = 400
FIRST_PERSON: Final = 50_000_000

#: How long the system may take to catch up when everything is well again.
SETTLES_S: Final = 90.0

#: So many times the interval in which every bot asks for what it has missed.
LOOKS_AFTERWARDS: Final = 1.2

#: Between two faults there is so much time at least, however late they are.
PEACE_S: Final = 0.5

FINDINGS_SHOWN: Final = 5

#: Each fault so many times, in the long run and in the short one.
FULL: Final = {
    "listener killed": 6,
    **{kill_at(point): 4 for point in POINTS},
    "listener ended": 2,
    "listener stopped, and back": 3,
    "listener stopped, connected, and back": 3,
    "connections dropped": 8,
    "connection silent": 2,
    "key logged out": 2,
    "database stalled": 8,
    "ingest worker killed": 4,
}
SHORT: Final = {
    "listener killed": 1,
    **dict.fromkeys(map(kill_at, POINTS), 1),
    "listener stopped, connected, and back": 1,
    "connections dropped": 2,
    "database stalled": 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a run shall do: so many deeds at our bots, of which some are no events, so many a second, and each fault so many times."""

    seed: int
    events: int
    rate: float
    faults: Mapping[str, int]

    @property
    def seconds(self) -> float:
        return self.events / self.rate


def full_script(seed: int) -> Script:
    """As long as it takes, about four minutes."""
    return Script(seed=seed, events=57_000, rate=300.0, faults=FULL)


def short_script(seed: int) -> Script:
    """The most telling faults, within 40 seconds."""
    return Script(seed=seed, events=2_000, rate=160.0, faults=SHORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of it."""

    script: Script
    done: Mapping[str, int]
    owed: int
    sent: int
    seconds: float
    control: Losses
    findings: Mapping[str, Sequence[str]]
    deaths: Sequence[str]

    @property
    def missing(self) -> list[str]:
        """Faults that were planned and did not happen, and a control that lost nothing."""
        done = self.done
        missing = [f"{what} ({done.get(what, 0)} of {times})" for what, times in self.script.faults.items() if done.get(what, 0) < times]
        return missing if self.control.lost else [*missing, "the control lost nothing: this was no test"]

    @property
    def passed(self) -> bool:
        return not (any(self.findings.values()) or self.deaths or self.missing)


def run(script: Script, services: Services, folder: Path) -> Report:
    """One run, from an empty database to the verdict.

    1. The cast and the processes; all bots listen.
    2. The crowd, and the faults beside it, until these are through and enough has happened.
    3. The server withholds nothing any more. All that it has told must come to rest.
    4. The evidence is collected and judged.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    random = Random(script.seed)
    with stage(services, folder) as here, here.database() as db:
        server, began = here.server, mark(here.server)
        server.nasty(seed=script.seed, withhold_percent=WITHHELD_PERCENT, duplicate_percent=DUPLICATED_PERCENT, one_connection_per_key=True)
        hands = Hands(here, db, random)
        start = time.monotonic()
        server.crowd(
            stages=stages(here),
            per_s=script.rate / SHARE_OURS,
            seed=script.seed,
            people=PEOPLE,
            first_id=FIRST_PERSON,
            wait=False,
        )
        _strike(hands, plan(random, script.faults, script.seconds), start)
        eventually(lambda: server.counts()["crowd"] >= script.events / SHARE_OURS, "enough has happened", wait_s=script.seconds * 3)
        server.stop_crowd()
        eventually(lambda: not server.counts()["crowd_running"], "the crowd has gone")
        server.nasty(withhold_percent=0, duplicate_percent=0)
        _say(f"{time.monotonic() - start:4.0f} s: the crowd has gone; waiting until everything has come in")
        owed = server.everything("owed", began.owed)
        _settle(here, db, owed)
        seconds = time.monotonic() - start
        case = collect(here, db, began, hands)
        control = stock.count(folder, owed, here.control_bots)
        deaths = list(here.deaths)
    return Report(
        script=script,
        done=hands.done,
        owed=len(list(expected(case))),
        sent=len(case.sent),
        seconds=seconds,
        control=control,
        findings=judge(case),
        deaths=deaths,
    )


def stages(here: Stage) -> list[dict[str, object]]:
    """Where the crowd meets: ours so often that they get their share. Some links carry a code that nobody has."""
    ours = [{"bot": watch.tg, "chat": watch.chat_tg, "admin": OWNER, "codes": [watch.code] * 9 + ["nobody0"]} for watch in here.watches]
    controls = [{"bot": bot, "chat": bot, "admin": OWNER, "codes": ["control"]} for bot in here.control_bots]
    return ours * round(SHARE_OURS / (1 - SHARE_OURS)) + controls


def collect(here: Stage, db: Raw, began: Mark, hands: Hands) -> Case:
    """Everything that the judge is to know."""
    server = here.server
    return Case(
        watches=here.watches,
        owed=server.everything("owed", began.owed),
        sent=server.everything("sent", began.sent),
        calls=server.everything("calls", began.calls),
        connections=server.everything("connections"),
        taken=audit.taken(db),
        strangers=audit.strangers(db),
        freezes=hands.freezes,
        came={watch.campaign: audit.came(db, watch.campaign, watch.chat) for watch in here.watches},
        left=audit.left(db),
    )


def _strike(hands: Hands, faults: Iterable[Fault], start: float) -> None:
    """Each fault at its time or, if the one before took long, later."""
    for fault in faults:
        time.sleep(max(PEACE_S, start + fault.at_s - time.monotonic()))
        hands.carry_out(fault.what)
        _say(f"{time.monotonic() - start:4.0f} s: {fault.what}")


def _settle(here: Stage, db: Raw, owed: Sequence[Mapping[str, Any]]) -> None:
    """Wait until all has come in and nothing waits any more, or too long: then the judge shall say what is missing.

    What would be taken in twice, or by a listener that has lost its lease, comes with the next questions; they are waited for.
    """
    ours = {watch.tg: watch.bot for watch in here.watches}
    due = sum(1 for one in owed if one["bot_id"] in ours and expect(ours[one["bot_id"]], one) is not None)
    rests = wait_for(lambda: audit.count_taken(db) >= due and not any(audit.left(db).values()), SETTLES_S)
    time.sleep(CATCH_UP_S * LOOKS_AFTERWARDS)
    _say(f"{'all' if rests else 'not all'} of {due:,} events have come in")


def _say(line: str) -> None:
    print(line, flush=True)


def show(report: Report) -> None:
    """What was done, how the control fared, and the verdict."""
    _say("\nfault                                             times")
    for what in report.script.faults:
        _say(f"  {what:<44} {report.done.get(what, 0):>8}")
    control = report.control
    _say(f"\n{report.owed:,} events for our bots and {report.sent:,} welcomes in {report.seconds:.0f} s")
    _say(
        f"stock Telethon beside it: {control.owed:,} events, {control.lost:,} lost ({100 * control.lost / max(1, control.owed):.0f} %), "
        f"{control.doubled:,} doubled"
    )
    _say("\nverdict")
    lines = {**report.findings, "processes that ended by themselves": report.deaths, "what should have happened": report.missing}
    for question, findings in lines.items():
        _say(f"  {question:<36} {len(findings):>5}")
        for finding in findings[:FINDINGS_SHOWN]:
            _say(f"      {finding}")
