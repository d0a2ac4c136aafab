"""Events that fail or kill their worker harm no other: they are tried alone, counted, parked, and can be released."""

from dataclasses import replace

import psycopg
import pytest

from services.ingest import apply, careful
from shared.db import parked
from shared.db.connect import BY_KEY, Raw, connect
from shared.domain.leads import LeadStatus
from tests.db.support import threads, wait_for_blocked
from tests.ingest.arrivals import arrive, clear, leads, rows
from tests.ingest.test_apply import Scene, make
from tests.world import World

WAIT = (LeadStatus.WAIT, "a")


@pytest.fixture
def scene(db: Raw, world: World) -> Scene:
    return make(db, world)


def state(db: Raw) -> list[tuple[int, bool]]:
    """Attempts of what is left, and whether it is parked."""
    return rows(db, "SELECT attempts, parked FROM inbox_event ORDER BY id")


def wakes(db: Raw) -> int:
    ((number,),) = rows(db, "SELECT count(*) FROM outbox WHERE wake = 'apply_events'")
    return int(number)


def test_an_event_that_fails_is_parked_after_three_tries_and_no_other_waits_for_it(db: Raw, world: World, scene: Scene) -> None:
    other, watch = make(db, world), scene.watch
    arrive(db, [watch.start(1, scene.payload()), replace(watch.join(2), before="nowhere"), watch.start(3, scene.payload(), person=8)])
    arrive(db, [other.watch.start(1, other.payload())])
    with pytest.raises(ValueError, match="nowhere"):
        apply.take_turn(db, [scene.bot, other.bot])
    assert leads(db) == []

    assert careful.apply_waiting(db, [scene.bot, other.bot], owed=[]) == 3
    assert leads(db) == [WAIT] * 3
    assert (state(db), wakes(db)) == ([(1, False)], 1)

    for attempts, is_parked in ((2, False), (3, False), (3, True)):
        arrive(db, [watch.start(attempts + is_parked, "", person=9)])
        assert careful.apply_waiting(db, [scene.bot], owed=[]) == 1
        assert state(db) == [(attempts, is_parked)]
    ((event, trouble),) = rows(db, "SELECT id, trouble FROM inbox_event")
    assert "'nowhere' is not a valid Membership" in trouble
    assert [(found.id, found.bot) for found in parked.get_parked(db, limit=10)] == [(event, scene.bot)]

    assert careful.apply_waiting(db, [scene.bot], owed=[]) == 0
    db.execute("UPDATE bot_inbox SET awake = false")
    db.execute("DELETE FROM outbox")
    db.execute("UPDATE inbox_event SET before = 'out'")
    assert parked.release(db, [event]) == 1
    assert wakes(db) == 1
    assert clear(db) == 1


def test_one_that_kills_its_worker_is_parked_after_three_deaths(db: Raw, database_url: str, scene: Scene) -> None:
    watch = scene.watch
    arrive(db, [watch.start(1, scene.payload()), watch.start(2, scene.payload(), person=8)])
    ((killer,),) = rows(db, "SELECT min(id) FROM inbox_event")
    for death in range(1, careful.ATTEMPTS_MAX + 1):
        with connect(database_url, name="ingest") as dying, parked.held(dying, scene.bot) as mine:
            assert mine
            assert parked.count_attempt(dying, killer, attempts_max=careful.ATTEMPTS_MAX)
        assert rows(db, "SELECT attempts FROM inbox_event WHERE id = %s", killer) == [(death,)]

    assert careful.apply_alone(db, [scene.bot], owed=[]) == 1

    assert leads(db) == [WAIT]
    assert rows(db, "SELECT parked, trouble FROM inbox_event") == [(True, "the worker died 3 times while it was at work on this event")]


def test_what_was_tried_least_goes_first(db: Raw, scene: Scene) -> None:
    watch = scene.watch
    arrive(db, [watch.start(second, scene.payload(), person=second) for second in (1, 2, 3)])
    db.execute("UPDATE inbox_event SET attempts = 1 WHERE subscriber = 1")

    ids = parked.get_untried(db, scene.bot, share=3)

    people = dict(rows(db, "SELECT id, subscriber FROM inbox_event"))
    assert [people[event] for event in ids] == [2, 3, 1]


def test_a_try_that_met_a_lock_is_given_back(db: Raw, database_url: str, scene: Scene) -> None:
    arrive(db, [scene.watch.start(1, scene.payload())])
    with connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute("SELECT 1 FROM campaign FOR UPDATE")
        with connect(database_url, name="ingest", limits={**BY_KEY, "lock_timeout": 50}) as hasty:
            assert careful.apply_alone(hasty, [scene.bot], owed=[]) == 0
    assert (state(db), leads(db)) == ([(0, False)], [])
    assert wakes(db) == 1

    assert careful.apply_alone(db, [scene.bot], owed=[]) == 1


def test_a_try_whose_connection_was_lost_is_given_back_at_the_next(db: Raw, database_url: str, scene: Scene) -> None:
    arrive(db, [scene.watch.start(1, scene.payload())])
    db.execute("UPDATE inbox_event SET attempts = %s", [careful.ATTEMPTS_MAX - 1])
    owed: list[int] = []
    with connect(database_url, name="ingest") as lost, threads(1) as start, connect(database_url, name="h") as holder, holder.transaction():
        holder.execute("SELECT 1 FROM campaign FOR UPDATE")
        running = start(careful.apply_alone, lost, [scene.bot], owed)
        wait_for_blocked(db, 1)
        db.execute("SELECT pg_terminate_backend(%s)", [lost.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            running.result()
    assert (len(owed), state(db)) == (1, [(careful.ATTEMPTS_MAX, False)])

    assert careful.apply_alone(db, [scene.bot], owed) == 1
    assert (owed, leads(db)) == ([], [WAIT])


def test_two_careful_workers_do_not_try_one_bot_at_once(db: Raw, database_url: str, scene: Scene) -> None:
    arrive(db, [scene.watch.start(1, scene.payload())])
    with connect(database_url, name="other") as other, parked.held(other, scene.bot) as mine:
        assert mine
        assert careful.apply_alone(db, [scene.bot], owed=[]) == 0
        assert state(db) == [(0, False)]

    assert careful.apply_alone(db, [scene.bot], owed=[]) == 1


def test_a_bot_whose_events_are_gone_is_not_awake_any_more(db: Raw, scene: Scene) -> None:
    db.execute("UPDATE bot_inbox SET awake = true")
    careful.apply_alone(db, [scene.bot], owed=[])

    assert rows(db, "SELECT awake FROM bot_inbox WHERE bot_id = %s", scene.bot) == [(False,)]
