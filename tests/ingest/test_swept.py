"""What a sweep finds waiting may be a long backlog, or an event that fails: only what was tried before is taken one by one."""

from dataclasses import replace

import pytest

from services.ingest import apply, careful
from shared.db.connect import BY_KEY, Raw, connect
from shared.domain.leads import LeadStatus
from tests.ingest.arrivals import arrive, leads, rows
from tests.ingest.test_apply import Scene, make
from tests.world import World

WAIT = (LeadStatus.WAIT, "a")


@pytest.fixture
def scene(db: Raw, world: World) -> Scene:
    return make(db, world)


def transactions(db: Raw, campaign: int) -> int:
    """In how many transactions its leads were written."""
    ((number,),) = rows(db, "SELECT count(DISTINCT xmin::text) FROM lead WHERE campaign_id = %s", campaign)
    return int(number)


def test_of_swept_bots_those_with_an_event_that_was_tried_go_one_by_one(db: Raw, world: World, scene: Scene) -> None:
    other = make(db, world)
    for one in (scene, other):
        arrive(db, [one.watch.start(second, one.payload(), person=second) for second in (1, 2, 3)])
    db.execute("UPDATE inbox_event SET attempts = 1 WHERE bot_id = %s AND subscriber = 3", [scene.bot])

    assert careful.apply_swept(db, [scene.bot, other.bot], owed=[]) == 6

    assert (transactions(db, scene.campaign), transactions(db, other.campaign)) == (3, 1)


def test_a_try_beyond_the_share_of_a_turn_makes_nobody_careful(db: Raw, scene: Scene) -> None:
    share = apply.share([scene.bot])
    db.execute(
        """INSERT INTO inbox_event (bot_id, kind, at, subscriber, payload, attempts)
           SELECT %s, 'start', %s, i, %s, (i > %s)::int FROM generate_series(1, %s + 1) AS i""",
        [scene.bot, scene.watch.at(1), scene.payload(), share, share],
    )

    assert careful.apply_swept(db, [scene.bot], owed=[]) == share
    assert transactions(db, scene.campaign) == 1
    assert careful.apply_swept(db, [scene.bot], owed=[]) == 1


def test_a_swept_event_that_fails_is_parked_all_the_same(db: Raw, scene: Scene) -> None:
    arrive(db, [replace(scene.watch.join(2), before="nowhere"), scene.watch.start(1, scene.payload())])

    for attempts in range(1, careful.ATTEMPTS_MAX + 1):
        careful.apply_swept(db, [scene.bot], owed=[])
        assert leads(db) == [WAIT]
        assert rows(db, "SELECT attempts, parked FROM inbox_event") == [(attempts, False)]
    careful.apply_swept(db, [scene.bot], owed=[])
    assert rows(db, "SELECT parked FROM inbox_event") == [(True,)]


def test_an_event_that_always_takes_too_long_is_parked(db: Raw, database_url: str, scene: Scene) -> None:
    arrive(db, [scene.watch.start(1, scene.payload())])
    with connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute("SELECT 1 FROM campaign FOR UPDATE")
        with connect(database_url, name="ingest", limits={**BY_KEY, "statement_timeout": 50}) as slow:
            for _ in range(careful.ATTEMPTS_MAX + 1):
                assert careful.apply_waiting(slow, [scene.bot], owed=[]) == 0

    ((parked, trouble),) = rows(db, "SELECT parked, trouble FROM inbox_event")
    assert parked
    assert "QueryCanceled" in trouble


def test_an_attempt_is_given_back_whichever_way_is_gone_next(db: Raw, scene: Scene) -> None:
    arrive(db, [scene.watch.start(1, scene.payload()), replace(scene.watch.join(2), before="nowhere")])
    db.execute("UPDATE inbox_event SET attempts = 2")
    owed = [number for (number,) in rows(db, "SELECT id FROM inbox_event WHERE kind = 'change'")]

    assert careful.apply_waiting(db, [scene.bot], owed) == 1

    assert owed == []
    assert rows(db, "SELECT attempts, parked FROM inbox_event") == [(2, False)]
