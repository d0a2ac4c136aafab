"""The operator's commands, on a real database and broker."""

import re
from collections.abc import Callable
from uuid import UUID

import pytest
import uuid_utils.compat as uuids
from typer.testing import CliRunner, Result

from services.__main__ import app
from shared.broker.rabbitmq import Publisher
from shared.db import commands, outbox, scene, sessions
from shared.db.commands import NewCommand
from shared.db.connect import Raw
from shared.domain.transfers import Kind
from shared.messages import Wake
from tests.api import Api
from tests.stack import Stack, eventually
from tests.world import World

Operate = Callable[..., Result]

LISTENER = UUID(int=7)

#: Tries alone before the ledger parks a command.
TRIES = 3


@pytest.fixture
def operate(database_url: str, amqp_url: str) -> Operate:
    """`python -m services WORDS`."""

    def call(*words: str, **environment: str) -> Result:
        urls = {"GATEPOST_DATABASE_URL": database_url, "GATEPOST_AMQP_URL": amqp_url}
        return CliRunner().invoke(app, words, env={**urls, **environment})

    return call


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def failure(result: Result) -> str:
    """The one sentence of a command that failed."""
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def submit(db: Raw, world: World) -> NewCommand:
    ann, ben = world.account("Ann"), world.account("Ben")
    command = NewCommand(
        id=uuids.uuid7(), kind=Kind.BOT, account=ann.id, object_id=world.bot(ann), token=ben.token, keep_leads=True, idempotency_key=None
    )
    commands.add(db, [command])
    return command


def add_event(db: Raw, bot: int, *, parked: bool = False) -> int:
    """An event as a listener takes it in, or as it is when its third worker has died of it."""
    values = (bot, parked, 3 if parked else 0, "it was too much" if parked else "")
    row = db.execute(
        "INSERT INTO inbox_event (bot_id, kind, parked, attempts, trouble) VALUES (%s, 'start', %s, %s, %s) RETURNING id", values
    ).fetchone()
    assert row is not None
    return int(row[0])


def park(db: Raw, command: UUID) -> None:
    """As its worker's deaths would."""
    while commands.count_attempt(db, command, attempts_max=TRIES):
        pass


def test_a_new_account_gets_in_with_its_key(operate: Operate, processes: Stack) -> None:
    added = said(operate("account", "add", "--name", "Dora", "--login", "@dora"))
    shown = dict(re.findall(r"^  (id|key|transfer token) +(\S+)$", added, re.MULTILINE))

    api = Api(processes.gateway().base_url)
    info = api.get("profile/info", shown["key"]).data
    assert (str(info["id"]), info["name"], info["login"], info["tariff"]) == (shown["id"], "Dora", "dora", "kitten")
    assert api.get("transfer/token", shown["key"]).data["token"] == shown["transfer token"]

    listed = said(operate("account", "list"))
    assert "Dora" in listed
    assert shown["key"] not in listed
    assert shown["transfer token"] not in listed


def test_a_plan_is_set_for_so_many_days(operate: Operate, world: World, db: Raw) -> None:
    account = world.account("Ann").id
    assert said(operate("account", "plan", str(account), "cat", "--days", "3")) == f"Account {account} is on Kitty for 3 days from now.\n"
    row = db.execute("SELECT plan, round(extract(epoch FROM paid_until - now()) / 86400) FROM account WHERE id = %s", [account]).fetchone()
    assert row == ("cat", 3)

    said(operate("account", "plan", str(account), "kitten"))
    assert db.execute("SELECT plan, paid_until FROM account WHERE id = %s", [account]).fetchone() == ("kitten", None)


def test_the_list_says_what_each_account_has(operate: Operate, world: World) -> None:
    assert "There is no account yet" in said(operate("account", "list"))
    ann = world.account("Ann")
    world.bot_with_campaigns(ann, 2)
    (line,) = [line for line in said(operate("account", "list")).splitlines() if " Ann " in line]
    assert re.fullmatch(rf"  {ann.id} +Ann +login\d+ +tiger +\S+ \S+ UTC +1 +2", line)


def test_queues_say_what_waits_where(operate: Operate, world: World, db: Raw, amqp_url: str) -> None:
    quiet = said(operate("queues"))
    assert "0 transfers wait\n" in quiet
    assert "ledger: not there yet" in quiet
    assert "  0 events wait\n  0 events are parked\n  0 sessions are held by listeners, 0 free, 0 in trouble\n  0 messages wait" in quiet

    command = submit(db, world)
    publisher = Publisher(amqp_url)
    publisher.connect()
    publisher.publish(Wake.DECIDE_TRANSFERS, [str(command.id)], swept=False)
    publisher.close()
    park(db, submit(db, world).id)
    db.execute("INSERT INTO purge (campaign_id, epoch, leads, deleted) VALUES (1, 0, 1500, 500)")

    busy = said(operate("queues"))
    assert "1 transfer waits, the oldest for 0 seconds\n" in busy
    assert "1 transfer is parked; `commands parked` shows why\n" in busy
    assert "2 wake-ups are not yet published" in busy
    assert "1,000 leads of 1 campaign left to remove" in busy
    assert "ledger: 1 message waits, 0 dead\n" in busy


