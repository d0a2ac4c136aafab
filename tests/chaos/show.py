"""One run: load, faults, the end, the judge; and what is printed of it."""

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from shared.db.connect import engine
from shared.local import Services
from tests.api import Api
from tests.chaos import evidence
from tests.chaos.cast import Cast, make_cast
from tests.chaos.faults import Blow, Deed, Lane, Tally, carry_out, plan, wipe_a_full_queue
from tests.chaos.judge import judge
from tests.chaos.load import Load
from tests.chaos.records import Case, Entry, Holdings, Moved, Said, read_attempts
from tests.chaos.stage import SWEEP_S, Stage, stage
from tests.world import World

PROGRESS_S: Final = 5.0
FINDINGS_SHOWN: Final = 5

#: Everything accepted is finished so many sweeps after the last service is back.
SWEEPS_DUE: Final = 2

#: Looks at the system until it stands still.
LOOKS_MAX: Final = 5

#: How long commands pile up before the last wipe.
PILE_UP_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a run shall do. The load lasts for `seconds`, over which the faults are spread, and until the last is through.

    Then comes the last wipe, if wanted.
    """

    seed: int
    rate: float
    seconds: float
    points: Sequence[str]
    deeds: Sequence[Deed]
    times: int
    blows: Mapping[Blow, int]
    wipes_at_end: bool
    ledgers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of it."""

    script: Script
    done: Mapping[tuple[str, str], int]
    offered: float
    said: Mapping[Said, int]
    moved: int
    finished_after: float
    findings: Mapping[str, Sequence[str]]
    deaths: Sequence[str]
    deadlocks: int

    @property
    def missing(self) -> list[str]:
        """Faults that were planned and did not happen."""
        wanted: dict[tuple[str, str], int] = {
            (point, deed): self.script.times for point in self.script.points for deed in self.script.deeds
        }
        wanted |= {(blow, ""): number for blow, number in self.script.blows.items()}
        return [f"{point} {deed}".strip() for (point, deed), times in wanted.items() if self.done.get((point, deed), 0) < times]

    @property
    def passed(self) -> bool:
        return not (any(self.findings.values()) or self.deaths or self.deadlocks or self.missing)


def run(script: Script, services: Services, folder: Path) -> Report:
    """One run, from an empty database to the verdict.

    1. The cast, the processes, the load.
    2. The lanes of faults, side by side, until all are through.
    3. The last wipe. From then on nobody asks for anything new.
    4. Everything comes back; two sweeps later all that was accepted before must be finished.
    5. The clients get their last answers; the evidence is collected and judged.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    deadlocks_before = _deadlocks(services)
    with stage(services, folder, ledgers=script.ledgers) as here:
        pool = engine(here.stack.database_url, name="chaos")
        cast = make_cast(World(pool), Random(script.seed))
        pool.dispose()
        load = Load(cast, here.ports, Random(script.seed), folder / "answers.jsonl", script.rate)
        lanes = plan(
            Random(script.seed),
            points=script.points,
            deeds=script.deeds,
            times=script.times,
            blows=script.blows,
            seconds=script.seconds,
        )
        tally = Tally()
        _say(f"{len(cast.accounts)} accounts, {len(cast.things)} things; {sum(map(len, lanes))} faults in {len(lanes)} lanes; {folder}")
        load.start()
        try:
            _go_through(lanes, here, tally, load, at_least_s=script.seconds)
            if script.wipes_at_end:
                wipe_a_full_queue(here, load.stop_asking, PILE_UP_S)
                tally.add(Blow.RABBITMQ_WIPED, "")
        finally:
            load.stop_asking()
        _say(f"{time.monotonic() - load.began:4.0f} s: no new requests; waiting until everything is back")
        back = here.wait_until_back()
        _say(f"{time.monotonic() - load.began:4.0f} s: everything is back; the clients wait for their last answers")
        load.finish()
        history, entries, today = _look(here, cast)
        case = Case(
            attempts=read_attempts(load.file),
            history=history,
            entries=entries,
            first=cast.first,
            today=today,
            limits=cast.limits,
            back=back,
            due=back + SWEEPS_DUE * SWEEP_S,
        )
    return Report(
        script=script,
        done=tally.done,
        offered=load.sent / load.offered_s,
        said=load.said,
        moved=len(case.history),
        finished_after=max((entry.finished - back for entry in case.entries if entry.created <= back), default=0.0),
        findings=judge(case),
        deaths=here.deaths,
        deadlocks=_deadlocks(services) - deadlocks_before,
    )


def _look(here: Stage, cast: Cast) -> tuple[list[Moved], list[Entry], Holdings]:
    """The system's side, seen while nothing moves; if something still does after so many looks, the judge shall say so."""
    api = Api(f"http://127.0.0.1:{here.ports[0]}")
    history = evidence.get_history(here.stack.database_url)
    for _ in range(LOOKS_MAX):
        entries, today = evidence.get_entries(api, cast.accounts), evidence.get_holdings(api, cast)
        before, history = history, evidence.get_history(here.stack.database_url)
        if history == before:
            break
    return history, entries, today


