"""What a turn makes of the events it finds."""

from typing import Any

from shared.db.connect import Raw
from shared.domain.leads import Action, LeadStatus
from tests.ingest.arrivals import Watch, arrive, clear, counters, held, journal, leads, owed, rows, sends
from tests.world import World

WAIT, HOLD, APPROVE, CANCEL, TRASH = LeadStatus
TEMPLATES: dict[str, Any] = {f"pb_{status.name.lower()}": f"https://track.example/{status.name}?c={{click}}" for status in LeadStatus}


def test_a_life_from_start_to_leave(db: Raw, world: World) -> None:
    ann = world.account()
    chat = world.chat()
    bot = world.bot(ann, chat)
    campaign = world.campaign(ann, bot, chat, **TEMPLATES)
    ((code, tg_id),) = rows(db, "SELECT code, tg_id FROM campaign JOIN chat ON chat.id = chat_id WHERE campaign.id = %s", campaign)
    watch = Watch(bot, tg_id)
    arrive(db, [watch.start(1, f"{code}-a"), watch.request(2), watch.join(3), watch.leave(4)])

    assert clear(db) == 4

    assert leads(db) == [(CANCEL, "a")]
    assert owed(db) == [(WAIT, "a"), (HOLD, "a"), (APPROVE, "a"), (CANCEL, "a")]
    assert held(db) == []
    assert journal(db) == [(bot, Action.REQUEST, "paid"), (bot, Action.JOIN, "paid"), (bot, Action.LEAVE, "paid")]
    assert sends(db) == [(bot, "welcome", "a")]
    assert counters(db) == {"starts": 1, "holds": 1, "confirms": 1, "unsubs": 1, "n_cancel": 1}
