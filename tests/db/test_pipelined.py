"""A transaction in a pipeline."""

import psycopg
import pytest

from shared.db.connect import Raw, pipelined


@pytest.mark.parametrize("synced", [True, False])
def test_an_error_after_the_last_sync_commits_nothing_and_is_raised(db: Raw, synced: bool) -> None:
    db.execute("CREATE TABLE thing (id int PRIMARY KEY)")

    def write() -> None:
        with pipelined(db) as pipeline:
            db.execute("INSERT INTO thing VALUES (1)", prepare=True)
            if synced:
                pipeline.sync()
            db.execute("INSERT INTO thing VALUES (2), (2)", prepare=True)
            db.execute("INSERT INTO thing VALUES (3)", prepare=True)

    with pytest.raises(psycopg.errors.UniqueViolation):
        write()
    assert db.execute("SELECT count(*) FROM thing").fetchone() == (0,)
    with pipelined(db):
        db.execute("INSERT INTO thing VALUES (4)", prepare=True)
    assert db.execute("SELECT id FROM thing").fetchall() == [(4,)]
