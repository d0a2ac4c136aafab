"""What answers look like: fields, dates, pages, filters, states, languages."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import insert

from services.gateway.app import ENDPOINTS
from shared.db import schema
from shared.domain.campaigns import CampaignStatus
from shared.domain.notices import Language
from shared.domain.plans import PlanCode
from shared.local import Services
from tests.api import Answer
from tests.flow.test_api_envelope import DATE, House, check, error, house
from tests.world import Account

CAMPAIGN_FIELDS: Final = [
    "id",
    "code",
    "bot",
    "bot_username",
    "chat",
    "chat_title",
    "status",
    "warning",
    "starts",
    "confirms",
    "unsubs",
    "created",
]
POSTBACKS: Final = ["pb_wait", "pb_hold", "pb_approve", "pb_cancel", "pb_trash"]
NEVER: Final = "0000-00-00 00:00:00"


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The database's sessions, which begin with the first request, have a zone of their own that no answer may show."""
    with house(local, template, tmp_path_factory.mktemp("formats")) as home:
        home.db.execute(f"ALTER DATABASE {home.db.info.dbname} SET timezone TO 'Asia/Kolkata'")
        yield home


def read(home: House, account: Account, path: str, **query: object) -> Any:
    """The answer as read, checked to be ok."""
    answer = check(home.api.get(path, account.key, **query))
    assert answer.error is None, answer.body
    return answer.json


def test_the_profile_has_its_fields_and_no_others(home: House) -> None:
    ann = home.world.account("Ann", plan=PlanCode.CAT)
    paid_until = datetime(2099, 12, 31, 23, 59, 58, 999_999, UTC)
    home.world.set("account", ann.id, login="ann_tg", lang="ru", paid_until=paid_until, pb_hold="https://t.example/h", notify_tariff=False)
    _, campaigns = home.world.bot_with_campaigns(ann, 3)
    home.world.set("campaign", campaigns[0], status=CampaignStatus.PAUSED)
    home.world.set("campaign", campaigns[1], status=CampaignStatus.DELETED)

    assert read(home, ann, "profile/info") == {
        "status": "ok",
        "data": {
            "id": ann.id,
            "name": "Ann",
            "login": "ann_tg",
            "lang": "ru",
            "tariff": "cat",
            "tariff_name": "Kitty",
            "tariff_campaigns": 15,
            "paid_until": "2099-12-31 23:59:58",
            "campaigns": 2,
            "pb_wait": "",
            "pb_hold": "https://t.example/h",
            "pb_approve": "",
            "pb_cancel": "",
            "pb_trash": "",
            "notify": {"tariff": 0, "leads": 0},
        },
    }


def test_never_is_the_zero_date_and_unlimited_is_minus_one(home: House) -> None:
    free, tiger = home.world.account(plan=PlanCode.KITTEN, lasts=None), home.world.account(plan=PlanCode.TIGER)
    profile = read(home, free, "profile/info")["data"]
    assert (profile["tariff"], profile["tariff_campaigns"], profile["paid_until"]) == ("kitten", 1, NEVER)
    profile = read(home, tiger, "profile/info")["data"]
    assert (profile["tariff_name"], profile["tariff_campaigns"]) == ("Tiger", -1)


def test_dates_are_utc_whatever_the_databases_zone(home: House) -> None:
    ann = home.world.account()
    bot = home.world.bot(ann)
    home.world.set("bot", bot, created=datetime(2026, 3, 1, 1, 2, 3, tzinfo=UTC))
    (row,) = read(home, ann, "bots/list")["data"]
    assert row["created"] == "2026-03-01 01:02:03"


def test_the_price_list_is_the_three_rows_of_the_description(home: House) -> None:
    assert read(home, home.world.account(), "tariff/list") == {
        "status": "ok",
        "data": [
            {"code": "kitten", "name": "Kitten", "campaigns": 1, "price_usd": 0, "price_rub": 0},
            {"code": "cat", "name": "Kitty", "campaigns": 15, "price_usd": 24, "price_rub": 2400},
            {"code": "tiger", "name": "Tiger", "campaigns": -1, "price_usd": 88, "price_rub": 8800},
        ],
    }


