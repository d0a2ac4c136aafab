"""Interleavings of transfers with each other and with everything else that changes what they rest on. Each is forced by a lock."""

from shared.db import commands
from shared.db.connect import Raw, connect
from shared.domain.plans import PlanCode
from shared.domain.transfers import Kind
from shared.messages import State
from tests.db.support import (
    DONE,
    accept,
    decide_alone,
    decide_waiting,
    ending,
    home_of_campaign,
    owner_of_bot,
    refused,
    scalar,
    threads,
    wait_for_blocked,
)
from tests.world import World

LOCK_ACCOUNT = "SELECT 1 FROM account WHERE id = %s FOR UPDATE"


def test_of_two_transfers_of_one_bot_exactly_one_succeeds(db: Raw, database_url: str, world: World) -> None:
    ann, ben, carl = world.account(), world.account(), world.account()
    bot, _ = world.bot_with_campaigns(ann, 1)
    to_ben, to_carl = (accept(db, Kind.BOT, ann, bot, to.token) for to in (ben, carl))

    with threads(2) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_ACCOUNT, [ann.id])
        start(decide_alone, database_url, to_ben)
        wait_for_blocked(db, 1)
        start(decide_alone, database_url, to_carl)
        wait_for_blocked(db, 2)

    assert sorted([ending(db, to_ben), ending(db, to_carl)]) == sorted([DONE, refused("notfound", "bot")])
    assert owner_of_bot(db, bot) == (ben.id if ending(db, to_ben) == DONE else carl.id)
    assert scalar(db, "SELECT count(*) FROM transfer") == 1


def test_of_many_campaigns_arriving_at_once_as_many_are_taken_as_there_are_slots(db: Raw, database_url: str, world: World) -> None:
    recipient = world.account(plan=PlanCode.CAT)
    chats = [world.chat() for _ in range(18)]
    seat = world.bot(recipient, *chats)
    for chat in chats[:12]:
        world.campaign(recipient, seat, chat)
    arriving = []
    for chat in chats[12:]:
        sender = world.account()
        campaign = world.campaign(sender, world.bot(sender, chat), chat)
        arriving.append(accept(db, Kind.CAMPAIGN, sender, campaign, recipient.token))

    with threads(6) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_ACCOUNT, [recipient.id])
        for number, command in enumerate(arriving, 1):
            start(decide_alone, database_url, command)
            wait_for_blocked(db, number)

    endings = [ending(db, command) for command in arriving]
    assert endings.count(DONE) == 3
    assert endings.count(refused("limit", "token")) == 3
    assert scalar(db, "SELECT count(*) FROM campaign WHERE account_id = %s AND status = 0", recipient.id) == 15


