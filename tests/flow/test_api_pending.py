"""Transfers that nobody carries out in time: withdrawn, or pending for whoever can ask again by a key."""

import threading
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from shared.db.connect import Raw
from tests.api import Answer, Api
from tests.flow.test_api_envelope import check, error
from tests.stack import Stack, eventually
from tests.world import Account, World

TRANSFER: Final = "gatepost-transfer"


@dataclass(slots=True)
class Waiting:
    """A gateway without relay and ledger, and a bot that may be given."""

    api: Api
    processes: Stack
    ann: Account
    ben: Account
    bot: int
    threads: list[threading.Thread] = field(default_factory=list)

    def post(self, key: str | None = None, *, form: bool = False, leads: int = 1) -> Answer:
        return check(
            self.api.post("transfer/bot", self.ann.key, idempotency_key=key, form=form, bot=self.bot, token=self.ben.token, leads=leads)
        )

    def post_meanwhile(self, key: str | None = None) -> list[Answer]:
        """POST in a thread of its own; the list gets the answer."""
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(self.post(key)))
        thread.start()
        self.threads.append(thread)
        return answers

    def go_to_work(self) -> None:
        """Start what carries transfers out, and wait for the answers to whatever was asked."""
        self.processes.relay()
        self.processes.ledger()
        for thread in self.threads:
            thread.join()

    def entries(self, account: Account) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = check(self.api.get("transfer/list", account.key)).data
        return listed


def make(processes: Stack, world: World, *, deadline: str) -> Waiting:
    api = Api(processes.gateway("--deadline", deadline).base_url)
    ann, ben = world.account("Ann"), world.account("Ben")
    return Waiting(api, processes, ann, ben, world.bot(ann))


@pytest.fixture
def hasty(processes: Stack, world: World, amqp_url: str) -> Waiting:
    """Its gateway waits 0.3 s."""
    return make(processes, world, deadline="0.3")


@pytest.fixture
def patient(processes: Stack, world: World, amqp_url: str) -> Waiting:
    """Its gateway waits for as long as a slow machine may take."""
    return make(processes, world, deadline="60")


def test_without_a_key_it_is_withdrawn_and_never_happens(hasty: Waiting, db: Raw) -> None:
    answer = hasty.post()

    assert (answer.status, answer.error) == (503, ("busy", ""))
    assert int(answer.headers["retry-after"]) >= 1
    (entry,) = hasty.entries(hasty.ann)
    assert (entry["outcome"], entry["reason"], entry["other"]) == ("withdrawn", "", "")
    assert entry["finished"] >= entry["created"]
    assert check(hasty.api.get("transfer/status", hasty.ann.key, transfer=entry["transfer"])).data == entry
    assert hasty.entries(hasty.ben) == []

    hasty.go_to_work()
    eventually(lambda: db.execute("SELECT count(*) FROM outbox").fetchone() == (0,), "its wake-up was published")
    pending = hasty.post("k")  # decided after it, by the same ledger, whatever is said at the deadline
    assert pending.status == 200
    eventually(lambda: hasty.post("k").json == {"status": "ok"}, "the second one is carried out")
    assert [e["outcome"] for e in hasty.entries(hasty.ann)] == ["done", "withdrawn"]


def test_with_a_key_it_is_pending_goes_on_and_the_key_gets_the_outcome(hasty: Waiting, db: Raw) -> None:
    answer = hasty.post("k")

    assert answer.status == 200
    transfer = answer.headers[TRANSFER]
    assert answer.json == {"status": "pending", "data": {"transfer": transfer}}
    assert hasty.post("k", form=True).body == answer.body, "a repeat waits anew and is told the same"
    assert error(hasty.api.post("transfer/bot", hasty.ann.key, idempotency_key="k", bot=hasty.bot, token="x", leads=1)) == (
        "invalid",
        "Idempotency-Key",
    )
    (entry,) = hasty.entries(hasty.ann)
    assert (entry["transfer"], entry["outcome"], entry["finished"]) == (transfer, "pending", "0000-00-00 00:00:00")
    assert check(hasty.api.get("transfer/status", hasty.ann.key, transfer=transfer)).data == entry
    assert error(hasty.api.get("transfer/status", hasty.ben.key, transfer=transfer)) == ("notfound", "transfer")
    assert [row["id"] for row in check(hasty.api.get("bots/list", hasty.ann.key)).data] == [hasty.bot]

    hasty.go_to_work()
    eventually(lambda: hasty.entries(hasty.ann)[0]["outcome"] == "done", "the transfer is carried out")
    assert hasty.post("k").body == hasty.post("k", form=True).body == b'{"status":"ok"}'
    assert db.execute("SELECT count(*) FROM transfer").fetchone() == (1,)
    assert [row["id"] for row in check(hasty.api.get("bots/list", hasty.ben.key)).data] == [hasty.bot]


def test_a_busy_answer_binds_no_equal_request_to_come(hasty: Waiting) -> None:
    """Another deadline, another command; the key of a request that was only pending is still its own."""
    first, second = hasty.post(), hasty.post()
    assert first.error == second.error == ("busy", "")
    assert first.body == second.body
    assert [e["outcome"] for e in hasty.entries(hasty.ann)] == ["withdrawn", "withdrawn"]


def joined(db: Raw) -> bool:
    """Whether a gateway has asked for the outcome of a command it met: what somebody does who waits for another's."""
    return (
        db.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'gatepost gateway%'"
            " AND query LIKE '%id = ANY(%state IN (%done%'"
        ).fetchone()
        is not None
    )


def test_equal_requests_without_a_key_are_one(patient: Waiting, db: Raw) -> None:
    first = patient.post_meanwhile()
    eventually(lambda: db.execute("SELECT count(*) FROM command").fetchone() == (1,), "the first is accepted")
    second = patient.post_meanwhile()
    eventually(lambda: joined(db), "the second has met it")

    patient.go_to_work()

    assert first[0].body == second[0].body == b'{"status":"ok"}'
    assert first[0].headers[TRANSFER] == second[0].headers[TRANSFER]
    assert db.execute("SELECT (SELECT count(*) FROM command), (SELECT count(*) FROM transfer)").fetchone() == (1, 1)
    assert len(patient.entries(patient.ann)) == 1


def test_equal_requests_with_a_key_are_one_at_two_gateways(patient: Waiting, db: Raw) -> None:
    first = patient.post_meanwhile("k")
    eventually(lambda: db.execute("SELECT count(*) FROM command").fetchone() == (1,), "the first is accepted")
    patient.api = Api(patient.processes.gateway("--deadline", "60").base_url)
    second = patient.post_meanwhile("k")
    eventually(lambda: joined(db), "the second has met it")

    patient.go_to_work()

    assert first[0].body == second[0].body == b'{"status":"ok"}'
    assert first[0].headers[TRANSFER] == second[0].headers[TRANSFER]
    assert len(patient.entries(patient.ann)) == 1


def test_a_request_that_differs_does_not_join(patient: Waiting, db: Raw) -> None:
    first = patient.post_meanwhile()
    eventually(lambda: db.execute("SELECT count(*) FROM command").fetchone() == (1,), "the first is accepted")
    others: list[Answer] = []
    thread = threading.Thread(target=lambda: others.append(patient.post(leads=0)))
    thread.start()
    patient.threads.append(thread)
    eventually(lambda: db.execute("SELECT count(*) FROM command").fetchone() == (2,), "the second is accepted too")

    patient.go_to_work()

    assert first[0].error is None
    assert others[0].error == ("notfound", "bot")
    assert [e["outcome"] for e in patient.entries(patient.ann)] == ["refused", "done"]