def test_a_bot_shows_what_is_wrong_with_it(home: House) -> None:
    ann = home.world.account()
    fine, [_] = home.world.bot_with_campaigns(ann, 1)
    dismissed, [campaign] = home.world.bot_with_campaigns(ann, 1)
    never_admin = home.world.bot(ann)
    home.world.campaign(ann, never_admin, home.world.chat())
    past, [deleted] = home.world.bot_with_campaigns(ann, 1)
    paused, [resting] = home.world.bot_with_campaigns(ann, 1)
    revoked = home.world.bot(ann)
    both, [_] = home.world.bot_with_campaigns(ann, 1)
    gone, [_] = home.world.bot_with_campaigns(ann, 1)
    idle = home.world.bot(ann, home.world.chat())
    home.world.set("campaign", deleted, status=CampaignStatus.DELETED)
    home.world.set("campaign", resting, status=CampaignStatus.PAUSED)
    for bot in (revoked, both, gone):
        home.world.set("bot", bot, token_revoked=True)
    home.world.set("bot", gone, disconnected=datetime(2026, 1, 1, tzinfo=UTC))
    dismiss(home, dismissed, past, paused, both, gone, idle)

    answer = read(home, ann, "bots/list")

    assert answer["total"] == 9
    assert [list(row) for row in answer["data"]] == [["id", "tg", "username", "name", "status", "reason", "created"]] * 9
    assert {row["id"]: (row["status"], row["reason"]) for row in answer["data"]} == {
        fine: (0, ""),
        dismissed: (1, "admin"),
        never_admin: (1, "admin"),
        past: (0, ""),
        paused: (1, "admin"),
        revoked: (1, "token"),
        both: (1, "token"),
        gone: (3, ""),
        idle: (0, ""),
    }
    warned = {row["bot"]: row["warning"] for row in read(home, ann, "camp/list")["data"]}
    assert warned == {fine: 0, dismissed: 1, never_admin: 1, paused: 1, both: 1, gone: 1}
    assert read(home, ann, "camp/get", id=campaign)["data"]["warning"] == 1


def dismiss(home: House, *bots: int) -> None:
    """The bots are administrators nowhere any more."""
    home.db.execute("UPDATE bot_chat SET admin = false WHERE bot_id = ANY(%s)", [list(bots)])


def test_another_bots_rights_in_the_chat_do_not_help(home: House) -> None:
    ann = home.world.account()
    chat = home.world.chat()
    home.world.bot(ann, chat)
    bot = home.world.bot(ann)
    home.world.campaign(ann, bot, chat)
    assert [row["warning"] for row in read(home, ann, "camp/list")["data"]] == [1]


def test_a_campaign_has_the_fields_of_a_list_and_all_of_them(home: House) -> None:
    ann = home.world.account()
    chat = home.world.chat("News & <b>views</b>")
    bot = home.world.bot(ann, chat)
    campaign = home.world.campaign(
        ann, bot, chat, leads=20, status=CampaignStatus.PAUSED, welcome="*Hi* «друг»", button_text="Go", pb_trash="https://t.example"
    )
    home.world.set("campaign", campaign, created=datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC))

    (listed,) = read(home, ann, "camp/list")["data"]
    got = read(home, ann, "camp/get", id=campaign)["data"]

    assert list(listed) == CAMPAIGN_FIELDS
    assert list(got) == [*CAMPAIGN_FIELDS, "welcome", "media", "button_text", "button_url", *POSTBACKS, "unsub_window"]
    assert {name: got[name] for name in listed} == listed
    (username, chat_id), (code,) = (
        home.db.execute("SELECT username, (SELECT tg_id FROM chat WHERE id = %s) FROM bot WHERE id = %s", [chat, bot]).fetchone() or (),
        home.db.execute("SELECT code FROM campaign WHERE id = %s", [campaign]).fetchone() or (),
    )
    assert got == {
        "id": campaign,
        "code": code,
        "bot": bot,
        "bot_username": username,
        "chat": chat_id,
        "chat_title": "News & <b>views</b>",
        "status": 1,
        "warning": 0,
        "starts": 20,
        "confirms": 14,
        "unsubs": 6,
        "created": "2026-02-28 23:59:59",
        "welcome": "*Hi* «друг»",
        "media": "",
        "button_text": "Go",
        "button_url": "",
        **dict.fromkeys(POSTBACKS, ""),
        "pb_trash": "https://t.example",
        "unsub_window": 2_592_000,
    }


