"""A transfer from HTTP request to committed ownership, through every process."""

from tests.api import Api
from tests.world import World


def test_a_bot_moves_with_its_campaigns_and_leads(api: Api, world: World) -> None:
    ann, ben = world.account("Ann"), world.account("Ben")
    bot, campaigns = world.bot_with_campaigns(ann, 2, leads=10)

    answer = api.post("transfer/bot", ann.key, bot=bot, token=ben.token, leads=1)

    assert answer.body == b'{"status":"ok"}'
    assert api.get("bots/list", ann.key).json["total"] == 0
    assert [row["id"] for row in api.get("bots/list", ben.key).data] == [bot]
    assert [row["id"] for row in api.get("camp/list", ben.key).data] == campaigns
    assert api.get("leads/list", ben.key).json["total"] == 20
