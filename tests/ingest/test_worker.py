"""The ingest worker as a process: woken by the relay, killed at each of its points, and nothing is lost or counted twice."""

from services.ingest import apply
from shared.db.connect import Raw
from shared.domain.leads import LeadStatus
from shared.failpoints import FailPoint
from tests.ingest.arrivals import arrive, leads, owed, rows, sends
from tests.ingest.test_apply import make
from tests.stack import Stack, eventually
from tests.world import World

POINTS: tuple[FailPoint, ...] = ("ingest.taken", "ingest.locked", "ingest.written", "ingest.committed")


def test_a_worker_may_die_anywhere(db: Raw, processes: Stack, world: World) -> None:
    """Each point in turn, with a person of its own; RabbitMQ gives the message to the next worker, who goes carefully."""
    scene = make(db, world)
    processes.relay()
    worker = processes.ingest()
    for number, point in enumerate(POINTS, 1):
        processes.arm(point)
        arrive(db, [scene.watch.start(number, scene.payload(), person=number), scene.watch.join(number + 1, person=number)], announce=True)
        assert processes.reached(point) == worker.pid
        worker.kill()
        processes.let_go(point)
        worker = processes.ingest()
        eventually(lambda: rows(db, "SELECT count(*) FROM inbox_event") == [(0,)], f"what waited at {point} is applied")
    assert leads(db) == [(LeadStatus.APPROVE, "a")] * len(POINTS)
    assert len(owed(db)) == 2 * len(POINTS)
    assert len(sends(db)) == len(POINTS)
    assert '"careful": true' in "".join(process.log.read_text() for process in processes.processes)


def test_an_event_that_fails_does_not_end_the_worker(db: Raw, processes: Stack, world: World) -> None:
    scene = make(db, world)
    processes.relay()
    worker = processes.ingest()
    arrive(db, [scene.watch.change(1, "nowhere", "in"), scene.watch.start(2, scene.payload())], announce=True)

    eventually(lambda: rows(db, "SELECT parked FROM inbox_event") == [(True,)], "the event is parked")

    assert leads(db) == [(LeadStatus.WAIT, "a")]
    assert worker.alive
    assert worker.stop() == 0


def test_a_long_inbox_is_worked_off_turn_by_turn(db: Raw, processes: Stack, world: World) -> None:
    scene, size = make(db, world), 3 * apply.TURN_EVENTS_MAX
    watch = scene.watch
    arrive(db, [watch.start(1, scene.payload(), person=person) for person in range(1, size + 1)], announce=True)
    processes.relay()
    processes.ingest()
    processes.ingest()

    eventually(lambda: rows(db, "SELECT count(*) FROM inbox_event") == [(0,)], "everything is applied")

    assert rows(db, "SELECT starts, n_wait FROM lead_counter") == [(size, size)]
    assert len(rows(db, "SELECT DISTINCT random_id FROM send")) == size
