"""camp/*: campaigns made, changed, paused, resumed and deleted; and who wins when somebody else is at work on the same."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import pytest

from shared.db import campaigns
from shared.db.connect import connect
from shared.domain.campaigns import CampaignStatus, Settings
from shared.domain.plans import PlanCode
from shared.domain.transfers import Kind
from shared.local import Services
from tests.api import Answer
from tests.db.support import DONE, accept, decide_alone, ending, refused, wait_for_blocked
from tests.flow.test_api_envelope import House, check, error, house
from tests.world import Account

SETTINGS: Final = {
    "welcome": "*Hi* [there](https://t.example)",
    "button_text": "Go",
    "button_url": "https://t.example/?c={click}",
    "pb_wait": "https://t.example/wait?c={click}",
    "pb_trash": "http://t.example/trash",
    "unsub_window": 0,
}


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(local, template, tmp_path_factory.mktemp("campaigns")) as home:
        yield home


@pytest.fixture
def ann(home: House) -> Account:
    return home.world.account()


@pytest.fixture
def ben(home: House) -> Account:
    return home.world.account()


def tg(home: House, chat: int) -> int:
    return home.one("SELECT tg_id FROM chat WHERE id = %s", chat)


def add(home: House, account: Account, bot: int, chat: int, **settings: Any) -> Answer:
    fields: dict[str, Any] = {"bot": bot, "chat": tg(home, chat), "welcome": "Hi", **settings}
    return check(home.api.post("camp/add", account.key, **fields))


def do(home: House, account: Account, what: str, campaign: int, **fields: Any) -> tuple[str, str] | None:
    return error(home.api.post(f"camp/{what}", account.key, id=campaign, **fields))


def get(home: House, account: Account, campaign: int) -> dict[str, Any]:
    return dict(check(home.api.get("camp/get", account.key, id=campaign)).data)


def place(home: House, account: Account) -> tuple[int, int]:
    """A bot and a chat where it is an administrator."""
    chat = home.world.chat()
    return home.world.bot(account, chat), chat


def media(home: House, account: Account, reference: str, kind: int = 1) -> str:
    reference = f"{reference}-{account.id}"
    home.db.execute(
        "INSERT INTO media (id, account_id, type, sha256, size) VALUES (%s, %s, %s, sha256('x'), 1)", [reference, account.id, kind]
    )
    return reference


def test_a_campaign_is_made_with_everything_that_belongs_to_it(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)

    made = add(home, ann, bot, chat, **SETTINGS).data

    assert set(made) == {"id", "code"}
    assert re.fullmatch("[a-z0-9]{8}", made["code"])
    got = get(home, ann, made["id"])
    assert {name: got[name] for name in SETTINGS} == SETTINGS
    assert (got["bot"], got["chat"], got["status"], got["warning"], got["starts"], got["pb_hold"]) == (bot, tg(home, chat), 0, 0, 0, "")
    assert home.db.execute("SELECT bot_id, to_date FROM campaign_bot WHERE campaign_id = %s", [made["id"]]).fetchall() == [(bot, None)]
    assert home.db.execute("SELECT epoch, starts FROM lead_counter WHERE campaign_id = %s", [made["id"]]).fetchall() == [(0, 0)]
    assert home.db.execute("SELECT account_id, created_by, lead_epoch FROM campaign WHERE id = %s", [made["id"]]).fetchall() == [
        (ann.id, ann.id, 0)
    ]
    link = check(home.api.get("camp/link", ann.key, id=made["id"])).data
    assert link == {"link": f"https://t.me/{got['bot_username']}?start={made['code']}-{{click}}"}
    assert error(home.api.get("bots/chats", ann.key, id=bot)) is None
    assert home.api.get("bots/chats", ann.key, id=bot).data == []


def test_a_form_of_strings_does_as_well_and_defaults_hold(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    made = check(home.api.post("camp/add", ann.key, form=True, bot=bot, chat=tg(home, chat), welcome="Hi", unsub_window="60"))
    assert get(home, ann, made.data["id"])["unsub_window"] == 60
    other = home.world.chat()
    with home.tables.begin() as tx:
        tx.exec_driver_sql("INSERT INTO bot_chat (bot_id, chat_id, admin) VALUES (%(b)s, %(c)s, true)", {"b": bot, "c": other})
    assert get(home, ann, add(home, ann, bot, other).data["id"])["unsub_window"] == 2_592_000


def test_a_supergroup_answers_to_the_number_it_had_as_a_group(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    home.world.set("chat", chat, former_tg_id=-chat)
    made = check(home.api.post("camp/add", ann.key, bot=bot, chat=-chat, welcome="Hi"))
    assert get(home, ann, made.data["id"])["chat"] == tg(home, chat)


@pytest.mark.parametrize(
    ("fields", "blamed"),
    [
        ({"welcome": "*Hi"}, "welcome"),
        ({"welcome": "x" * 4097}, "welcome"),
        ({"welcome": ""}, "welcome"),
        ({"button_text": "Go"}, "button_url"),
        ({"button_url": "https://t.example"}, "button_text"),
        ({"button_text": "x" * 65, "button_url": "https://t.example"}, "button_text"),
        ({"button_text": "Go", "button_url": "tg://resolve?domain=x"}, "button_url"),
        ({"pb_hold": "https://ann:secret@t.example"}, "pb_hold"),
        ({"pb_cancel": "https://{click}.t.example"}, "pb_cancel"),
        ({"pb_approve": "https://t.example/" + "x" * 2048}, "pb_approve"),
        ({"media": "unknown"}, "media"),
        ({"unsub_window": -1}, "unsub_window"),
        ({"unsub_window": 315_360_001}, "unsub_window"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_are_checked_when_they_are_saved(home: House, ann: Account, fields: dict[str, Any], blamed: str) -> None:
    bot, chat = place(home, ann)
    assert error(add(home, ann, bot, chat, **fields)) == ("invalid", blamed)
    campaign = home.world.campaign(ann, bot, chat, welcome="Hi")
    before = get(home, ann, campaign)
    assert do(home, ann, "edit", campaign, **fields) == ("invalid", blamed)
    assert get(home, ann, campaign) == before


def test_a_mistake_is_told_with_line_and_column(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    answer = add(home, ann, bot, chat, welcome="Hi\n  [there")
    assert answer.json["message"] == "The [ in line 2, column 3 is never closed."


def test_what_is_wrong_in_itself_is_told_before_what_is_absent(home: House, ann: Account) -> None:
    fields: dict[str, Any] = {"welcome": "Hi", "pb_wait": "x"}
    assert error(home.api.post("camp/add", ann.key, bot=2**40, chat=-1, **fields)) == ("invalid", "pb_wait")
    assert do(home, ann, "edit", 2**40, pb_wait="x") == ("invalid", "pb_wait")
    assert error(home.api.post("camp/add", ann.key, bot=2**40, chat=-1, welcome="Hi")) == ("notfound", "bot")


@pytest.mark.parametrize("ill", ["no administrator", "unknown chat", "disconnected", "revoked", "another's chat"])
def test_without_an_administrator_there_is_no_campaign(home: House, ann: Account, ill: str) -> None:
    bot, chat = place(home, ann)
    match ill:
        case "no administrator":
            home.db.execute("UPDATE bot_chat SET admin = false WHERE bot_id = %s", [bot])
        case "unknown chat":
            assert error(home.api.post("camp/add", ann.key, bot=bot, chat=-(2**40), welcome="Hi")) == ("nobot", "bot")
            return
        case "disconnected":
            home.db.execute("UPDATE bot SET disconnected = now() WHERE id = %s", [bot])
        case "revoked":
            home.world.set("bot", bot, token_revoked=True)
        case _:
            chat = home.world.chat()
            home.world.bot(ann, chat)
    assert error(add(home, ann, bot, chat)) == ("nobot", "bot")


def test_one_campaign_for_a_bot_and_a_chat_until_it_is_deleted(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    first = add(home, ann, bot, chat).data
    assert error(add(home, ann, bot, chat)) == ("exists", "chat")
    assert do(home, ann, "pause", first["id"]) is None
    assert error(add(home, ann, bot, chat)) == ("exists", "chat"), "a paused one is one, too"
    assert do(home, ann, "del", first["id"]) is None
    assert add(home, ann, bot, chat).data["code"] != first["code"]


def test_the_plan_limits_active_campaigns_and_nothing_else(home: House) -> None:
    ann = home.world.account(plan=PlanCode.KITTEN, lasts=None)
    bot, chat = place(home, ann)
    first = add(home, ann, bot, chat).data["id"]
    other_bot, other = place(home, ann)
    assert error(add(home, ann, other_bot, other)) == ("limit", "bot")
    assert do(home, ann, "pause", first) is None
    second = add(home, ann, other_bot, other).data["id"]
    assert do(home, ann, "resume", first) == ("limit", "id")
    assert do(home, ann, "resume", second) is None, "it is active already"
    assert do(home, ann, "del", second) is None
    assert do(home, ann, "resume", first) is None


def test_a_code_that_exists_is_not_taken_again(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    deleted = home.world.campaign(ann, *place(home, ann), status=CampaignStatus.DELETED)
    (code,) = home.db.execute("SELECT code FROM campaign WHERE id = %s", [deleted]).fetchone() or ("",)
    codes = iter([code, code, "fresh123"])
    with home.tables.begin() as tx:
        here = campaigns.lock_place(tx, ann.id, bot, tg(home, chat))
        assert here is not None
        assert campaigns.add(tx, ann.id, here, Settings(welcome="Hi"), 0, lambda: next(codes))[1] == "fresh123"
    with home.tables.begin() as tx, pytest.raises(campaigns.NoCode):
        campaigns.add(tx, ann.id, here, Settings(), 0, lambda: str(code))


def test_an_edit_changes_what_is_named_and_nothing_else(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    campaign = add(home, ann, bot, chat, **SETTINGS).data["id"]
    before = get(home, ann, campaign)

    assert do(home, ann, "edit", campaign, pb_wait="", unsub_window=60) is None
    assert get(home, ann, campaign) == {**before, "pb_wait": "", "unsub_window": 60}
    assert do(home, ann, "edit", campaign) is None
    assert do(home, ann, "edit", campaign, pb_wait="", unsub_window="60") is None
    assert get(home, ann, campaign) == {**before, "pb_wait": "", "unsub_window": 60}
    assert do(home, ann, "edit", campaign, button_text="") == ("invalid", "button_text"), "half a button would remain"
    assert do(home, ann, "edit", campaign, button_text="", button_url="") is None


def test_a_campaign_that_never_had_a_welcome_message_can_be_edited(home: House, ann: Account) -> None:
    campaign = home.world.campaign(ann, *place(home, ann))
    assert do(home, ann, "edit", campaign, pb_wait="https://t.example") is None
    assert do(home, ann, "edit", campaign, button_text="Go") == ("invalid", "button_url")
    assert do(home, ann, "edit", campaign, welcome="Hi") is None
    assert do(home, ann, "edit", campaign, welcome="") == ("invalid", "welcome")


def test_the_bot_and_the_chat_of_a_campaign_cannot_be_changed(home: House, ann: Account, ben: Account) -> None:
    bot, chat = place(home, ann)
    campaign = home.world.campaign(ann, bot, chat, welcome="Hi")
    own, foreign = home.world.bot(ann, chat), home.world.bot(ben, chat)
    answers = [home.api.post("camp/edit", ann.key, id=campaign, bot=other).body for other in (own, foreign, 2**40)]
    assert len(set(answers)) == 1
    assert do(home, ann, "edit", campaign, bot=own) == ("invalid", "bot")
    assert do(home, ann, "edit", campaign, chat=tg(home, home.world.chat())) == ("invalid", "chat")
    assert do(home, ann, "edit", campaign, bot=bot, chat=tg(home, chat), welcome="Ho") is None
    assert get(home, ann, campaign)["welcome"] == "Ho"


def test_media_are_the_accounts_own_or_came_with_a_campaign(home: House, ann: Account, ben: Account) -> None:
    bot, chat = place(home, ann)
    mine, his, inherited = media(home, ann, "mine"), media(home, ben, "his", 2), media(home, ben, "inherited", 2)
    received = home.world.campaign(ann, *place(home, ann), media=inherited)

    campaign = add(home, ann, bot, chat, media=mine, welcome="").data["id"]

    assert home.one("SELECT media_type FROM campaign WHERE id = %s", campaign) == 1
    assert (
        home.api.post("camp/edit", ann.key, id=campaign, media=his).body
        == home.api.post("camp/edit", ann.key, id=campaign, media="none").body
    )
    assert do(home, ann, "edit", campaign, media=inherited) is None
    assert home.one("SELECT media_type FROM campaign WHERE id = %s", campaign) == 2
    assert do(home, ann, "edit", received, welcome="Hi") is None, "its own it may keep"
    assert do(home, ann, "edit", campaign, welcome="x" * 1025) == ("invalid", "welcome"), "beside a picture there is less room"
    assert do(home, ann, "edit", campaign, welcome="x" * 1025, media="") is None
    assert home.one("SELECT media_type FROM campaign WHERE id = %s", campaign) == 0


def test_pauses_are_remembered_with_their_times(home: House, ann: Account) -> None:
    campaign = home.world.campaign(ann, *place(home, ann))
    pauses = "SELECT since, until FROM campaign_pause WHERE campaign_id = %s ORDER BY since"

    assert do(home, ann, "pause", campaign) is None
    ((since, until),) = home.db.execute(pauses, [campaign]).fetchall()
    assert until is None
    assert do(home, ann, "pause", campaign) is None, "the same once more"
    assert home.db.execute(pauses, [campaign]).fetchall() == [(since, None)]
    assert get(home, ann, campaign)["status"] == 1

    assert do(home, ann, "resume", campaign) is None
    ((_, until),) = home.db.execute(pauses, [campaign]).fetchall()
    assert until > since
    assert do(home, ann, "resume", campaign) is None
    assert do(home, ann, "pause", campaign) is None
    assert len(home.db.execute(pauses, [campaign]).fetchall()) == 2
    assert home.one("SELECT count(*) FROM campaign_pause WHERE until IS NULL AND campaign_id = %s", campaign) == 1


def test_a_campaign_of_a_disconnected_bot_is_not_resumed(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    campaign = home.world.campaign(ann, bot, chat, status=CampaignStatus.PAUSED)
    assert error(home.api.post("bots/del", ann.key, id=bot)) is None
    assert do(home, ann, "resume", campaign) == ("nobot", "id")
    assert do(home, ann, "pause", campaign) is None


def test_without_rights_it_is_resumed_all_the_same(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    campaign = home.world.campaign(ann, bot, chat, status=CampaignStatus.PAUSED)
    home.db.execute("UPDATE bot_chat SET admin = false WHERE bot_id = %s", [bot])
    assert do(home, ann, "resume", campaign) is None
    assert get(home, ann, campaign)["warning"] == 1


def test_a_deleted_campaign_is_gone_and_its_bot_held_it_all_the_same(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    campaign = home.world.campaign(ann, bot, chat, leads=3)
    assert do(home, ann, "del", campaign) is None
    deleted = home.db.execute("SELECT status, deleted FROM campaign WHERE id = %s", [campaign]).fetchone() or ()
    assert deleted[0] == CampaignStatus.DELETED
    assert deleted[1] is not None
    assert home.db.execute("SELECT to_date FROM campaign_bot WHERE campaign_id = %s", [campaign]).fetchall() == [(None,)]
    assert home.api.get("camp/list", ann.key).data == []
    for what in ("edit", "pause", "resume"):
        assert do(home, ann, what, campaign) == ("notfound", "id")
    assert error(home.api.get("camp/link", ann.key, id=campaign)) == ("notfound", "id")
    assert do(home, ann, "del", campaign) is None, "the same once more"
    assert home.db.execute("SELECT status, deleted FROM campaign WHERE id = %s", [campaign]).fetchone() == deleted


@contextmanager
def held(home: House, account: Account) -> Iterator[Callable[..., "Future[Any]"]]:
    """The account is held; what is started in the block waits for it, in the order of its starts. Answers are there after the block."""
    with ThreadPoolExecutor(4) as beside, connect(home.processes.database_url, name="holder") as holder, holder.transaction():
        holder.execute("SELECT 1 FROM account WHERE id = %s FOR NO KEY UPDATE", [account.id])
        waiting = 0

        def start(call: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
            nonlocal waiting
            waiting += 1
            future = beside.submit(call, *args, **kwargs)
            wait_for_blocked(home.db, waiting)
            return future

        yield start


@pytest.mark.parametrize("first", ["add", "transfer"])
def test_the_last_slot_goes_to_one_of_a_new_campaign_and_one_that_arrives(home: House, ann: Account, first: str) -> None:
    ben = home.world.account(plan=PlanCode.CAT)
    home.fill(ben, 14)
    bot, chat = place(home, ben)
    shared = home.world.chat()
    home.world.bot(ben, shared)
    arriving = home.world.campaign(ann, home.world.bot(ann, shared), shared)
    command = accept(home.db, Kind.CAMPAIGN, ann, arriving, ben.token)
    url = home.processes.database_url

    with held(home, ben) as start:
        if first == "add":
            answer = start(add, home, ben, bot, chat)
            start(decide_alone, url, command)
        else:
            start(decide_alone, url, command)
            answer = start(add, home, ben, bot, chat)

    expected = (None, refused("limit", "token")) if first == "add" else (("limit", "bot"), DONE)
    assert (error(answer.result()), ending(home.db, command)) == expected
    assert home.one("SELECT count(*) FROM campaign WHERE account_id = %s AND status = 0", ben.id) == 15


@pytest.mark.parametrize("first", ["resume", "transfer"])
def test_the_last_slot_goes_to_one_of_a_resumed_campaign_and_one_that_arrives(home: House, ann: Account, first: str) -> None:
    ben = home.world.account(plan=PlanCode.CAT)
    home.fill(ben, 14)
    paused = home.world.campaign(ben, *place(home, ben), status=CampaignStatus.PAUSED)
    shared = home.world.chat()
    home.world.bot(ben, shared)
    arriving = home.world.campaign(ann, home.world.bot(ann, shared), shared)
    command = accept(home.db, Kind.CAMPAIGN, ann, arriving, ben.token)
    url = home.processes.database_url

    with held(home, ben) as start:
        if first == "resume":
            answer = start(do, home, ben, "resume", paused)
            start(decide_alone, url, command)
        else:
            start(decide_alone, url, command)
            answer = start(do, home, ben, "resume", paused)

    expected = (None, refused("limit", "token")) if first == "resume" else (("limit", "id"), DONE)
    assert (answer.result(), ending(home.db, command)) == expected


def test_two_campaigns_for_one_place_are_one(home: House, ann: Account) -> None:
    bot, chat = place(home, ann)
    with held(home, ann) as start:
        answers = [start(add, home, ann, bot, chat) for _ in range(2)]
    assert [error(answer.result()) for answer in answers] == [None, ("exists", "chat")]


@pytest.mark.parametrize("first", ["del", "transfer"])
def test_a_bot_is_deleted_or_handed_over_but_not_both(home: House, ann: Account, ben: Account, first: str) -> None:
    bot, _ = home.world.bot_with_campaigns(ann, 1)
    command = accept(home.db, Kind.BOT, ann, bot, ben.token)
    url = home.processes.database_url

    with held(home, ann) as start:
        if first == "del":
            answer = start(home.api.post, "bots/del", ann.key, id=bot)
            start(decide_alone, url, command)
        else:
            start(decide_alone, url, command)
            answer = start(home.api.post, "bots/del", ann.key, id=bot)

    expected = (None, refused("notfound", "bot")) if first == "del" else (("notfound", "id"), DONE)
    assert (error(answer.result()), ending(home.db, command)) == expected


@pytest.mark.parametrize("what", ["edit", "pause", "resume", "del"])
def test_what_has_just_been_handed_over_cannot_be_changed_any_more(home: House, ann: Account, ben: Account, what: str) -> None:
    chat = home.world.chat()
    campaign = home.world.campaign(ann, home.world.bot(ann, chat), chat, welcome="Hi", status=int(what == "resume"))
    home.world.bot(ben, chat)
    command = accept(home.db, Kind.CAMPAIGN, ann, campaign, ben.token)
    with held(home, ann) as start:
        start(decide_alone, home.processes.database_url, command)
        answer = start(do, home, ann, what, campaign)
    assert (answer.result(), ending(home.db, command)) == (("notfound", "id"), DONE)


def test_a_campaign_that_is_being_worked_on_is_deleted_after_it(home: House, ann: Account) -> None:
    """As the ingest holds it: what it commits is dated before the deletion."""
    campaign = home.world.campaign(ann, *place(home, ann))
    with ThreadPoolExecutor(1) as beside:
        with connect(home.processes.database_url, name="ingest") as ingest, ingest.transaction():
            ingest.execute("SELECT 1 FROM campaign WHERE id = %s FOR NO KEY UPDATE", [campaign])
            answer = beside.submit(do, home, ann, "del", campaign)
            wait_for_blocked(home.db, 1)
            ((worked_at,),) = ingest.execute("SELECT clock_timestamp()").fetchall()
        assert answer.result() is None
    assert home.db.execute("SELECT deleted > %s FROM campaign WHERE id = %s", [worked_at, campaign]).fetchone() == (True,)


@pytest.mark.parametrize("first", ["demotion", "add"])
def test_a_bot_loses_its_rights_while_a_campaign_is_made(home: House, ann: Account, first: str) -> None:
    """Whoever changes what a bot may do in a chat holds the bot."""
    bot, chat = place(home, ann)
    demote = "UPDATE bot_chat SET admin = false WHERE bot_id = %s"
    if first == "add":
        made = add(home, ann, bot, chat).data["id"]
        home.db.execute(demote, [bot])
        assert get(home, ann, made)["warning"] == 1
        return
    with ThreadPoolExecutor(1) as beside:
        with connect(home.processes.database_url, name="ingest") as ingest, ingest.transaction():
            ingest.execute("SELECT 1 FROM bot WHERE id = %s FOR NO KEY UPDATE", [bot])
            answer = beside.submit(add, home, ann, bot, chat)
            wait_for_blocked(home.db, 1)
            ingest.execute(demote, [bot])
        assert error(answer.result()) == ("nobot", "bot")