def test_opposite_transfers_do_not_deadlock(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    there, back = world.bot(ann), world.bot(ben)
    to_ben, to_ann = accept(db, Kind.BOT, ann, there, ben.token), accept(db, Kind.BOT, ben, back, ann.token)

    # Each account is held, so that a worker that took the sender first would hold one each once they are free, and want the other's.
    with threads(2) as start, connect(database_url, name="holder") as one, connect(database_url, name="holder") as two:  # noqa: SIM117
        with one.transaction(), two.transaction():  # the workers end after the holders
            one.execute(LOCK_ACCOUNT, [ann.id])
            two.execute(LOCK_ACCOUNT, [ben.id])
            start(decide_alone, database_url, to_ben)
            start(decide_alone, database_url, to_ann)
            wait_for_blocked(db, 2)

    assert (ending(db, to_ben), ending(db, to_ann)) == (DONE, DONE)
    assert (owner_of_bot(db, there), owner_of_bot(db, back)) == (ben.id, ann.id)
    assert deadlocks(db) == 0


def test_a_campaign_and_the_bot_it_would_land_on_move_at_once(db: Raw, database_url: str, world: World) -> None:
    ann, ben, carl = world.account(), world.account(), world.account()
    chat = world.chat()
    campaign = world.campaign(ann, world.bot(ann, chat), chat)
    seat = world.bot(ben, chat)
    landing = accept(db, Kind.CAMPAIGN, ann, campaign, ben.token)
    leaving = accept(db, Kind.BOT, ben, seat, carl.token)

    with threads(2) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute("SELECT 1 FROM bot WHERE id = %s FOR UPDATE", [seat])
        start(decide_alone, database_url, landing)
        wait_for_blocked(db, 1)
        start(decide_alone, database_url, leaving)
        wait_for_blocked(db, 2)

    assert (ending(db, landing), ending(db, leaving)) == (DONE, DONE)
    assert home_of_campaign(db, campaign) == (carl.id, seat)
    assert deadlocks(db) == 0


def test_the_bot_leaves_first_and_the_campaign_finds_no_seat(db: Raw, database_url: str, world: World) -> None:
    ann, ben, carl = world.account(), world.account(), world.account()
    chat = world.chat()
    home = world.bot(ann, chat)
    campaign = world.campaign(ann, home, chat)
    seat = world.bot(ben, chat)
    landing = accept(db, Kind.CAMPAIGN, ann, campaign, ben.token)
    leaving = accept(db, Kind.BOT, ben, seat, carl.token)

    with threads(2) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute("SELECT 1 FROM bot WHERE id = %s FOR UPDATE", [seat])
        start(decide_alone, database_url, leaving)
        wait_for_blocked(db, 1)
        start(decide_alone, database_url, landing)
        wait_for_blocked(db, 2)

    assert (ending(db, leaving), ending(db, landing)) == (DONE, refused("nobot", "token"))
    assert home_of_campaign(db, campaign) == (ann.id, home)


def test_a_bot_and_one_of_its_campaigns_move_at_once(db: Raw, database_url: str, world: World) -> None:
    for bot_first in (True, False):
        ann, ben, carl = world.account(), world.account(), world.account()
        chat = world.chat()
        bot, seat = world.bot(ann, chat), world.bot(carl, chat)
        campaign = world.campaign(ann, bot, chat)
        whole = accept(db, Kind.BOT, ann, bot, ben.token)
        part = accept(db, Kind.CAMPAIGN, ann, campaign, carl.token)
        first, second = (whole, part) if bot_first else (part, whole)

        with threads(2) as start, connect(database_url, name="holder") as holder, holder.transaction():
            holder.execute("SELECT 1 FROM campaign WHERE id = %s FOR SHARE", [campaign])
            start(decide_alone, database_url, first)
            wait_for_blocked(db, 1)
            start(decide_alone, database_url, second)
            wait_for_blocked(db, 2)

        assert ending(db, whole) == DONE
        assert ending(db, part) == (refused("notfound", "camp") if bot_first else DONE)
        assert home_of_campaign(db, campaign) == ((ben.id, bot) if bot_first else (carl.id, seat))
        assert owner_of_bot(db, bot) == ben.id


def test_a_token_regenerated_while_the_command_waits_fails_it(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ann)
    command = accept(db, Kind.BOT, ann, bot, ben.token)

    world.set("account", ben.id, transfer_token="another")
    decide_waiting(database_url)

    assert ending(db, command) == refused("notfound", "token")
    assert owner_of_bot(db, bot) == ann.id


def test_a_token_regenerated_after_a_worker_took_the_command_fails_it(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ann)
    command = accept(db, Kind.BOT, ann, bot, ben.token)

    with threads(1) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute("UPDATE account SET transfer_token = 'another' WHERE id = %s", [ben.id])
        start(decide_waiting, database_url)
        wait_for_blocked(db, 1)

    assert ending(db, command) == refused("notfound", "token")
    assert owner_of_bot(db, bot) == ann.id


def test_a_slot_taken_while_the_worker_waited_for_the_account_is_counted(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account(plan=PlanCode.CAT)
    chat = world.chat()
    campaign = world.campaign(ann, world.bot(ann, chat), chat)
    seat, _ = world.bot_with_campaigns(ben, 14)
    paused = world.campaign(ben, seat, world.chat(), status=1)
    world.bot(ben, chat)
    command = accept(db, Kind.CAMPAIGN, ann, campaign, ben.token)

    with threads(1) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_ACCOUNT, [ben.id])
        holder.execute("UPDATE campaign SET status = 0 WHERE id = %s", [paused])
        start(decide_waiting, database_url)
        wait_for_blocked(db, 1)

    assert ending(db, command) == refused("limit", "token")


def test_an_owner_changed_while_the_worker_waited_for_the_account_is_seen(db: Raw, database_url: str, world: World) -> None:
    ann, ben, carl = world.account(), world.account(), world.account()
    bot = world.bot(ann)
    command = accept(db, Kind.BOT, ann, bot, ben.token)

    with threads(1) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_ACCOUNT, [ann.id])
        holder.execute("UPDATE bot SET account_id = %s WHERE id = %s", [carl.id, bot])
        start(decide_alone, database_url, command)
        wait_for_blocked(db, 1)

    assert ending(db, command) == refused("notfound", "bot")
    assert owner_of_bot(db, bot) == carl.id


