"""Accepting commands, taking them once, and what becomes of those that cannot be decided."""

from uuid import UUID

import psycopg
import pytest
import uuid_utils.compat as uuids

from services.ledger import transfers
from shared.db import commands
from shared.db.commands import NewCommand
from shared.db.connect import Raw, connect
from shared.domain.transfers import Kind
from shared.messages import State
from tests.db.support import (
    DONE,
    accept,
    decide_alone,
    decide_waiting,
    ending,
    owner_of_bot,
    refused,
    scalar,
    threads,
    wait_for_blocked,
)
from tests.world import Account, World


def a_command(sender: Account, token: str, *, key: str | None = None, object_id: int = 1) -> NewCommand:
    return NewCommand(
        id=uuids.uuid7(), kind=Kind.BOT, account=sender.id, object_id=object_id, token=token, keep_leads=True, idempotency_key=key
    )


def test_a_command_is_not_accepted_without_its_wake_up(db: Raw, world: World) -> None:
    ann = world.account()
    db.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the outbox is full'; END $$;
           CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()"""
    )

    with pytest.raises(psycopg.Error):
        commands.add(db, [a_command(ann, "token")])

    assert scalar(db, "SELECT count(*) FROM command") == 0


def test_an_equal_request_without_a_key_joins_the_unfinished_one(db: Raw, world: World) -> None:
    ann = world.account()
    first, again, keyed = a_command(ann, "t"), a_command(ann, "t"), a_command(ann, "t", key="k")

    assert commands.add(db, [first, again]) == {first.id}
    assert commands.add(db, [again]) == set()
    met = commands.find(db, again)
    assert met is not None
    assert met.command.id == first.id
    assert commands.add(db, [keyed]) == {keyed.id}


def test_a_request_without_a_key_joins_an_equal_one_that_has_a_key(db: Raw, world: World) -> None:
    ann = world.account()
    keyed, bare = a_command(ann, "t", key="k"), a_command(ann, "t")

    commands.add(db, [keyed])

    assert commands.add(db, [bare]) == set()
    met = commands.find(db, bare)
    assert met is not None
    assert met.command.id == keyed.id


def test_a_finished_command_is_not_joined_without_a_key_but_answers_its_key(db: Raw, database_url: str, world: World) -> None:
    ann = world.account()
    bare, keyed = a_command(ann, "nobody's"), a_command(ann, "nobody's", key="k")
    commands.add(db, [bare, keyed])
    decide_waiting(database_url)

    again = a_command(ann, "nobody's")
    assert commands.add(db, [again]) == {again.id}
    repeated = a_command(ann, "nobody's", key="k")
    assert commands.add(db, [repeated]) == set()
    met = commands.find(db, repeated)
    assert met is not None
    assert met.outcome is not None
    assert met.outcome.reason == "notfound"


def test_one_key_of_two_accounts_is_two_keys(db: Raw, world: World) -> None:
    ann, ben = world.account(), world.account()

    assert len(commands.add(db, [a_command(ann, "t", key="k"), a_command(ben, "t", key="k")])) == 2


def test_a_command_handled_three_times_has_one_outcome(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ann)
    command = accept(db, Kind.BOT, ann, bot, ben.token)

    decide_waiting(database_url)
    world.set("bot", bot, account_id=ann.id)  # so that a second handling would find it movable again
    decide_waiting(database_url)
    decide_alone(database_url, command)

    assert ending(db, command) == DONE
    assert owner_of_bot(db, bot) == ann.id
    assert scalar(db, "SELECT count(*) FROM transfer") == 1
    assert scalar(db, "SELECT count(*) FROM notice") == 2


def test_a_command_that_breaks_its_batch_is_parked_and_the_others_are_done(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bots = [world.bot(ann) for _ in range(5)]
    ids = [accept(db, Kind.BOT, ann, bot, ben.token) for bot in bots]
    break_history_of(db, bots[2])

    for _ in range(transfers.ATTEMPTS_MAX + 1):
        decide_waiting(database_url)
        decide_alone(database_url, *commands.get_untried(db, 20))

    assert [ending(db, command)[0] for command in ids] == [State.DONE, State.DONE, State.PARKED, State.DONE, State.DONE]
    assert owner_of_bot(db, bots[2]) == ann.id
    (parked,) = commands.get_unfinished(db, state=State.PARKED)
    assert parked.id == ids[2]
    assert "no history for this one" in parked.trouble

    db.execute("DROP TRIGGER refuse ON transfer")
    assert commands.release(db, ids[2])
    decide_waiting(database_url)
    assert ending(db, ids[2]) == DONE
    assert not commands.release(db, ids[2])


def break_history_of(db: Raw, bot: int) -> None:
    """Let every transfer of this bot fail when its history is written."""
    db.execute(
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.object_id = {bot} THEN RAISE 'no history for this one'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON transfer FOR EACH ROW EXECUTE FUNCTION refuse()"""
    )


