"""The judge is proven: guards are taken out of a copy of the tree, chaos runs there, and the judge must say what is wrong.

Each patch in `sabotage/` begins with a sentence that says what it takes out.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PATCHES: Final = Path(__file__).parent / "sabotage"
COPIED: Final = ("services", "shared", "tests", "benchmarks")

#: A run on a sabotaged copy that takes longer has hung.
RUN_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A patch, the run that shows what it does, part first, and the line of the verdict that must not be 0."""

    patch: str
    run: tuple[str, ...]
    question: str


SABOTAGES: Final = (
    # Messages are lost with the broker, and nobody looks for what they named.
    Sabotage("confirms-and-sweep", ("transfers", "--only", "last_wipe", "--seconds", "4"), "accepted and lost"),
    # Several ledgers take many accounts each, while one of them now and then stands with its locks.
    Sabotage(
        "lock-order",
        ("transfers", "--only", "ledger.locked", "--times", "3", "--seconds", "12", "--ledgers", "6", "--rate", "120"),
        "deadlocks",
    ),
    # Messages come again to another ledger, some time after their commands were committed.
    Sabotage("once-only", ("transfers", "--only", "ledger.committed", "--times", "10", "--seconds", "20"), "done twice"),
    # Listeners are killed before and after each kind of commit.
    Sabotage("state-first", ("telegram", "--short"), "events lost"),
    # A listener is stopped until another has its bots; the server still pushes to both.
    Sabotage("lease-unguarded", ("telegram", "--short"), "bytes sent after the deadline"),
)


def prove(part: str, seed: int, state: Path) -> bool:
    """Run every sabotage of a part and print what the judge said. Whether each was caught."""
    print("\nthe judge is proven on a system without its guards", flush=True)
    caught = [_catches(sabotage, seed, state) for sabotage in SABOTAGES if sabotage.run[0] == part]
    return all(caught)


def _catches(sabotage: Sabotage, seed: int, state: Path) -> bool:
    patch = PATCHES / f"{sabotage.patch}.patch"
    print(f"\n{sabotage.patch}: {patch.read_text().splitlines()[0]}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gatepost-sabotage-") as folder:
        tree = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["git", "apply", "--whitespace=nowarn", str(patch)], cwd=tree, check=True, timeout=RUN_S)
        command = [sys.executable, "-m", "tests.chaos", *sabotage.run, "--seed", str(seed), "--state", str(state)]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=RUN_S)
    lines = re.findall(r"^  (\S.*\S) +(\d+)$", done.stdout.partition("\nverdict\n")[2], re.MULTILINE)
    verdict = {question: int(count) for question, count in lines}
    said = ", ".join(f"{question} {count}" for question, count in verdict.items() if count)
    caught = verdict.get(sabotage.question, 0) > 0 and done.returncode == 1
    print(f"  the judge said: {said or 'nothing'}\n  → {'caught' if caught else 'NOT CAUGHT'}", flush=True)
    if not verdict:
        print(done.stdout + done.stderr, flush=True)
    return caught
