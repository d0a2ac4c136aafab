"""Single faults at single points, through the real processes. `tests/chaos` has them all together under load."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pika
import pytest

from shared.db.connect import Raw
from shared.failpoints import FailPoint
from shared.messages import LEDGER
from tests.api import Api
from tests.stack import Stack, eventually
from tests.world import World

NEVER = ("--sweep", "3600")


def test_a_gateway_killed_before_it_answers_is_asked_again_at_another(db: Raw, processes: Stack, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ann)
    first, second = processes.gateway(), processes.gateway()
    processes.relay()
    processes.ledger()
    processes.arm("gateway.answering")

    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(
            lambda: Api(first.base_url).post("transfer/bot", ann.key, idempotency_key="k", bot=bot, token=ben.token, leads=1)
        )
        assert processes.reached("gateway.answering") == first.pid
        first.kill()
        with pytest.raises(OSError):  # noqa: PT011  # however the connection breaks
            broken.result()
    answers = [
        Api(second.base_url).post("transfer/bot", ann.key, idempotency_key="k", form=form, bot=bot, token=ben.token, leads=1)
        for form in (True, False)
    ]

    assert [answer.body for answer in answers] == [b'{"status":"ok"}'] * 2
    assert db.execute("SELECT count(*) FROM transfer").fetchone() == (1,)


def test_a_command_whose_gateway_died_before_it_poked_anybody_is_found_by_the_sweep(db: Raw, processes: Stack, world: World) -> None:
    ann, ben = world.account(), world.account()
    gateway = processes.gateway()
    processes.arm("gateway.accepted")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: Api(gateway.base_url).post("transfer/bot", ann.key, bot=world.bot(ann), token=ben.token, leads=1))
        processes.reached("gateway.accepted")
        gateway.kill()
    processes.relay()
    processes.ledger()

    eventually(lambda: db.execute("SELECT count(*) FROM transfer").fetchone() == (1,), "the transfer is carried out without its client")


@pytest.mark.parametrize("point", ["ledger.taken", "ledger.claimed", "ledger.locked", "ledger.committed"])
def test_a_ledger_killed_anywhere_neither_loses_nor_doubles(db: Raw, processes: Stack, world: World, point: FailPoint) -> None:
    ann, ben = world.account(), world.account()
    api = Api(processes.gateway().base_url)
    processes.relay(*NEVER)
    ledger = processes.ledger()
    processes.arm(point)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: api.post("transfer/bot", ann.key, idempotency_key="k", bot=world.bot(ann), token=ben.token, leads=1))
        assert processes.reached(point) == ledger.pid
        ledger.kill()
        processes.let_go(point)
        processes.ledger()

        assert answer.result().body == b'{"status":"ok"}'
    assert db.execute("SELECT count(*) FROM transfer").fetchone() == (1,)


@pytest.mark.parametrize("point", ["ledger.claimed", "ledger.locked"])
def test_a_stopped_ledger_holds_its_locks_no_longer_than_the_session_limit(
    db: Raw, processes: Stack, world: World, point: FailPoint
) -> None:
    ann, ben = world.account(), world.account()
    api = Api(processes.gateway("--deadline", "30").base_url)
    processes.relay("--sweep", "1")
    stopped = processes.ledger()
    processes.arm(point)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: api.post("transfer/bot", ann.key, bot=world.bot(ann), token=ben.token, leads=1))
        assert processes.reached(point) == stopped.pid
        stopped.send(signal.SIGSTOP)
        processes.ledger()

        assert answer.result().body == b'{"status":"ok"}'
    processes.let_go(point)
    stopped.send(signal.SIGCONT)
    assert api.post("transfer/bot", ben.key, bot=1, token=ann.token, leads=1).body == b'{"status":"ok"}'
    assert db.execute("SELECT count(*) FROM transfer").fetchone() == (2,)


def test_a_wake_up_into_a_queue_that_is_gone_is_not_lost(processes: Stack, world: World) -> None:
    ann, ben = world.account(), world.account()
    api = Api(processes.gateway().base_url)
    relay = processes.relay(*NEVER)
    eventually(lambda: b"relay_connected" in relay.log.read_bytes(), "the relay is connected")
    connection = pika.BlockingConnection(pika.URLParameters(processes.amqp_url))
    connection.channel().queue_delete(LEDGER)
    connection.close()

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: api.post("transfer/bot", ann.key, bot=world.bot(ann), token=ben.token, leads=1))
        eventually(lambda: waiting(processes.amqp_url) == 1, "the wake-up is in the queue")
        processes.ledger()

        assert answer.result().body == b'{"status":"ok"}'


def waiting(amqp_url: str) -> int | None:
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    try:
        return int(connection.channel().queue_declare(LEDGER, passive=True).method.message_count)
    except pika.exceptions.ChannelClosedByBroker:
        return None
    finally:
        connection.close()


def test_a_command_that_nobody_takes_is_withdrawn_and_stays_so(db: Raw, processes: Stack, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ann)
    api = Api(processes.gateway("--deadline", "0.2").base_url)

    answer = api.post("transfer/bot", ann.key, bot=bot, token=ben.token, leads=1)
    processes.relay()
    processes.ledger()
    later = api.post("transfer/bot", ann.key, idempotency_key="k", bot=bot, token=ann.token, leads=1)
    while later.json["status"] == "pending":
        later = api.post("transfer/bot", ann.key, idempotency_key="k", bot=bot, token=ann.token, leads=1)

    assert (answer.status, answer.error) == (503, ("busy", ""))
    assert later.error == ("self", "token")
    assert db.execute("SELECT count(*) FROM transfer").fetchone() == (0,)


def test_a_command_in_a_worker_s_hands_is_waited_for_past_the_deadline(processes: Stack, world: World) -> None:
    ann, ben = world.account(), world.account()
    api = Api(processes.gateway("--deadline", "0.2").base_url)
    processes.relay()
    processes.ledger()
    processes.wait_for_consumers(1)
    processes.arm("ledger.claimed")

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: api.post("transfer/bot", ann.key, bot=world.bot(ann), token=ben.token, leads=1))
        processes.reached("ledger.claimed")
        with pytest.raises(TimeoutError):
            answer.result(timeout=1)
        processes.let_go("ledger.claimed")

        assert answer.result().body == b'{"status":"ok"}'
