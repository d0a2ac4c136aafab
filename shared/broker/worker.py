"""Runs dramatiq workers inside a process of ours: one thread and one message at a time for each queue."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import dramatiq
import psycopg
import structlog
from dramatiq.worker import Worker
from psycopg.pq import TransactionStatus

from shared.broker.rabbitmq import Broker
from shared.db.connect import Raw, connect
from shared.messages import QUEUE_OF, Wake

#: What a wake-up calls: the keys, and whether a sweep sent it.
Actor = Callable[[Sequence[str], bool], None]

#: The same with a connection to the database.
Work = Callable[[Raw, Sequence[str], bool], None]

#: Between two tries to reach a database that is away.
RECONNECT_S: Final = 0.5

#: How long a stopping worker may finish what it has begun, in milliseconds.
STOP_MS_MAX = 15_000

log = structlog.get_logger("worker")


def run(url: str, actors: Mapping[Wake, Actor], stop: threading.Event) -> None:
    """Consume the queues of these actors until `stop` is set. RabbitMQ may go and come back meanwhile.

    Each queue has a broker and a worker of its own: dramatiq wants no second worker on one broker, and a slow queue must not hold up
    another by sharing its thread.
    """
    workers = [_start(url, wake, actor) for wake, actor in actors.items()]
    stop.wait()
    for worker in workers:
        worker.stop(timeout=STOP_MS_MAX)
        worker.broker.close()


def _start(url: str, wake: Wake, actor: Actor) -> Worker:
    broker = Broker(url)

    def call(*, keys: list[str], swept: bool) -> None:
        actor(keys, swept)

    dramatiq.actor(actor_name=wake, queue_name=QUEUE_OF[wake], broker=broker)(call)
    worker = Worker(broker, worker_threads=1)
    worker.start()
    return worker


def on_database(work: Work, url: str, *, name: str, limits: Mapping[str, int | str], stop: threading.Event) -> Actor:
    """An actor with a connection of its own, renewed when it breaks.

    While the database is away the message waits with it: there is nothing else to be done, and what was not committed can
    be done again.
    """
    connection: list[Raw] = []

    def actor(keys: Sequence[str], swept: bool) -> None:  # noqa: FBT001  # a wake-up's two arguments
        while not stop.is_set():
            try:
                if not connection or connection[0].closed:
                    connection[:] = [connect(url, name=name, limits=limits)]
                return work(connection[0], keys, swept)
            except psycopg.OperationalError as error:
                log.warning("database_away", error=type(error).__name__)
                if connection and not connection[0].closed:
                    connection[0].close()
                stop.wait(RECONNECT_S)
            except Exception:
                if connection and connection[0].info.transaction_status is not TransactionStatus.IDLE:
                    connection[0].close()
                raise
        raise InterruptedError("stopped before the work was done; the sweep finds it")

    return actor
