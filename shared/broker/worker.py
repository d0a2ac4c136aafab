"""Runs dramatiq workers inside a process of ours: one thread and one message at a time for each queue."""

import threading
from collections.abc import Callable, Mapping, Sequence

import dramatiq
import structlog
from dramatiq.worker import Worker

from shared.broker.rabbitmq import Broker
from shared.messages import QUEUE_OF, Wake

#: What a wake-up calls: the keys, and whether a sweep sent it.
Actor = Callable[[Sequence[str], bool], None]

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
