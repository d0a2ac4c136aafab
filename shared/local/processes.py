"""Servers that outlive the Python which started them, and how a later Python finds them again.

A server gets a session of its own, so that a terminal's Ctrl-C reaches only Python, which then stops its servers in
order. It is therefore nobody's child, and after a SIGKILL of Python it lives on. What identifies it is not a process
id, which the system gives to somebody else tomorrow, but a mark: the server's folder, carried in its environment or on
its command line, where /proc shows it. A process with our mark is ours; nothing else is ever signalled.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02
KILLED_S = 10.0
MARK_VARIABLE = "GATEPOST_SERVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating system's user a server runs as, where that is not the user we are."""

    name: str
    uid: int
    gid: int


class NeverEnded(RuntimeError):
    """A process survived its SIGKILL for KILLED_S: the machine is in trouble, not we."""


def launch(
    command: Sequence[str | Path],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    account: Account | None = None,
) -> None:
    """Start a server in the background, marked as the one that lives in `folder`; its output goes to `log`.

    `setsid --fork` makes it a child of init instead of ours: a server we adopted and one we started are then the same
    thing to us, and no zombie waits for a parent that forgot it.
    """
    with log.open("ab") as output:
        marked_environment = {**environment, MARK_VARIABLE: str(folder)}
        subprocess.run(
            ["setsid", "--fork", *command],
            check=True,
            cwd=folder,
            env=marked_environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def run(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    account: Account | None,
    within_s: float,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as the server's user; what it says and whether it failed is the caller's to judge."""
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def marked(folder: Path) -> list[int]:
    """The living processes of the server whose folder this is."""
    mark = f"{MARK_VARIABLE}={folder}".encode()
    candidates = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in candidates if pid != os.getpid() and _carries(pid, mark) and alive(pid)]


def _carries(pid: int, mark: bytes) -> bool:
    """Whether a process has the mark in its environment, or, where that is closed to us, among its arguments.

    The environment of another user's process can't be read inside most containers, not even by root; its command line
    can. The server's own arguments name the mark in lower case, as a setting (see postgres.py).
    """
    return mark in _items(pid, "environ") or _as_setting(mark) in _items(pid, "cmdline")


def _as_setting(mark: bytes) -> bytes:
    name, _, folder = mark.partition(b"=")
    return name.lower().replace(b"_", b".", 1) + b"=" + folder


def mark_setting(folder: Path) -> str:
    """The mark in the form of a `name.space=value` setting, for a server whose environment can't be read."""
    return _as_setting(f"{MARK_VARIABLE}={folder}".encode()).decode()


def program(pid: int) -> str:
    """The name of the program a process runs, empty when it has ended."""
    arguments = _items(pid, "cmdline")
    return Path(os.fsdecode(arguments[0])).name if arguments else ""


def _items(pid: int, file: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().split(b"\0")
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process still runs. A zombie doesn't: inside a container nobody may ever collect it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes, some of which may have ended meanwhile."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def end(pids: Sequence[int], number: signal.Signals, *, patience_s: float) -> None:
    """Ask processes to end, and insist once patience has run out. Returns when all of them are gone."""
    send(pids, number)
    if ended(pids, within_s=patience_s):
        return
    send([pid for pid in pids if alive(pid)], signal.SIGKILL)
    if not ended(pids, within_s=KILLED_S):
        survivors = [pid for pid in pids if alive(pid)]
        raise NeverEnded(f"processes {survivors} did not end within {KILLED_S:.0f} s of SIGKILL")


def ended(pids: Sequence[int], *, within_s: float) -> bool:
    """Wait until all of them are gone, for so long at most."""
    deadline = time.monotonic() + within_s
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
