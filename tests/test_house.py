"""The rules of the house: format, lint, types, imports, and what reviewers would otherwise have to look for."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from shared.db import telegram_schema
from shared.db.schema import VIEWS, metadata

ROOT: Final = Path(__file__).parent.parent
SOURCES: Final = sorted(file for folder in ("services", "shared", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py"))
FILE_LINES_MAX: Final = 500
UNFINISHED: Final = ("TO" + "DO", "FIX" + "ME", "X" * 3)

#: The only places that may name a table whose rows an epoch hides; everybody else reads the `current_` views.
EPOCH_TABLES: Final = re.compile(
    r"\b(FROM|JOIN|INTO|UPDATE)\s+(lead|lead_counter|daily|journal|fact|delivery)\b"
    r"|^from shared.db.schema import .*\b(lead|lead_counter|daily|journal|fact|delivery)\b",
    re.MULTILINE,
)
EPOCH_READERS: Final = {
    "leads.py",
    "overview.py",
    "purge.py",
    "seeds.py",
    "transfers.py",
    "schema.py",
    "0001_spine.py",
    "0002_telegram.py",
    "ingest.py",
    "ingested.py",
    "chats.py",
}


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "ruff", "check", "."),
        ("-m", "mypy"),
        ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
    ],
    ids=["format", "lint", "types", "imports"],
)
def test_the_code_keeps(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_migrations_make_the_schema_that_the_code_describes(tables: Engine) -> None:
    with tables.connect() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "include_object": _is_no_partition})
        assert set(telegram_schema.QUEUE_TABLES) < set(metadata.tables)
        assert compare_metadata(context, metadata) == []
        checks = {
            str(row[0])
            for row in tx.execute(text("SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"))
        }
        described = {str(c.name) for table in metadata.tables.values() for column in table.columns for c in column.constraints}
        assert checks == described
        views = {str(row[0]) for row in tx.execute(text("SELECT viewname FROM pg_views WHERE schemaname = 'public'"))}
        assert views == set(VIEWS)


def _is_no_partition(_thing: object, name: str | None, kind: str, *_: object) -> bool:
    """Partitions come and go with the weeks; their tables are what the code describes."""
    return kind != "table" or not str(name).startswith("seen_")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_short_and_finished(file: Path) -> None:
    source = file.read_text()
    assert source.count("\n") <= FILE_LINES_MAX
    assert not re.search(rf"\b({'|'.join(UNFINISHED)})\b", source)


def test_only_the_epochs_own_modules_name_its_tables() -> None:
    strangers = [
        str(file.relative_to(ROOT))
        for file in SOURCES
        if file.is_relative_to(ROOT / "shared") or file.is_relative_to(ROOT / "services")
        if file.name not in EPOCH_READERS and EPOCH_TABLES.search(file.read_text())
    ]
    assert strangers == []


@pytest.mark.parametrize("patch", sorted((ROOT / "tests").rglob("*.patch")), ids=lambda patch: f"{patch.parent.name}/{patch.stem}")
def test_a_patch_that_takes_a_guard_out_still_fits(patch: Path) -> None:
    done = subprocess.run(["git", "apply", "--check", str(patch)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
