"""Starts our processes, each as its own; starts again the one that crashed; stops them in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.run import tied
from services.run.signals import Signals

#: A crashed child is started again after the first delay, which doubles up to the last one, until it has run for so long.
DELAY_FIRST_S: Final = 0.2
DELAY_LAST_S: Final = 10.0
STEADY_S: Final = 30.0

#: How long a child may take to stop. A ledger may finish what it has begun in each of its two queues, for 15 s each.
STOP_S: Final = 40.0
STOP_POLL_S: Final = 0.02

#: A log that has grown beyond this when its process is started becomes the old log, in place of an older one.
LOG_BYTES_MAX: Final = 10_000_000

#: How much of a log's end is read for its last line, and how much of that line is said.
LOG_TAIL_BYTES: Final = 8_192
LAST_LINE_CHARS: Final = 300

ROOT: Final = Path(__file__).resolve().parents[2]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, repr=False)
class Program:
    """A process as it is started: `python -m WORDS`, with settings of its own beside those of all. No repr, for the secrets among them."""

    name: str
    words: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Child:
    """One running process of ours. `said_before` is where its log stood when it started, `delay_s` how long the next start would wait."""

    popen: subprocess.Popen[bytes]
    started: float
    said_before: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class _Restart:
    """A start that waits for its moment."""

    due: float
    delay_s: float


class Supervisor:
    """Our processes, children of this one.

    Each has a session of its own, so that a terminal's Ctrl-C reaches only us, and dies with us whatever becomes of us (see `tied`).
    They get their settings, URLs with passwords among them, by the environment: a command line is for everybody to read.
    """

    def __init__(self, logs: Path, settings: Mapping[str, str], *, signals: Signals, say: Say) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._settings = settings
        self._signals = signals
        self._say = say
        self._programs: dict[str, Program] = {}
        self._children: dict[str, _Child] = {}
        self._restarts: dict[str, _Restart] = {}

    def run(self, program: Program) -> str | None:
        """Run something to its end. None when it succeeded, else the last line it said.

        Raises:
            Stopped: it was told to stop, too, and did.
        """
        child = self._start(program, delay_s=DELAY_FIRST_S)
        try:
            while child.popen.poll() is None:
                self._signals.wait(None)
        finally:
            self._end(program.name)
        return self._last_line(program.name, child) if child.popen.returncode else None

    def start(self, program: Program) -> None:
        """Start a process, and keep it up from now on."""
        self._programs[program.name] = program
        self._start(program, delay_s=DELAY_FIRST_S)

    def pids(self) -> dict[str, int]:
        """The processes that run."""
        return {name: self._children[name].popen.pid for name in self._programs if name in self._children}

    def is_complete(self) -> bool:
        """Whether everything runs that was started."""
        return self._programs.keys() <= self._children.keys()

    def look(self) -> bool:
        """Say what crashed, and start again what is due. Whether the pids have changed."""
        ended = [name for name, child in self._children.items() if child.popen.poll() is not None]
        for name in ended:
            self._note_crash(name, self._children.pop(name))
        due = [name for name, restart in self._restarts.items() if restart.due <= time.monotonic()]
        for name in due:
            self._start_again(name, self._restarts.pop(name).delay_s)
        return bool(ended or due)

    def next_look_s(self) -> float | None:
        """How long until something is due to be started; None when nothing is. A crash is announced by its signal."""
        due = min((restart.due for restart in self._restarts.values()), default=None)
        return None if due is None else max(0.0, due - time.monotonic())

    def stop(self) -> None:
        """Stop every process, the last one started first, and wait for each."""
        self._restarts.clear()
        for name in reversed(self._programs):
            self._end(name)

    def _start(self, program: Program, *, delay_s: float) -> _Child:
        """Start it, its output appended to its log."""
        log = self._log(program.name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as output:
            said_before = output.tell()
            popen = subprocess.Popen(
                [sys.executable, "-S", "-E", str(tied.__file__), str(os.getpid()), sys.executable, "-m", *program.words],
                cwd=ROOT,
                env={**os.environ, **self._settings, **program.settings},  # noqa: TID251  # handed on, not read
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        child = _Child(popen, time.monotonic(), said_before, delay_s)
        self._children[program.name] = child
        return child

    def _note_crash(self, name: str, child: _Child) -> None:
        """One line for a person, and a start that waits: briefly, unless the child has crashed again and again."""
        now = time.monotonic()
        delay_s = DELAY_FIRST_S if now - child.started >= STEADY_S else child.delay_s
        self._restarts[name] = _Restart(now + delay_s, min(2 * delay_s, DELAY_LAST_S))
        reason = _reason(child.popen.returncode)
        last = self._last_line(name, child)
        self._say(f"The {name} (process {child.popen.pid}) {reason}; its last line: {last}. Starting it again in {delay_s:.1f} s.")

    def _start_again(self, name: str, delay_s: float) -> None:
        """A machine that has no memory or no disk left at this moment must not take the supervisor along."""
        try:
            self._start(self._programs[name], delay_s=delay_s)
        except OSError as error:
            self._restarts[name] = _Restart(time.monotonic() + delay_s, min(2 * delay_s, DELAY_LAST_S))
            self._say(f"The {name} can't be started ({error.strerror}). Trying again in {delay_s:.1f} s.")

    def _end(self, name: str) -> None:
        """Ask a child to stop, and insist once patience has run out. A stopped one (SIGSTOP) hears nothing until it is let go on."""
        child = self._children.pop(name, None)
        if child is None or child.popen.poll() is not None:
            return
        child.popen.send_signal(signal.SIGTERM)
        child.popen.send_signal(signal.SIGCONT)
        try:
            child.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._say(f"The {name} did not stop within {STOP_S:.0f} s and is killed.")
            child.popen.kill()
            child.popen.wait()

    def _last_line(self, name: str, child: _Child) -> str:
        with self._log(name).open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(child.said_before, end - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:LAST_LINE_CHARS] if said else "(none)"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _reason(code: int) -> str:
    """Why a process ended, from its exit code: a negative one names a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