def _go_through(lanes: Sequence[Lane], here: Stage, tally: Tally, load: Load, *, at_least_s: float) -> None:
    """Work through all lanes at once, with a line of progress now and then. An error in one ends all."""
    stop = threading.Event()
    end = time.monotonic() + at_least_s
    with ThreadPoolExecutor(max(1, len(lanes))) as pool, _setting(stop):
        futures: list[Future[None]] = [pool.submit(carry_out, here, lane, tally, stop) for lane in lanes]
        done, left = set[Future[None]](), set(futures)
        while left or time.monotonic() < end:
            if left:
                done, left = wait(left, timeout=PROGRESS_S)
            else:
                time.sleep(min(PROGRESS_S, max(0.0, end - time.monotonic())))
            for future in done:
                future.result()
            _say(_progress(load, tally, sum(map(len, lanes))))


@contextmanager
def _setting(stop: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        stop.set()


def _progress(load: Load, tally: Tally, planned: int) -> str:
    answers = ", ".join(f"{said} {load.said[said]:,}" for said in Said if load.said[said])
    return f"{time.monotonic() - load.began:4.0f} s: {load.sent:,} asked; {answers}; faults {tally.done.total()} of {planned}"


def _deadlocks(services: Services) -> int:
    """So far, by PostgreSQL's own log, which outlives its crashes."""
    assert services.postgres is not None
    return services.postgres.log.read_text(errors="replace").count("ERROR:  deadlock detected")


def _say(line: str) -> None:
    print(line, flush=True)


def show(report: Report) -> None:
    """The table of faults, and the verdict."""
    _say("\npoint or service        kill -9  SIGSTOP   times")
    for point in report.script.points:
        _say(f"  {point:<20} {report.done.get((point, Deed.KILL), 0):>8} {report.done.get((point, Deed.STOP), 0):>8}")
    for blow in Blow:
        if (blow, "") in report.done:
            _say(f"  {blow:<20} {'':>8} {'':>8} {report.done[blow, '']:>7}")
    answers = ", ".join(f"{said} {number:,}" for said, number in sorted(report.said.items()))
    _say(f"\noffered {report.offered:.0f} transfers a second; answers: {answers}; {report.moved:,} things moved")
    _say(f"the last of what was accepted was finished {max(0.0, report.finished_after):.0f} s after the last service was back")
    _say("\nverdict")
    lines: dict[str, Sequence[str]] = {
        **report.findings,
        "processes that ended by themselves": report.deaths,
        "deadlocks": [f"PostgreSQL reports {report.deadlocks}"] if report.deadlocks else [],
        "faults that did not happen": report.missing,
    }
    for question, findings in lines.items():
        count = report.deadlocks if question == "deadlocks" else len(findings)
        _say(f"  {question:<36} {count:>5}")
        for finding in findings[:FINDINGS_SHOWN]:
            _say(f"      {finding}")
