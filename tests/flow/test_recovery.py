"""What goes away comes back, and nobody has to be told: services, connections, messages that cannot be read."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import uuid_utils.compat as uuids

from shared.broker import relay
from shared.broker.rabbitmq import BROKER_AWAY, Publisher, count_messages
from shared.db.connect import Raw, connect
from shared.local.ports import choose
from shared.messages import OUTCOME_CHANNEL
from tests.api import Api
from tests.stack import Process, Stack, eventually
from tests.world import World

NOBODY = "127.0.0.1:1"


def test_health_says_which_service_is_missing(processes: Stack, database_url: str, amqp_url: str) -> None:
    well = processes.gateway()
    assert Api(well.base_url).send("GET", "/healthz").status == 200

    processes.amqp_url = f"amqp://guest:guest@{NOBODY}/%2F"
    without_broker = start_unready(processes)
    processes.amqp_url, processes.database_url = amqp_url, f"postgresql://gatepost@{NOBODY}/gatepost"
    without_database = start_unready(processes)

    assert health(without_broker) == (503, ["broker: not reachable"])
    assert health(without_database) == (503, ["database: not reachable"])


def start_unready(processes: Stack) -> Process:
    (port,) = choose(1)
    gateway = processes.start("gateway", "--port", str(port))
    gateway.base_url = f"http://127.0.0.1:{port}"
    eventually(lambda: answers(port), "the gateway listens")
    return gateway


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def health(gateway: Process) -> tuple[int, list[str]]:
    answer = Api(gateway.base_url).send("GET", "/healthz")
    return answer.status, answer.json["missing"]


def test_after_the_database_came_back_at_most_the_first_requests_fail(db: Raw, processes: Stack, world: World) -> None:
    ann = world.account()
    api = Api(processes.gateway().base_url)
    bot = world.bot(ann)

    def ask(_: int) -> tuple[str, str] | None:
        return api.get("transfer/preview", ann.key, bot=bot, token=ann.token).error  # through the driver itself

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(160)))
    gateways = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'gatepost gateway%'"
    assert db.execute(f"SELECT count(*) > 4 {gateways}").fetchone() == (True,)

    db.execute(f"SELECT pg_terminate_backend(pid) {gateways}")
    errors = [ask(i) for i in range(20)]

    assert set(errors[:2]) <= {("db", ""), None}  # one of authentication's connections, one of the list's
    assert errors[2:] == [None] * 18


def test_an_outcome_that_cannot_be_read_does_not_deafen_the_gateway(db: Raw, processes: Stack, world: World) -> None:
    ann, ben = world.account(), world.account()
    api = Api(processes.gateway("--deadline", "1000").base_url, timeout_s=30)  # a deaf gateway answers at the deadline
    processes.relay()
    processes.ledger()
    for payload in (f'[["{uuids.uuid7()}","someday","","",""]]', "[1]", "no json"):
        db.execute("SELECT pg_notify(%s, %s)", [OUTCOME_CHANNEL, payload])

    answer = api.post("transfer/bot", ann.key, bot=world.bot(ann), token=ben.token, leads=1)

    assert answer.body == b'{"status":"ok"}'


def test_a_bug_in_a_statement_leaves_no_token_in_the_log(db: Raw, processes: Stack, world: World) -> None:
    ann = world.account()
    gateway = processes.gateway()
    db.execute("ALTER TABLE campaign RENAME COLUMN status TO standing")

    answer = Api(gateway.base_url).get("transfer/resolve", ann.key, token="asecrettoken")

    assert answer.error == ("db", "")
    log = gateway.log.read_text()
    assert "request_failed" in log
    assert "asecrettoken" not in log
    assert ann.key.split("-")[1] not in log


@contextmanager
def silent_server() -> Iterator[str]:
    """Accepts connections and never says anything, as a stopped RabbitMQ does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/%2F"


def test_a_rabbitmq_that_says_nothing_is_away() -> None:
    with silent_server() as url:
        with pytest.raises(BROKER_AWAY):
            Publisher(url).connect()
        with pytest.raises(BROKER_AWAY):
            count_messages(url)


def test_a_relay_that_never_empties_the_outbox_still_sweeps_and_stops(
    database_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    swept: list[float] = []
    empty_outbox, sweep = relay.empty_outbox, relay.sweep

    def never_empty(db: Raw, publisher: Publisher) -> int:
        db.execute("INSERT INTO outbox (wake, key) VALUES ('purge_leads', '1:1')")
        return empty_outbox(db, publisher)

    def count_sweeps(db: Raw, *, interval_s: float) -> None:
        swept.append(interval_s)
        sweep(db, interval_s=interval_s)

    monkeypatch.setattr(relay, "empty_outbox", never_empty)
    monkeypatch.setattr(relay, "sweep", count_sweeps)
    running = threading.Thread(target=relay.run, args=(database_url, amqp_url), kwargs={"sweep_s": 0.05, "stop": stop}, daemon=True)
    running.start()
    eventually(lambda: len(swept) >= 3, "it sweeps in between")
    stop.set()
    running.join(10)

    assert not running.is_alive()


def test_a_session_s_limits_are_set(database_url: str) -> None:
    with connect(database_url, name="test") as db:
        shown = {name: db.execute(f"SHOW {name}").fetchone() for name in ("idle_in_transaction_session_timeout", "lock_timeout")}

    assert shown == {"idle_in_transaction_session_timeout": ("5s",), "lock_timeout": ("5s",)}
