"""The broker as Gatepost uses it: quorum queues, confirmed and mandatory publishing, one message in a worker's hands.

What dramatiq offers beyond that is left off. Retries, delays and dead work are rows in PostgreSQL, so there is no `Retries` middleware, no
delayed message, and the dead-letter queue is only counted.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

import dramatiq
import pika
import pika.exceptions
import structlog
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.common import q_name, xq_name
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import CurrentMessage
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from shared.messages import QUEUE_OF, QUEUES, Queue, Wake

HEARTBEAT_S: Final = 10
CONNECT_S: Final = 3

#: How long RabbitMQ may take to confirm that it has a message. A quorum queue without a leader never does.
CONFIRM_S: Final = 30

#: After so many deliveries RabbitMQ sets a message aside. The work it names is found by the sweep all the same.
DELIVERIES_MAX: Final = 5

#: What a publisher gets when RabbitMQ is away, after dramatiq's own few tries.
BROKER_AWAY: Final = (BrokerConnectionError, pika.exceptions.AMQPError, AMQPConnectorException, OSError)


log = structlog.get_logger("broker")


class Broker(RabbitmqBroker):
    """RabbitMQ with quorum queues.

    A worker takes one message at a time (`consume`), so that a message which kills it takes no innocent one along, and every connection
    declares the queues anew, so that a RabbitMQ which lost its data is usable at once.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[CurrentMessage()])
        self.parameters = _parameters(url)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:  # noqa: ARG002
        """Consume one message at a time, whatever the caller asked for."""
        self.queues_pending.add(q_name(queue_name))
        return _Consumer(super().consume(queue_name, prefetch=1, timeout=timeout))

    def get_declared_delay_queues(self) -> set[str]:
        """There are none: a delay is a row in PostgreSQL."""
        return set()

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_queue_arguments(queue_name)  # type: ignore[no-untyped-call]  # the one seam for queue arguments
        return {**arguments, "x-queue-type": "quorum", "x-delivery-limit": DELIVERIES_MAX}

    def _declare_dq_queue(self, queue_name: str) -> None:
        """Nothing to declare."""


class _Consumer(Consumer):
    """A consumer that lets go of a message when the connection it came by is lost, since RabbitMQ delivers it again.

    dramatiq would hold its worker's only thread for five seconds, to then try to acknowledge what can no longer be acknowledged.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def __next__(self) -> MessageProxy | None:
        """The next message, or None when there was none for a while."""
        message: MessageProxy | None = next(self._consumer)
        return message

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge, if the connection still stands."""
        with contextlib.suppress(BrokerConnectionError):
            self._consumer.ack(message)

    def nack(self, message: MessageProxy) -> None:
        """Set aside, if the connection still stands."""
        with contextlib.suppress(BrokerConnectionError):
            self._consumer.nack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """RabbitMQ does it by itself."""
        self._consumer.requeue(messages)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


class Publisher:
    """A broker that only publishes, from one thread."""

    def __init__(self, url: str) -> None:
        self._broker = Broker(url)

    def connect(self) -> None:
        """Open the connection and declare every queue.

        Raises:
            one of `BROKER_AWAY`.
        """
        for queue in QUEUES:
            self._broker.queues_pending.add(queue)
            self._broker.declare_queue(queue, ensure=True)

    def publish(self, wake: Wake, keys: Sequence[str], *, swept: bool) -> None:
        """Publish one wake-up and wait until RabbitMQ has confirmed that it is in a queue, on disk.

        Raises:
            one of `BROKER_AWAY`: it may or may not have arrived.
        """
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=QUEUE_OF[wake], actor_name=wake, args=(), kwargs={"keys": list(keys), "swept": swept}, options={}
        )
        watchdog = threading.Timer(CONFIRM_S, _give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._broker.enqueue(message)
        finally:
            watchdog.cancel()

    def keep_alive(self) -> None:
        """Answer heartbeats, which a blocking connection does only when asked.

        Raises:
            one of `BROKER_AWAY`: the connection was lost; the next `connect` makes a new one.
        """
        try:
            self._broker.connection.process_data_events(time_limit=0)
        except BROKER_AWAY:
            del self._broker.connection
            raise

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()


def _give_up() -> None:
    """End the process: pika waits for a confirm without limit and cannot be told otherwise, and whoever watches us starts us anew."""
    log.error("publish_not_confirmed", waited_s=CONFIRM_S)
    os._exit(1)


def was_redelivered() -> bool:
    """Inside an actor: whether RabbitMQ handed this message to a worker before, which then did not acknowledge it."""
    message = CurrentMessage.get_current_message()
    assert isinstance(message, MessageProxy)
    return bool(getattr(message, "redelivered", False))


def count_messages(url: str) -> dict[Queue, tuple[int, int] | None]:
    """Messages waiting and dead in each queue; None for one that does not exist yet.

    Raises:
        one of `BROKER_AWAY`.
    """
    connection = pika.BlockingConnection(_parameters(url))
    try:
        return {queue: _count(connection, queue) for queue in QUEUES}
    finally:
        connection.close()


def _parameters(url: str) -> pika.URLParameters:
    parameters = pika.URLParameters(url)
    parameters.heartbeat = HEARTBEAT_S
    parameters.socket_timeout = CONNECT_S
    parameters.stack_timeout = 2 * CONNECT_S
    parameters.blocked_connection_timeout = HEARTBEAT_S
    return parameters


def _count(connection: pika.BlockingConnection, queue: Queue) -> tuple[int, int] | None:
    counts = []
    for name in (queue, xq_name(queue)):
        channel = connection.channel()
        try:
            counts.append(channel.queue_declare(name, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker:
            return None
        channel.close()
    return counts[0], counts[1]
