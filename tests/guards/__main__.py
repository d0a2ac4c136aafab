"""Takes out each guard in a copy of the tree and shows which test catches it: `make guards`.

A patch begins with a sentence that says what it takes out, and lines `Caught by: <test>`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.local import services

ROOT: Final = Path(__file__).parent.parent.parent
PATCHES: Final = Path(__file__).parent
COPIED: Final = ("services", "shared", "tests", "pyproject.toml", "Makefile", "compose.yaml", "Dockerfile")

#: pytest's exit codes.
PASSED: Final = 0
FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard, what its patch does, and the tests that should notice."""

    name: str
    says: str
    patch: Path
    tests: tuple[str, ...]


def read(patch: Path) -> Guard:
    """The guard of a patch file."""
    head = patch.read_text().split("diff --git", 1)[0].split("--- a/", 1)[0]
    tests = tuple(re.findall(r"^Caught by: (\S+)$", head, re.MULTILINE))
    return Guard(patch.stem, head.split("\n", 1)[0], patch, tests)


def run(tree: Path, tests: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """pytest on these tests in a tree; its exit code and output."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def check(guard: Guard, environment: dict[str, str]) -> str | None:
    """None when every test of the guard fails without it, else what is wrong."""
    with tempfile.TemporaryDirectory(prefix="gatepost-guard-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        applied = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", str(guard.patch)], cwd=tree, capture_output=True, text=True, check=False
        )
        if applied.returncode:
            return f"the patch does not apply: {applied.stderr.strip()}"
        for test in guard.tests:
            code, output = run(tree, [test], environment)
            if code != FAILED:
                return f"{test} did not fail (exit code {code})\n{output if code != PASSED else ''}"
    return None


def copy_tree(tree: Path) -> None:
    """What the tests need of the project."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tree / name)


def main(names: Sequence[str]) -> int:
    """Check the named guards, or all. The exit code is 0 when each was caught."""
    guards = [guard for guard in map(read, sorted(PATCHES.glob("*.patch"))) if not names or guard.name in names]
    missed = [guard.name for guard in guards if not guard.tests]
    state = Path(os.environ.get("GATEPOST_TEST_STATE") or ROOT / ".cache" / "guards")
    with services(state, print) as running:
        environment = {
            **os.environ,
            "GATEPOST_TEST_DATABASE_URL": running.database_url,
            "GATEPOST_TEST_AMQP_URL": running.amqp_url,
            "GATEPOST_TEST_STATE": str(state / "tests"),
        }
        tests = sorted({test for guard in guards for test in guard.tests})
        print(f"With every guard in place, {len(tests)} tests pass ... ", end="", flush=True)
        code, output = run(ROOT, tests, environment)
        if code != PASSED:
            print(f"no:\n{output}")
            return 1
        print("yes")
        for guard in guards:
            problem = check(guard, environment)
            print(f"{guard.name:<28} → {', '.join(test.rsplit('::')[-1] for test in guard.tests)} → {problem or 'caught'}", flush=True)
            missed += [guard.name] if problem else []
    print(f"{len(guards) - len(missed)} of {len(guards)} guards are proven." + (f" Not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