def test_queues_say_what_waits_of_telegram(operate: Operate, world: World, db: Raw) -> None:
    ann = world.account("Ann")
    held, free, troubled = world.bot(ann), world.bot(ann), world.bot(ann)
    for bot in (held, free, troubled):
        scene.set_token(db, bot, b"sealed")
    sessions.register(db, LISTENER, name="listener@here:1", capacity=10, lease_s=60)
    db.execute("UPDATE bot_session SET listener_id = %s WHERE bot_id <> %s", [LISTENER, free])
    db.execute("UPDATE bot_session SET trouble = %s WHERE bot_id = %s", ["it is\nsad", troubled])
    add_event(db, held)
    add_event(db, held)
    add_event(db, free, parked=True)
    db.execute(
        "INSERT INTO send (bot_id, subscriber, kind, random_id, at, due) VALUES (%s, 1, 'welcome', 1, now(), now() - interval '90 s')",
        [held],
    )

    said_of_it = said(operate("queues"))

    assert re.search(r"^  2 events wait for 1 bot, the oldest since \S+ \S+ UTC$", said_of_it, re.MULTILINE)
    assert "  1 event is parked; `events parked` shows why\n" in said_of_it
    assert "  2 sessions are held by listeners, 1 free, 1 in trouble\n" in said_of_it
    assert f"    bot {troubled} of account {ann.id} (@bot" in said_of_it
    assert "): it is sad\n" in said_of_it
    assert "  1 message waits to be sent, the oldest due for 1 minute\n" in said_of_it
    db.execute("UPDATE listener SET expires_at = now() - interval '1 s'")
    assert "  0 sessions are held by listeners, 3 free, 1 in trouble\n" in said(operate("queues"))


def test_a_parked_event_is_shown_with_its_reason_and_waits_once_released(operate: Operate, world: World, db: Raw) -> None:
    bot = world.bot(world.account("Ann"))
    assert said(operate("events", "parked")) == "No event is parked.\n"
    event = add_event(db, bot, parked=True)
    shown = said(operate("events", "parked"))
    assert re.search(rf"^  {event} +{bot} +start +\S+ \S+ UTC +3 +it was too much$", shown, re.MULTILINE)

    assert said(operate("events", "release", str(event))) == "1 event waits for an ingest worker again.\n"

    assert db.execute("SELECT parked, attempts, trouble FROM inbox_event").fetchone() == (False, 0, "")
    assert db.execute("SELECT wake, key FROM outbox").fetchone() == (Wake.APPLY_EVENTS, str(bot))
    assert "No such event is parked" in failure(operate("events", "release", str(event)))
    assert "Name the events" in failure(operate("events", "release"))
    add_event(db, bot, parked=True)
    add_event(db, bot, parked=True)
    assert said(operate("events", "release", "--all")) == "2 events wait for an ingest worker again.\n"


def test_a_parked_transfer_is_shown_with_its_reason_and_done_once_released(
    operate: Operate, world: World, db: Raw, processes: Stack
) -> None:
    command = submit(db, world)
    assert str(command.id) in said(operate("commands", "waiting"))
    outbox.delete(db, outbox.claim(db, limit=10, lease_s=1))
    park(db, command.id)

    assert said(operate("commands", "waiting")) == "No transfer waits.\n"
    shown = said(operate("commands", "parked"))
    assert str(command.id) in shown
    assert "the worker died 3 times" in shown
    assert command.token not in shown

    assert said(operate("commands", "release", str(command.id))) == f"Transfer {command.id} waits for a ledger again.\n"
    assert str(command.id) in said(operate("commands", "waiting"))
    processes.relay()
    processes.ledger()
    eventually(lambda: commands.get_outcomes(db, [command.id]), "the released transfer is finished")
    assert "is parked" in failure(operate("commands", "release", str(command.id)))


def test_what_is_not_there_is_one_sentence(operate: Operate) -> None:
    assert "There is no account 99" in failure(operate("account", "plan", "99", "cat"))
    assert "leave --days out" in failure(operate("account", "plan", "99", "kitten", "--days", "3"))
    assert "must not be empty" in failure(operate("account", "add", "--name", "  "))
    assert "printable" in failure(operate("account", "add", "--name", "two\nlines"))
    assert f"No transfer {UUID(int=5)} is parked" in failure(operate("commands", "release", str(UUID(int=5))))


def test_a_service_that_is_away_is_one_sentence_without_its_password(operate: Operate, tmp_path_factory: pytest.TempPathFactory) -> None:
    gone = "postgresql://ann:hush-hush@127.0.0.1:1/x"
    for words in (("account", "list"), ("account", "add", "--name", "Dora"), ("queues",), ("commands", "parked"), ("migrate",)):
        sentence = failure(operate(*words, GATEPOST_DATABASE_URL=gone))
        assert sentence.startswith("PostgreSQL at 127.0.0.1:1/x can't be used: Connection refused")
    broker = failure(operate("queues", GATEPOST_AMQP_URL="amqp://ann:hush-hush@127.0.0.1:1/"))
    assert broker.startswith("RabbitMQ at 127.0.0.1:1 can't be used")
    assert "hush" not in broker

    nowhere = {"GATEPOST_DATABASE_URL": "", "GATEPOST_STATE": str(tmp_path_factory.mktemp("nothing"))}
    assert "No Gatepost is running from" in failure(operate("account", "list", **nowhere))


def test_a_database_without_the_schema_is_one_sentence(operate: Operate, db: Raw) -> None:
    db.execute("DROP TABLE alembic_version")
    assert "`python -m services migrate`" in failure(operate("account", "list"))


def test_every_command_explains_itself(operate: Operate) -> None:
    overview = said(operate("--help"))
    for name in ("run", "gateway", "relay", "ledger", "listener", "ingest", "migrate", "queues", "account", "commands", "events"):
        assert re.search(rf"^  {name} +[A-Z].*\.$", overview, re.MULTILINE), name
        said(operate(name, "--help"))
    assert "GATEPOST_DATABASE_URL" in said(operate("run", "--help"))
