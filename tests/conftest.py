"""What tests stand on: PostgreSQL and RabbitMQ, started once; a database for each test; our processes on request."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pika
import psycopg
import pytest
from sqlalchemy import Engine

from shared.db.connect import Raw, connect, engine
from shared.db.migrate import migrate
from shared.local import Services, services
from shared.messages import QUEUES
from tests.api import Api
from tests.stack import Stack, stack
from tests.world import World

STATE: Final = Path(os.environ.get("GATEPOST_TEST_STATE") or Path(__file__).parent.parent / ".cache" / "test")
TEMPLATE: Final = "gatepost_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def local() -> Iterator[Services]:
    """The two services. Variables name existing ones, or another folder, so that several runs can go on side by side."""
    with services(
        STATE,
        print,
        database_url=os.environ.get("GATEPOST_TEST_DATABASE_URL"),
        amqp_url=os.environ.get("GATEPOST_TEST_AMQP_URL"),
    ) as running:
        yield running


def on_database(url: str, name: str) -> str:
    """The same server, another database."""
    info = psycopg.conninfo.conninfo_to_dict(url)
    return f"postgresql://{info['user']}:{info.get('password', '')}@{info['host']}:{info['port']}/{name}"


@pytest.fixture(scope="session")
def template(local: Services) -> str:
    """A migrated database to copy."""
    name = f"{TEMPLATE}_{os.getpid()}"
    with psycopg.connect(local.database_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {name}")
    migrate(on_database(local.database_url, name))
    return name


@contextmanager
def new_database(local: Services, template: str) -> Iterator[str]:
    """A migrated database for as long as the block runs."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(local.database_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield on_database(local.database_url, name)
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(local: Services, template: str) -> Iterator[str]:
    """A database of the test's own."""
    with new_database(local, template) as url:
        yield url


@pytest.fixture
def db(database_url: str) -> Iterator[Raw]:
    """A connection of the driver's."""
    with connect(database_url, name="test") as connection:
        yield connection


@pytest.fixture
def tables(database_url: str) -> Iterator[Engine]:
    """A pool of SQLAlchemy's."""
    pool = engine(database_url, name="test")
    yield pool
    pool.dispose()


@pytest.fixture
def world(tables: Engine) -> World:
    """Makes accounts, bots and campaigns."""
    return World(tables)


def without_queues(url: str) -> str:
    """The broker, rid of what an earlier test has left there."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for queue in QUEUES:
        channel.queue_delete(queue)
        channel.queue_delete(f"{queue}.XQ")
    connection.close()
    return url


@pytest.fixture
def amqp_url(local: Services) -> str:
    """A broker without queues of an earlier test."""
    return without_queues(local.amqp_url)


@pytest.fixture
def processes(database_url: str, amqp_url: str, tmp_path: Path) -> Iterator[Stack]:
    """Starts our processes; none runs yet."""
    with stack(database_url, amqp_url, tmp_path) as running:
        yield running


@pytest.fixture
def api(processes: Stack) -> Api:
    """A gateway, a relay and a ledger, ready."""
    gateway = processes.gateway()
    processes.relay()
    processes.ledger()
    return Api(gateway.base_url)