def test_deleted_campaigns_are_in_no_list_and_cannot_be_got(home: House) -> None:
    ann = home.world.account()
    _, (kept, deleted) = home.world.bot_with_campaigns(ann, 2)
    home.world.set("campaign", deleted, status=CampaignStatus.DELETED)

    answer = read(home, ann, "camp/list")
    assert ([row["id"] for row in answer["data"]], answer["total"]) == ([kept], 1)
    assert read(home, ann, "profile/info")["data"]["campaigns"] == 1
    gone, absent = (home.api.get("camp/get", ann.key, id=i) for i in (deleted, 2**40))
    assert gone.body == absent.body
    assert error(gone) == ("notfound", "id")


def add_lead(home: House, campaign: int, subscriber: int, start: datetime, status: int = 0, **values: object) -> int:
    """A lead as tracking would leave it, its counters too."""
    counter = ("n_wait", "n_hold", "n_approve", "n_cancel", "n_trash")[status]
    row = {"campaign_id": campaign, "epoch": 0, "subscriber": subscriber, "status": status, "start_time": start, **values}
    with home.tables.begin() as tx:
        added = insert(schema.lead).values(row).returning(schema.lead.c.id)
        home.db.execute(f"UPDATE lead_counter SET {counter} = {counter} + 1, starts = starts + 1 WHERE campaign_id = %s", [campaign])
        return int(tx.execute(added).scalar_one())


START: Final = datetime(2026, 4, 1, tzinfo=UTC)
UNIX: Final = int(START.timestamp())


@pytest.fixture(scope="module")
def busy(home: House) -> tuple[Account, list[int], list[int]]:
    """An account with two campaigns and ten leads, the n-th started n seconds after START, in turn in each campaign, in statuses 0 to 4."""
    ann = home.world.account()
    _, campaigns = home.world.bot_with_campaigns(ann, 2)
    leads = [add_lead(home, campaigns[n % 2], 100 + n, START + timedelta(seconds=n), status=n % 5) for n in range(10)]
    stranger = home.world.account()
    home.world.bot_with_campaigns(stranger, 1, leads=30)
    return ann, campaigns, leads