def test_a_plan_that_ends_while_the_worker_waited_is_seen(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    command = accept(db, Kind.BOT, ann, world.bot(ann), ben.token)

    with threads(1) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute("UPDATE account SET paid_until = clock_timestamp() WHERE id = %s", [ben.id])
        start(decide_waiting, database_url)
        wait_for_blocked(db, 1)

    assert ending(db, command) == refused("unpaid", "token")


def test_a_lead_written_beside_a_transfer_belongs_to_the_epoch_it_was_written_in(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot, (campaign,) = world.bot_with_campaigns(ann, 1)
    command = accept(db, Kind.BOT, ann, bot, ben.token, keep=False)

    # What an ingest worker does: the campaign FOR SHARE, then the lead in the epoch it read.
    with threads(1) as start, connect(database_url, name="ingest") as ingest, ingest.transaction():
        epoch = scalar(ingest, "SELECT lead_epoch FROM campaign WHERE id = %s FOR SHARE", campaign)
        start(decide_waiting, database_url)
        wait_for_blocked(db, 1)
        ingest.execute("INSERT INTO lead (campaign_id, epoch, subscriber) VALUES (%s, %s, 77)", [campaign, epoch])
        ingest.execute("UPDATE lead_counter SET n_wait = n_wait + 1 WHERE campaign_id = %s AND epoch = %s", [campaign, epoch])

    assert ending(db, command) == DONE
    assert scalar(db, "SELECT count(*) FROM current_lead WHERE campaign_id = %s", campaign) == 0
    assert scalar(db, "SELECT leads FROM purge WHERE campaign_id = %s", campaign) == 1


def test_a_withdrawn_command_never_moves_anything(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ann)
    command = accept(db, Kind.BOT, ann, bot, ben.token)

    assert commands.withdraw(db, command)
    decide_waiting(database_url)
    decide_alone(database_url, command)

    assert ending(db, command) == (State.WITHDRAWN, "", "")
    assert owner_of_bot(db, bot) == ann.id


def test_a_command_that_a_worker_has_taken_is_not_withdrawn(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot = world.bot(ann)
    command = accept(db, Kind.BOT, ann, bot, ben.token)

    with threads(1) as start, connect(database_url, name="holder") as holder, holder.transaction():
        holder.execute(LOCK_ACCOUNT, [ann.id])
        start(decide_waiting, database_url)
        wait_for_blocked(db, 1)
        assert not commands.withdraw(db, command)

    assert ending(db, command) == DONE
    assert owner_of_bot(db, bot) == ben.id
    assert not commands.withdraw(db, command)


def test_a_bot_that_somebody_holds_does_not_hold_up_the_rest_of_the_batch(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    held, free = world.bot(ann), world.bot(ann)
    slow, quick = accept(db, Kind.BOT, ann, held, ben.token), accept(db, Kind.BOT, ann, free, ben.token)

    with threads(1) as start, connect(database_url, name="ingest") as ingest, ingest.transaction():
        ingest.execute("SELECT 1 FROM bot WHERE id = %s FOR UPDATE", [held])
        start(decide_waiting, database_url)
        wait_for_blocked(db, 1)
        assert ending(db, quick) == DONE
        assert ending(db, slow)[0] is State.PENDING

    assert ending(db, slow) == DONE


def deadlocks(db: Raw) -> int:
    """Deadlocks of this database so far. The workers' connections are closed, and so have reported theirs."""
    return int(scalar(db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))
