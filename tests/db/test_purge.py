"""What `leads=0` leaves behind: nothing to be seen at the commit, nothing at all after the purge."""

from services.ledger import purge
from shared.db import purge as rows
from shared.db.connect import Raw, connect
from shared.domain.transfers import Kind
from tests.db.support import accept, decide_waiting, scalar
from tests.world import World


def test_after_the_purge_the_subscribers_are_nowhere_in_the_database(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot, (campaign, other) = world.bot_with_campaigns(ann, 2, leads=2_500)
    doomed = [row[0] for row in db.execute("SELECT subscriber FROM lead WHERE campaign_id IN (%s, %s)", [campaign, other])]
    for action in (0, 1):
        db.execute(
            """INSERT INTO journal (bot_id, chat_id, campaign_id, epoch, lead_id, subscriber, action)
               SELECT %s, 1, campaign_id, epoch, id, subscriber, %s FROM lead""",
            [bot, action],
        )
    accept(db, Kind.BOT, ann, bot, ben.token, keep=False)
    decide_waiting(database_url)
    for view in ("current_lead", "current_counter", "current_daily", "current_journal"):
        assert scalar(db, f"SELECT count(*) FROM {view}") == 0
    assert rows.get_backlog(db).leads == 5_000

    purge_everything(db)

    assert rows.get_backlog(db) == rows.Backlog(0, 0, None)
    text = everything_in(db)
    assert [subscriber for subscriber in doomed if str(subscriber) in text] == []


def test_the_scan_of_the_database_would_find_a_subscriber(db: Raw, world: World) -> None:
    ann = world.account()
    _, (campaign,) = world.bot_with_campaigns(ann, 1, leads=1)

    assert str(scalar(db, "SELECT subscriber FROM lead WHERE campaign_id = %s", campaign)) in everything_in(db)


def test_a_purge_goes_on_where_the_last_turn_ended_and_leaves_the_new_epoch_alone(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot, (campaign,) = world.bot_with_campaigns(ann, 1, leads=2_500)
    accept(db, Kind.BOT, ann, bot, ben.token, keep=False)
    decide_waiting(database_url)
    db.execute("INSERT INTO lead (campaign_id, epoch, subscriber) VALUES (%s, 1, 5)", [campaign])

    assert rows.delete_batch(db, campaign, 0, limit=1_000) == (1_000, False)
    assert rows.get_backlog(db).leads == 1_500
    assert purge.take_turn(db, campaign, 0, turn_s=0) == 0
    assert scalar(db, "SELECT count(*) FROM outbox WHERE wake = 'purge_leads' AND key = %s", f"{campaign}:0") == 2
    purge_everything(db)

    assert scalar(db, "SELECT count(*) FROM lead WHERE campaign_id = %s", campaign) == 1
    assert scalar(db, "SELECT count(*) FROM current_lead WHERE campaign_id = %s", campaign) == 1


def test_two_workers_do_not_purge_the_same_epoch_at_once(db: Raw, database_url: str, world: World) -> None:
    ann, ben = world.account(), world.account()
    bot, (campaign,) = world.bot_with_campaigns(ann, 1, leads=10)
    accept(db, Kind.BOT, ann, bot, ben.token, keep=False)
    decide_waiting(database_url)

    with connect(database_url, name="other") as other, other.transaction():
        other.execute("SELECT 1 FROM purge FOR UPDATE")
        assert purge.take_turn(db, campaign, 0) == 0

    assert purge.take_turn(db, campaign, 0) == 10


def purge_everything(db: Raw) -> None:
    while row := db.execute("SELECT campaign_id, epoch FROM purge LIMIT 1").fetchone():
        purge.take_turn(db, *row)


def everything_in(db: Raw) -> str:
    """Every row of every table, as text."""
    tables = [row[0] for row in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return "\n".join(str(row[0]) for table in tables for row in db.execute(f"SELECT t::text FROM {table} t"))