def test_a_lead_has_its_fields(home: House) -> None:
    ann = home.world.account()
    _, (campaign,) = home.world.bot_with_campaigns(ann, 1)
    joined = {"join_time": START + timedelta(seconds=61, milliseconds=900), "updated": START + timedelta(days=1)}
    first = add_lead(home, campaign, 2**40, START, status=2, username="ann", click="a-b%2F é", **joined)
    second = add_lead(home, campaign, 7, START, updated=START)

    assert read(home, ann, "leads/list") == {
        "status": "ok",
        "data": [
            {"id": second, "campaign": campaign, "subscriber": 7, "username": "", "click": "", "status": 0}
            | {"start_time": "2026-04-01 00:00:00", "join_time": NEVER, "updated": "2026-04-01 00:00:00"},
            {"id": first, "campaign": campaign, "subscriber": 2**40, "username": "ann", "click": "a-b%2F é", "status": 2}
            | {"start_time": "2026-04-01 00:00:00", "join_time": "2026-04-01 00:01:01", "updated": "2026-04-02 00:00:00"},
        ],
        "total": 2,
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ({"status": 3}, [8, 3]),
        ({"status": 0}, [5, 0]),
        ({"from": UNIX + 3}, [9, 8, 7, 6, 5, 4, 3]),
        ({"to": UNIX + 3}, [2, 1, 0]),
        ({"from": UNIX + 3, "to": UNIX + 3}, []),
        ({"from": UNIX + 3, "to": UNIX + 4}, [3]),
        ({"from": UNIX + 4, "to": UNIX + 3}, []),
        ({"from": UNIX, "to": UNIX + 10, "status": 1}, [6, 1]),
        ({"from": 0, "to": 253_402_300_799}, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("of_campaign", [None, 0, 1])
def test_filters_of_leads_hold_and_their_totals_are_exact(
    home: House, busy: tuple[Account, list[int], list[int]], query: dict[str, object], expected: list[int], of_campaign: int | None
) -> None:
    ann, campaigns, leads = busy
    if of_campaign is not None:
        query, expected = {**query, "campaign": campaigns[of_campaign]}, [n for n in expected if n % 2 == of_campaign]

    answer = read(home, ann, "leads/list", **query)
    assert [leads.index(row["id"]) for row in answer["data"]] == expected
    assert answer["total"] == len(expected)

    page = read(home, ann, "leads/list", **query, limit=2, offset=1)
    assert [leads.index(row["id"]) for row in page["data"]] == expected[1:3]
    assert page["total"] == len(expected), "the total is of the filter and not of the page"


def test_after_goes_on_where_a_page_ended(home: House, busy: tuple[Account, list[int], list[int]]) -> None:
    ann, _, leads = busy
    seen: list[int] = []
    while rows := read(home, ann, "leads/list", limit=3, **({"after": seen[-1]} if seen else {}))["data"]:
        seen += [row["id"] for row in rows]
    assert seen == leads[::-1]
    assert read(home, ann, "leads/list", after=leads[0])["data"] == []
    assert read(home, ann, "leads/list", after=leads[4])["total"] == 10


def test_the_leads_of_an_epoch_that_ended_count_nowhere(home: House) -> None:
    ann = home.world.account()
    _, (campaign,) = home.world.bot_with_campaigns(ann, 1, leads=10)
    home.world.set("campaign", campaign, lead_epoch=1)
    for query in ({}, {"campaign": campaign}, {"status": 2}, {"from": 0}):
        assert read(home, ann, "leads/list", **query) == {"status": "ok", "data": [], "total": 0}
    listed = read(home, ann, "camp/list")["data"][0]
    assert (listed["starts"], listed["confirms"], listed["unsubs"]) == (0, 0, 0)


def chatty(home: House, account: Account) -> int:
    """The account's first bot."""
    return home.one("SELECT min(id) FROM bot WHERE account_id = %s", account.id)


def of(home: House, account: Account, path: str) -> dict[str, object]:
    """What a list is of, if it is of one thing."""
    return {"bot": chatty(home, account)} if path == "bots/chats" else {}


@pytest.fixture(scope="module")
def crowded(home: House) -> Account:
    """An account with 205 of everything that is listed."""
    ann, ben = home.world.account(), home.world.account()
    chat = home.world.chat()
    for number in range(205):
        home.world.campaign(ann, home.world.bot(ann, chat), chat, leads=1 if number else 205)
    home.db.execute("INSERT INTO chat (tg_id, type, title) SELECT -5000 - n, 'channel', 'Free ' || n FROM generate_series(1, 205) n")
    home.db.execute(
        "INSERT INTO bot_chat (bot_id, chat_id, admin) SELECT %s, id, true FROM chat WHERE title LIKE 'Free %%'", [chatty(home, ann)]
    )
    home.db.execute(
        """INSERT INTO notice (account_id, kind, params) SELECT %s, 'transfer_sent', '{"object": "bot", "title": "@b", "campaigns": 0,
           "leads": 0, "keep": 1, "own": 0, "global": 0, "other": "Ben"}' FROM generate_series(1, 205)""",
        [ann.id],
    )
    home.db.execute(
        """INSERT INTO command (id, kind, account_id, object_id, token, keep_leads, state, reason, field, created, finished)
           SELECT gen_random_uuid(), 'bot', %s, n, %s, true, 'refused', 'limit', 'token', now() + n * interval '1 s', now()
           FROM generate_series(1, 205) n""",
        [ann.id, ben.token],
    )
    return ann


TOTALS: Final = {"bots/list": 205, "bots/chats": 205, "camp/list": 205, "leads/list": 409, "notices/list": 205, "transfer/list": 205}


def test_every_list_is_covered_here() -> None:
    listed = {e.path.removeprefix("/api/").removesuffix(".json") for e in ENDPOINTS if "limit" in e.model.model_fields}
    assert listed == set(TOTALS)


@pytest.mark.parametrize("path", TOTALS)
def test_a_page_is_50_rows_at_most_200_and_has_the_total_beside_it(home: House, crowded: Account, path: str) -> None:
    thing = of(home, crowded, path)
    usual = read(home, crowded, path, **thing)
    most = read(home, crowded, path, **thing, limit=1000)
    assert list(usual) == ["status", "data", "total"]
    assert (len(usual["data"]), len(most["data"])) == (50, 200)
    assert most == read(home, crowded, path, **thing, limit=200)
    assert usual["data"] == most["data"][:50]
    assert usual["total"] == most["total"] == TOTALS[path]


@pytest.mark.parametrize("path", TOTALS)
def test_pages_join_without_gap_or_overlap(home: House, crowded: Account, path: str) -> None:
    thing = of(home, crowded, path)
    whole = read(home, crowded, path, **thing, limit=200)["data"]
    parts = [read(home, crowded, path, **thing, limit=67, offset=offset)["data"] for offset in (0, 67, 134)]
    assert [row for part in parts for row in part][:200] == whole
    last = read(home, crowded, path, **thing, limit=200, offset=TOTALS[path] - 1)
    assert (len(last["data"]), last["total"]) == (1, TOTALS[path])
    assert read(home, crowded, path, **thing, offset=TOTALS[path]) == {"status": "ok", "data": [], "total": TOTALS[path]}


@pytest.mark.parametrize("path", ["leads/list", "notices/list"])
def test_newest_come_first(home: House, crowded: Account, path: str) -> None:
    ids = [row["id"] for row in read(home, crowded, path, limit=200)["data"]]
    assert ids == sorted(ids, reverse=True)


def test_the_newest_transfers_come_first(home: House, crowded: Account) -> None:
    assert [row["object"] for row in read(home, crowded, "transfer/list", limit=3)["data"]] == [205, 204, 203]


def every_value(read: object) -> Iterator[object]:
    match read:
        case dict():
            for value in read.values():
                yield from every_value(value)
        case list():
            for value in read:
                yield from every_value(value)
        case _:
            yield read


@pytest.mark.parametrize("path", [*TOTALS, "profile/info", "tariff/list", "transfer/token"])
def test_text_is_never_null_money_is_whole_and_dates_have_one_form(home: House, crowded: Account, path: str) -> None:
    for value in every_value(read(home, crowded, path, **of(home, crowded, path))):
        assert isinstance(value, str | int)
        assert not isinstance(value, bool), "flags are 0 or 1"
        if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
            assert DATE.fullmatch(value)


def resolve(home: House, account: Account) -> Answer:
    return home.api.get("transfer/resolve", home.world.account().key, token=account.token)


@pytest.mark.parametrize(
    ("plan", "lasts", "active", "paused", "paid", "slots"),
    [
        (PlanCode.TIGER, 30, 0, 0, True, -1),
        (PlanCode.TIGER, 30, 3, 0, True, -1),
        (PlanCode.CAT, 30, 0, 0, True, 15),
        (PlanCode.CAT, 30, 3, 2, True, 12),
        (PlanCode.CAT, 30, 15, 0, True, 0),
        (PlanCode.CAT, 30, 16, 0, True, 0),
        (PlanCode.CAT, -1, 3, 0, False, 12),
        (PlanCode.TIGER, -1, 3, 0, False, -1),
        (PlanCode.TIGER, -400, 0, 0, False, -1),
        (PlanCode.KITTEN, None, 0, 0, False, 1),
        (PlanCode.KITTEN, None, 2, 0, False, 0),
        (PlanCode.KITTEN, 30, 1, 0, False, 0),
    ],
)
def test_a_token_resolves_to_a_name_and_whether_it_could_receive(
    home: House, plan: PlanCode, lasts: int | None, active: int, paused: int, paid: bool, slots: int
) -> None:
    ben = home.world.account("Ben Q.", plan=plan, lasts=None if lasts is None else timedelta(days=lasts))
    home.world.bot_with_campaigns(ben, active)
    home.world.bot_with_campaigns(ben, paused, status=CampaignStatus.PAUSED)
    home.world.bot_with_campaigns(ben, 1, status=CampaignStatus.DELETED)

    assert check(resolve(home, ben)).json == {"status": "ok", "data": {"name": "Ben Q.", "paid": paid, "slots": slots}}


def test_the_token_of_a_suspended_account_is_no_more_than_an_unknown_one(home: House) -> None:
    ben = home.world.account()
    home.world.set("account", ben.id, suspended=True)
    suspended, unknown = resolve(home, ben), home.api.get("transfer/resolve", home.world.account().key, token="A" * 22)
    assert error(suspended) == ("notfound", "token")
    assert suspended.body == unknown.body


def test_a_regenerated_token_is_found_and_the_old_one_is_not(home: House) -> None:
    ben = home.world.account("Ben")
    fresh = check(home.api.post("transfer/token", ben.key)).data["token"]
    assert re.fullmatch("[A-Za-z0-9]{22}", fresh)
    assert fresh != ben.token
    assert error(resolve(home, ben)) == ("notfound", "token")
    assert check(home.api.get("transfer/resolve", ben.key, token=fresh)).data["name"] == "Ben"
    assert check(home.api.get("transfer/token", ben.key)).data == {"token": fresh}


@pytest.mark.parametrize(
    ("lang", "expected"),
    [
        ("en", "You received bot @some_bot with its campaigns (2) from Ann. Leads moved along: 5. "),
        ("ru", "Вы получили бота @some_bot с кампаниями (2) от Ann. Лидов передано: 5. "),
    ],
)
def test_notices_are_in_the_language_of_their_owner(home: House, lang: Language, expected: str) -> None:
    ben = home.world.account()
    home.world.set("account", ben.id, lang=lang)
    params = {"object": "bot", "title": "@some_bot", "campaigns": 2, "leads": 5, "keep": 1, "own": 0, "global": 0, "other": "Ann"}
    with home.tables.begin() as tx:
        tx.execute(insert(schema.notice).values(account_id=ben.id, kind="transfer_received", params=params, created=START))

    (row,) = read(home, ben, "notices/list")["data"]

    assert list(row) == ["id", "kind", "text", "time", "delivered"]
    assert (row["kind"], row["time"], row["delivered"]) == ("transfer_received", "2026-04-01 00:00:00", "0000-00-00 00:00:00")
    assert row["text"].startswith(expected)


def test_an_error_says_what_in_a_word_which_in_a_field_and_why_in_a_sentence(home: House) -> None:
    ann = home.world.account()
    answer = home.api.get("camp/get", ann.key, id="x")
    assert list(answer.json) == ["status", "error", "field", "message"]
    assert list(home.api.get("nothing", ann.key).json) == ["status", "error", "message"]


def test_chats_and_titles_come_back_letter_for_letter(home: House) -> None:
    ann = home.world.account("Ann \"the\" <Ant> & 'Co' \u202e 🐈\n\\")
    title = '\u0001 tab\t quote" back\\ 🐈 é \u2028 \ud7ff \ue000'
    chat = home.world.chat(title)
    bot = home.world.bot(ann, chat)
    home.world.campaign(ann, bot, chat)
    assert read(home, ann, "profile/info")["data"]["name"] == ann.name
    assert read(home, ann, "camp/list")["data"][0]["chat_title"] == title
