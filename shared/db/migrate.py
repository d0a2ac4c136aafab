"""Brings a database's schema up to date. Migrations only go forward; a mistake is mended by the next one."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from shared.db import inbox
from shared.db.connect import connect, engine

_SCRIPTS: Final = Path(__file__).parent / "migrations"

#: Two processes that migrate at once take turns on this advisory lock.
_LOCK: Final = 7_283_451


def migrate(url: str) -> None:
    """Apply every migration the database lacks.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with connect(url, name="migrate", limits={}) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        db = engine(url, name="migrate", connections=1)
        with db.begin() as tx:
            for limit in ("statement_timeout", "lock_timeout", "transaction_timeout"):  # the last is PostgreSQL 17's
                tx.exec_driver_sql(f"SELECT set_config(name, '0', true) FROM pg_settings WHERE name = '{limit}'")
            config.attributes["connection"] = tx
            command.upgrade(config, "head")
        db.dispose()
        inbox.keep_partitions(guard)


def is_current(url: str) -> bool:
    """Whether the database has every migration this code knows."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    head = ScriptDirectory.from_config(config).get_current_head()
    db = engine(url, name="migrate", connections=1)
    try:
        with db.connect() as tx:
            return MigrationContext.configure(tx).get_current_revision() == head
    finally:
        db.dispose()
