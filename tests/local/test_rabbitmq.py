"""The private RabbitMQ, really started, killed, wiped and abandoned. A start takes seconds, so the tests are few."""

import socket
import stat
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import astuple
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from shared.local import ports, processes, rabbitmq
from shared.local.rabbitmq import PortTaken, RabbitMQ
from tests.local.supervisor import start_and_die

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 5}
LOOPBACKS = {"0100007F", "00000000000000000000000001000000"}  # 127.0.0.1 and ::1, as the kernel writes them
LEADER_WRITTEN_S = 1.5  # see RabbitMQ.kill


def quiet(_: str) -> None:
    """Nobody reads a test's progress."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a state folder with spaces")


@pytest.fixture(scope="module")
def node(state: Path) -> Iterator[RabbitMQ]:
    running = rabbitmq.start(state, say=quiet)
    yield running
    running.stop()


def channel(connection: BlockingConnection) -> BlockingChannel:
    opened = connection.channel()
    opened.confirm_delivery()
    return opened


def connect(node: RabbitMQ) -> BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(node.url))


def put(node: RabbitMQ, queue: str, body: bytes) -> None:
    with closing(connect(node)) as connection:
        opened = channel(connection)
        opened.queue_declare(queue, durable=True, arguments=QUORUM)
        opened.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def get(node: RabbitMQ, queue: str) -> bytes | None:
    with closing(connect(node)) as connection:
        body: bytes | None = connection.channel().basic_get(queue, auto_ack=True)[2]
    return body


def test_it_keeps_to_itself(node: RabbitMQ) -> None:
    listening = [place for pid in processes.marked(node.folder) for place in listens(pid)]
    assert {address for address, _ in listening} <= LOOPBACKS
    assert {port for _, port in listening} == set(astuple(node.ports))
    assert max(astuple(node.ports)) < 32_768
    assert stat.S_IMODE((node.folder / "rabbitmq.conf").stat().st_mode) == 0o600


def listens(pid: int) -> Iterator[tuple[str, int]]:
    """Where a process listens, from the kernel's own tables (state 0A is LISTEN)."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            sockets.add(link.readlink().name)
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                yield address, int(port, 16)


def test_a_kill_loses_nothing_that_was_confirmed_and_a_wipe_loses_everything(node: RabbitMQ) -> None:
    put(node, "kept", b"42")
    time.sleep(LEADER_WRITTEN_S)
    node.kill()
    assert not node.running()
    node.start_again()
    assert get(node, "kept") == b"42"
    node.wipe()
    node.start_again()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        get(node, "kept")


def test_what_a_killed_supervisor_left_is_found_and_all_of_it_stopped(node: RabbitMQ, state: Path) -> None:
    put(node, "abandoned", b"43")
    node.stop()
    node.stop()
    assert processes.marked(node.folder) == []
    start_and_die("rabbitmq", state)
    left = processes.marked(node.folder)
    assert {"beam.smp", "epmd"} <= {processes.program(pid) for pid in left}
    again = rabbitmq.start(state, say=quiet)
    assert again.url == node.url
    assert not any(map(processes.alive, left))
    assert get(again, "abandoned") == b"43"


def test_a_taken_port_is_given_up_at_a_new_start_and_named_at_an_old_one(node: RabbitMQ, state: Path) -> None:
    node.stop()
    with socket.create_server((ports.LOOPBACK, node.ports.amqp)):
        with pytest.raises(PortTaken, match="taken by somebody else"):
            node.start_again()
        elsewhere = rabbitmq.start(state, say=quiet)
        put(elsewhere, "elsewhere", b"44")
        elsewhere.stop()
