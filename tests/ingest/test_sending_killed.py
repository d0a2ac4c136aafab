"""A listener killed -9 when Telegram has a message and our record does not: the next one finds that out, and nobody gets it twice."""

import secrets
from pathlib import Path

from shared.db.connect import Raw
from shared.sealing import Sealer
from tests.db.support import scalar
from tests.stack import SECRET_KEY, eventually, stack
from tests.telegram.remote import Remote, started
from tests.world import World

PEOPLE = range(3_001, 3_007)
QUICK = ("--lease", "1", "--renew", "0.2", "--take-over", "0.2")


def add_bot(db: Raw, world: World, server: Remote) -> int:
    """A bot that anybody may lease, with a campaign and a welcome for each of the people; its Telegram id."""
    bot, (campaign,) = world.bot_with_campaigns(world.account(), 1, welcome="Hi")
    tg_id = int(scalar(db, "SELECT tg_id FROM bot WHERE id = %s", bot))
    token = f"{tg_id}:secret"
    server.add_bot(token=token)
    db.execute(
        "INSERT INTO bot_session (bot_id, token) VALUES (%s, %s)",
        [bot, Sealer.read(SECRET_KEY).seal(token.encode(), f"bot_session.token:{bot}")],
    )
    for person in PEOPLE:
        server.start(person=person, bot=tg_id)
        db.execute(
            "INSERT INTO send (bot_id, subscriber, kind, campaign_id, random_id, at) VALUES (%s, %s, 'welcome', %s, %s, now())",
            [bot, person, campaign, secrets.randbits(63)],
        )
    return tg_id


def test_a_listener_killed_before_its_record_leaves_one_message_to_each(database_url: str, db: Raw, world: World, tmp_path: Path) -> None:
    with started() as server, stack(database_url, "", tmp_path) as processes:
        processes.environment = {
            "GATEPOST_TELEGRAM_SERVER": f"{server.ports['dc']}@{server.ports['host']}:{server.ports['port']}",
            "GATEPOST_TELEGRAM_SERVER_KEY": server.ports["public_key"],
        }
        add_bot(db, world, server)
        processes.arm("sending.accepted")
        first = processes.listener(*QUICK)
        assert processes.reached("sending.accepted") == first.pid
        first.kill()
        assert len(server.everything("sent")) >= 1
        assert scalar(db, "SELECT count(*) FROM send") == len(PEOPLE)
        second = processes.listener(*QUICK)
        eventually(lambda: scalar(db, "SELECT count(*) FROM send") == 0 or not second.alive, "everything is settled")
        assert sorted(sent["peer_id"] for sent in server.everything("sent")) == list(PEOPLE)
        assert "RANDOM_ID_DUPLICATE" in {call["refused"] for call in server.everything("calls")}