def test_deaths_of_its_workers_park_a_command(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    command = accept(db, Kind.BOT, ann, world.bot(ann), ben.token)

    for _ in range(transfers.ATTEMPTS_MAX):  # a worker counts the try, and dies
        assert commands.count_attempt(db, command, attempts_max=transfers.ATTEMPTS_MAX)
    decide_waiting(database_url)
    decide_alone(database_url, command)

    assert ending(db, command)[0] is State.PARKED
    (parked,) = commands.get_unfinished(db, state=State.PARKED)
    assert "died 3 times" in parked.trouble


def test_a_lock_timeout_does_not_count_as_an_attempt(db: Raw, world: World, database_url: str) -> None:
    ann, ben = world.account(), world.account()
    command = accept(db, Kind.BOT, ann, world.bot(ann), ben.token)

    with psycopg.connect(database_url) as holder, psycopg.connect(database_url, autocommit=True, options="-c lock_timeout=50") as worker:
        holder.execute("SELECT 1 FROM account WHERE id = %s FOR UPDATE", [ann.id])
        transfers.decide_alone(worker, [command], worker="impatient", owed=[])

    assert ending(db, command)[0] is State.PENDING
    assert scalar(db, "SELECT attempts FROM command") == 0
    decide_waiting(database_url)
    assert ending(db, command) == DONE


def test_the_sweep_announces_what_waits_and_doubles_its_interval(db: Raw, world: World) -> None:
    ann = world.account()
    command = accept(db, Kind.BOT, ann, 1, "t")
    db.execute("DELETE FROM outbox")

    assert commands.announce_overdue(db, interval_s=60, limit=10) == 0
    assert commands.announce_overdue(db, interval_s=0, limit=10) == 1
    assert db.execute("SELECT wake, key, swept FROM outbox").fetchall() == [("decide_transfers", str(command), False)]
    db.execute("UPDATE command SET announced_at = now() - interval '90 s'")
    assert commands.announce_overdue(db, interval_s=60, limit=10) == 0
    db.execute("UPDATE command SET announced_at = now() - interval '121 s'")
    assert commands.announce_overdue(db, interval_s=60, limit=10) == 1
    assert db.execute("SELECT swept FROM outbox ORDER BY id").fetchall() == [(False,), (True,)]


def test_a_command_that_was_tried_alone_is_announced_as_swept_at_once(db: Raw, world: World) -> None:
    command = accept(db, Kind.BOT, world.account(), 1, "t")
    commands.count_attempt(db, command, attempts_max=transfers.ATTEMPTS_MAX)
    db.execute("DELETE FROM outbox")

    commands.announce_overdue(db, interval_s=0, limit=10)

    assert db.execute("SELECT swept FROM outbox").fetchall() == [(True,)]


def test_two_careful_workers_do_not_count_the_same_try_twice(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    command = accept(db, Kind.BOT, ann, world.bot(ann), ben.token)

    with connect(database_url, name="ledger") as other, commands.held(other, command) as held:
        assert held
        decide_alone(database_url, command)
    assert scalar(db, "SELECT attempts FROM command") == 0

    decide_alone(database_url, command)
    assert ending(db, command) == DONE


def test_a_lost_database_does_not_count_as_an_attempt(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    command = accept(db, Kind.BOT, ann, world.bot(ann), ben.token)
    owed: list[UUID] = []

    with connect(database_url, name="holder") as holder, connect(database_url, name="ledger") as lost, threads(1) as start:  # noqa: SIM117
        with holder.transaction():
            holder.execute("SELECT 1 FROM account WHERE id = %s FOR UPDATE", [ann.id])
            tried = start(lambda: transfers.decide_alone(lost, [command], worker="lost", owed=owed))
            wait_for_blocked(db, 1)
            db.execute("SELECT pg_terminate_backend(%s)", [lost.info.backend_pid])
            assert isinstance(tried.exception(), psycopg.OperationalError)
    assert (owed, scalar(db, "SELECT attempts FROM command")) == ([command], 1)

    with connect(database_url, name="ledger") as again:
        transfers.decide_alone(again, [], worker="again", owed=owed)
    assert (owed, scalar(db, "SELECT attempts FROM command")) == ([], 0)


def test_gateways_that_accept_the_same_keys_in_other_orders_do_not_deadlock(db: Raw, database_url: str, world: World) -> None:
    ann = world.account()

    def accept_keys(*keys: str) -> int:
        with connect(database_url, name="gateway") as gateway:
            return len(commands.add(gateway, [a_command(ann, "t", key=key, object_id=ord(key)) for key in keys]))

    with connect(database_url, name="gateway") as third, threads(2) as start:
        with third.transaction():
            commands.add(third, [a_command(ann, "t", key="M", object_id=ord("M"))])
            first = start(accept_keys, "A", "M", "Z")
            wait_for_blocked(db, 1)
            second = start(accept_keys, "Z", "A", "B")
            wait_for_blocked(db, 2)
        assert first.result() + second.result() == 3


def test_what_lost_its_gateway_long_ago_is_withdrawn_unless_it_has_a_key(db: Raw, world: World) -> None:
    ann = world.account()
    bare, keyed = accept(db, Kind.BOT, ann, 1, "t"), accept(db, Kind.BOT, ann, 2, "t", key="k")
    assert commands.withdraw_abandoned(db, older_than_s=600, limit=10) == 0
    db.execute("UPDATE command SET created = now() - interval '601 s'")

    assert commands.withdraw_abandoned(db, older_than_s=600, limit=10) == 1

    assert (ending(db, bare)[0], ending(db, keyed)[0]) == (State.WITHDRAWN, State.PENDING)


def test_a_refusal_is_final(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ben)
    command = accept(db, Kind.BOT, ann, bot, ben.token)
    decide_waiting(database_url)

    world.set("bot", bot, account_id=ann.id)
    decide_waiting(database_url)
    decide_alone(database_url, command)

    assert ending(db, command) == refused("notfound", "bot")
    assert owner_of_bot(db, bot) == ann.id
