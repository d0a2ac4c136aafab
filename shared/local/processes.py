"""Servers that outlive the Python which started them, and how a later Python finds them again.

A server gets a session of its own, so that a terminal's Ctrl-C reaches only Python, which then stops its servers in
order. It is therefore nobody's child, and after a SIGKILL of Python it lives on. What identifies it is not a process
id, which the system gives to somebody else tomorrow, but a mark that names the server's folder, in its environment or
on its command line, where /proc shows it. A process with our mark is ours; nothing else is ever signalled.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02
LOOKS = 5
KILLED_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating system's user a server runs as, where that is not the user we are."""

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
    """Start a server in the background; what it says before it has a log of its own goes to `log`.

    `setsid --fork` makes it a child of init instead of ours: a server we find and one we started are then the same
    thing to us, and no zombie waits for a parent that forgot it.
    """
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *command],
            check=True,
            cwd=folder,
            env=environment,
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


def mark_variable(folder: Path) -> dict[str, str]:
    """The mark as a variable, which a server passes on to its helpers: all of them are then found."""
    return {"GATEPOST_SERVER": str(folder)}


def mark_setting(folder: Path) -> str:
    """The mark as a setting on the command line, for a server that runs as another user.

    The environment of another user's process is closed in most containers, even to root; its command line never is.
    """
    return f"gatepost.server={folder}"


def marked(folder: Path) -> list[int]:
    """The living processes of the server whose folder this is."""
    variables = {f"{name}={value}".encode() for name, value in mark_variable(folder).items()}
    setting = {mark_setting(folder).encode()}
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if (setting & _items(pid, "cmdline") or variables & _items(pid, "environ")) and alive(pid)]


def none_left(look: Callable[[], object]) -> bool:
    """Whether look() finds nothing, several times in a row.

    For an instant between two programs (exec) a process shows neither's arguments: one look may miss a server that is
    just starting.
    """
    for _ in range(LOOKS):
        if look():
            return False
        time.sleep(POLL_S)
    return True


def program(pid: int) -> str:
    """The name of the program a process runs, empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _items(pid: int, file: str) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/{file}").read_bytes().split(b"\0"))
    except OSError:
        return set()


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
    """Ask processes to end, and insist once patience has run out. Returns when all of them are gone.

    A stopped process (SIGSTOP) hears nothing until it is let go on.
    """
    send(pids, number)
    send(pids, signal.SIGCONT)
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
