"""Leads that are older than facts go on from where they stand, whatever comes late or twice."""

from datetime import timedelta

import pytest

from shared.db.connect import Raw
from shared.domain.leads import Action, LeadStatus
from tests.ingest.arrivals import PERSON, arrive, clear, counters, journal, leads, owed, rows
from tests.ingest.test_apply import Scene, make, moved
from tests.world import World

WAIT, HOLD, APPROVE, CANCEL, _ = LeadStatus


@pytest.fixture
def scene(db: Raw, world: World) -> Scene:
    """Somebody started and joined, and all facts of it are gone."""
    made = make(db, world)
    arrive(db, [made.watch.start(20, made.payload()), made.watch.join(30)])
    clear(db)
    db.execute("DELETE FROM fact")
    return made


def test_a_late_start_makes_nothing_undone(db: Raw, scene: Scene) -> None:
    for event in (scene.watch.start(15, scene.payload("b")), scene.watch.request(10), scene.watch.request(25)):
        arrive(db, [event])
        clear(db)

    assert leads(db) == [(APPROVE, "b")]
    assert rows(db, "SELECT start_time, seen FROM lead") == [(scene.watch.at(20), scene.watch.at(30))]
    assert counters(db) == {"starts": 1, "confirms": 1, "n_approve": 1}


def test_what_the_other_bot_saw_too_counts_once(db: Raw, world: World, scene: Scene) -> None:
    new = scene.watch.of(moved(db, world, scene, 50))
    for event in (scene.watch.leave(60), scene.watch.request(40), new.leave(60), new.request(40)):
        arrive(db, [event])
        clear(db)

    assert [entry[:2] for entry in journal(db) if entry[2] == "paid"] == [
        (scene.bot, Action.JOIN),
        (scene.bot, Action.REQUEST),
        (scene.bot, Action.LEAVE),
    ]
    assert [entry for entry in journal(db) if entry[2] == "organic"] == [
        (new.bot, Action.REQUEST, "organic"),
        (new.bot, Action.LEAVE, "organic"),
    ]
    assert [status for status, _ in owed(db)][:3] == [WAIT, APPROVE, CANCEL]
    assert rows(db, "SELECT subscriber, seen FROM lead") == [(PERSON, scene.watch.at(60))]


def test_a_lead_that_was_made_of_facts_is_folded_anew(db: Raw, world: World) -> None:
    scene = make(db, world)
    for event in (scene.watch.start(20, scene.payload()), scene.watch.leave(30), scene.watch.start(10, scene.payload("b"))):
        arrive(db, [event])
        clear(db)
    arrive(db, [scene.watch.join(15)])
    clear(db)

    assert leads(db) == [(CANCEL, "a")]
    assert rows(db, "SELECT start_time - %s, join_time - %s FROM lead", scene.watch.at(10), scene.watch.at(15)) == [
        (timedelta(), timedelta())
    ]
