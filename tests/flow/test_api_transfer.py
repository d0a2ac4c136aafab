"""Every rule of a transfer, through every process: who may send what to whom, what moves, and what both sides see of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final, Literal

import pytest

from shared.domain.campaigns import CampaignStatus
from shared.domain.plans import PlanCode
from shared.local import Services
from tests.api import Answer
from tests.flow.test_api_envelope import House, check, error, house
from tests.stack import eventually
from tests.world import Account

Kind = Literal["bot", "camp"]
KINDS: Final[tuple[Kind, Kind]] = ("bot", "camp")
GONE: Final = datetime(2026, 1, 1, tzinfo=UTC)
TRANSFER: Final = "gatepost-transfer"


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(local, template, tmp_path_factory.mktemp("transfer"), whole=True) as home:
        yield home


@dataclass(slots=True)
class Scene:
    """Ann has a bot with one campaign, Ben a bot that is an administrator of its chat; nothing is in the way."""

    home: House
    kind: Kind
    ann: Account
    ben: Account
    chat: int
    bot: int
    camp: int
    seat: int
    token: str

    @property
    def thing(self) -> int:
        return self.bot if self.kind == "bot" else self.camp

    def fields(self, **changed: object) -> dict[str, Any]:
        return {self.kind: self.thing, "token": self.token, "leads": 1, **changed}

    def post(self, *, key: str | None = None, form: bool = False, **changed: object) -> Answer:
        return check(self.home.api.post(f"transfer/{self.kind}", self.ann.key, idempotency_key=key, form=form, **self.fields(**changed)))

    def preview(self, **changed: object) -> Answer:
        return check(self.home.api.get("transfer/preview", self.ann.key, **self.fields(**changed)))

    def reasons(self) -> list[tuple[str, str]]:
        return [(reason["error"], reason["field"]) for reason in self.preview().data["reasons"]]

    def owners(self) -> tuple[int, int]:
        """Whose the bot and the campaign are."""
        return tuple(self.home.one(f"SELECT account_id FROM {t} WHERE id = %s", i) for t, i in (("bot", self.bot), ("campaign", self.camp)))  # type: ignore[return-value]


def scene(home: House, kind: Kind, *, plan: PlanCode = PlanCode.CAT, lasts: timedelta | None = timedelta(days=1), **settings: Any) -> Scene:
    ann, ben = home.world.account("Ann Sender"), home.world.account("Ben Receiver", plan=plan, lasts=lasts)
    chat = home.world.chat()
    bot, seat = home.world.bot(ann, chat), home.world.bot(ben, chat)
    camp = home.world.campaign(ann, bot, chat, **settings)
    return Scene(home, kind, ann, ben, chat, bot, camp, seat, ben.token)


def no_longer_admin(home: House, bot: int) -> None:
    home.db.execute("UPDATE bot_chat SET admin = false WHERE bot_id = %s", [bot])


def read(home: House, account: Account, path: str, **query: object) -> Any:
    answer = check(home.api.get(path, account.key, **query))
    assert answer.error is None, answer.body
    return answer.json


def rows(home: House, account: Account, path: str, **query: object) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = read(home, account, path, **query)["data"]
    return listed


def count(home: House) -> dict[str, int]:
    """How many rows there are, wake-ups aside, which go when they have been published."""
    return {table: number for table, number in home.count().items() if table != "outbox"}


# Every reason, alone and with others


@dataclass(frozen=True, slots=True)
class Flaws:
    """What is wrong with a transfer, in the order of the checks."""

    kind: Kind
    token: bool
    thing: bool
    self: bool
    unpaid: bool
    limit: bool
    seat: Literal["", "nobot", "exists"]

    def __str__(self) -> str:
        named = [name for name in ("token", "thing", "self", "unpaid", "limit") if getattr(self, name)]
        return " ".join([self.kind, *named, self.seat]).strip()

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Every reason of the description, in its order."""
        seat = self.seat or ("exists" if self.self and self.kind == "camp" else "")  # one's own bot there has the campaign itself
        flaws = {
            ("notfound", "token"): self.token,
            ("notfound", self.kind): self.thing,
            ("self", "token"): self.self,
            ("unpaid", "token"): self.unpaid,
            ("limit", "token"): self.limit,
            (seat, "token"): bool(seat),
        }
        return [reason for reason, there in flaws.items() if there]

    def set_up(self, home: House) -> Scene:
        made = scene(home, self.kind)
        recipient, seat = (made.ann, made.bot) if self.self else (made.ben, made.seat)
        made.token = recipient.token
        home.world.set("account", made.ann.id, plan="cat")
        if self.unpaid:
            home.world.set("account", recipient.id, paid_until=datetime.now(UTC) - timedelta(seconds=1))
        if self.limit:
            home.fill(recipient, 15)
        if self.seat == "nobot":
            no_longer_admin(home, seat)
        if self.seat == "exists" and not self.self:
            other = home.world.bot(home.world.account(), made.chat)
            home.world.campaign(home.world.account(), other, made.chat)
            home.world.campaign(recipient, seat, made.chat, status=CampaignStatus.PAUSED)
        if self.thing:
            made.bot, made.camp = home.world.bot(home.world.account()), 2**40
        if self.token:
            made.token = "A" * 22
        return made


YES_NO: Final = (False, True)
ALL_FLAWS: Final = [
    flaws
    for flaws in (Flaws(*values) for values in product(KINDS, YES_NO, YES_NO, YES_NO, YES_NO, YES_NO, ("", "nobot", "exists")))  # type: ignore[arg-type]
    if not (flaws.kind == "bot" and flaws.seat)
    and not (flaws.token and (flaws.self or flaws.unpaid or flaws.limit or flaws.seat))  # of an unknown recipient nothing is known
    and not (flaws.thing and (flaws.limit or flaws.seat))  # nor how much room an unknown thing takes
]


@pytest.mark.parametrize("flaws", ALL_FLAWS, ids=str)
def test_the_first_reason_is_the_answer_and_a_preview_lists_them_all(home: House, flaws: Flaws) -> None:
    made = flaws.set_up(home)
    before = count(home)

    preview = made.preview()
    if flaws.thing:
        assert preview.error == flaws.reasons[0]
    else:
        assert [(reason["error"], reason["field"]) for reason in preview.data["reasons"]] == flaws.reasons
    assert count(home) == before, "a preview writes nothing"

    answer = made.post()
    assert answer.error == (flaws.reasons[0] if flaws.reasons else None)
    if flaws.reasons:
        assert count(home) == {**before, "command": before["command"] + 1}, "a refusal writes its command and nothing else"
        if not flaws.thing:
            assert answer.json["message"] == preview.data["reasons"][0]["message"]


def test_there_are_cases_for_each_reason_and_for_many_at_once() -> None:
    assert len(ALL_FLAWS) > 40
    assert {reason for flaws in ALL_FLAWS for reason, _ in flaws.reasons} == {"notfound", "self", "unpaid", "limit", "nobot", "exists"}
    assert max(len(flaws.reasons) for flaws in ALL_FLAWS) == 4


def a_token_in_other_letters(made: Scene) -> None:
    made.token = made.token.swapcase()


def a_suspended_recipient(made: Scene) -> None:
    made.home.world.set("account", made.ben.id, suspended=True)


def a_regenerated_token(made: Scene) -> None:
    check(made.home.api.post("transfer/token", made.ben.key))


def an_api_key_for_a_token(made: Scene) -> None:
    made.token = made.ben.key


def a_token_with_a_space(made: Scene) -> None:
    made.token += " "


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "spoil", [a_token_in_other_letters, a_suspended_recipient, a_regenerated_token, an_api_key_for_a_token, a_token_with_a_space]
)
def test_a_token_that_names_nobody_is_not_found(home: House, kind: Kind, spoil: Callable[[Scene], None]) -> None:
    made = scene(home, kind)
    spoil(made)
    assert made.reasons() == [("notfound", "token")]
    assert made.post().error == ("notfound", "token")
    assert made.owners() == (made.ann.id, made.ann.id)


@pytest.mark.parametrize("kind", KINDS)
def test_whose_plan_ran_out_this_second_cannot_receive_and_can_still_send(home: House, kind: Kind) -> None:
    made = scene(home, kind, lasts=timedelta(seconds=-1))
    assert made.post().error == ("unpaid", "token")
    home.world.set("account", made.ben.id, paid_until=datetime.now(UTC) + timedelta(minutes=1))
    home.world.set("account", made.ann.id, paid_until=datetime.now(UTC) - timedelta(days=6, hours=23))
    assert made.post().error is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lasts", [None, timedelta(days=30)])
def test_the_free_plan_cannot_receive_whatever_its_date(home: House, kind: Kind, lasts: timedelta | None) -> None:
    made = scene(home, kind, plan=PlanCode.KITTEN, lasts=lasts)
    assert made.post().error == ("unpaid", "token")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sender_on_the_free_plan_above_its_limit_may_send(home: House, kind: Kind) -> None:
    made = scene(home, kind)
    home.fill(made.ann, 5)
    home.world.set("account", made.ann.id, plan="kitten", paid_until=None)
    assert made.post().error is None


# Slots


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [CampaignStatus.ACTIVE, CampaignStatus.PAUSED])
def test_the_last_slot_is_enough_and_none_is_not_for_paused_campaigns_too(home: House, kind: Kind, status: CampaignStatus) -> None:
    made = scene(home, kind, status=status)
    home.fill(made.ben, 15)
    assert (made.reasons(), made.post().error) == ([("limit", "token")], ("limit", "token"))
    home.db.execute("UPDATE campaign SET status = 1 WHERE id = (SELECT min(id) FROM campaign WHERE account_id = %s)", [made.ben.id])
    assert (made.reasons(), made.post().error) == ([], None)


def test_a_bot_without_campaigns_moves_to_an_account_with_16_active_of_15(home: House) -> None:
    made = scene(home, "bot")
    home.fill(made.ben, 16)
    assert (made.reasons(), made.post().error) == ([("limit", "token")], ("limit", "token"))
    home.world.set("campaign", made.camp, status=CampaignStatus.DELETED)
    assert (made.reasons(), made.post().error) == ([], None)
    assert made.owners() == (made.ben.id, made.ann.id), "the deleted campaign stays behind"


def test_every_campaign_of_a_bot_needs_a_slot_of_its_own(home: House) -> None:
    ann, ben = home.world.account(), home.world.account(plan=PlanCode.CAT)
    bot, campaigns = home.world.bot_with_campaigns(ann, 4)
    home.world.set("campaign", campaigns[0], status=CampaignStatus.PAUSED)
    home.fill(ben, 12)
    assert error(home.api.post("transfer/bot", ann.key, bot=bot, token=ben.token, leads=1)) == ("limit", "token")
    home.world.set("campaign", campaigns[1], status=CampaignStatus.DELETED)
    assert error(home.api.post("transfer/bot", ann.key, bot=bot, token=ben.token, leads=1)) is None
    assert [row["id"] for row in rows(home, ben, "camp/list") if row["bot"] == bot] == [campaigns[0], *campaigns[2:]]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unlimited_plan_always_has_room(home: House, kind: Kind) -> None:
    made = scene(home, kind, plan=PlanCode.TIGER)
    home.fill(made.ben, 40)
    assert (made.reasons(), made.post().error) == ([], None)


# Which bot takes a campaign


def a_dismissed_seat(made: Scene) -> None:
    no_longer_admin(made.home, made.seat)


def a_revoked_seat(made: Scene) -> None:
    made.home.world.set("bot", made.seat, token_revoked=True)


def a_disconnected_seat(made: Scene) -> None:
    made.home.world.set("bot", made.seat, disconnected=GONE)


@pytest.mark.parametrize("spoil", [a_dismissed_seat, a_revoked_seat, a_disconnected_seat])
def test_a_recipient_needs_a_working_bot_in_the_chat(home: House, spoil: Callable[[Scene], None]) -> None:
    made = scene(home, "camp")
    home.world.bot(made.ben, home.world.chat())  # elsewhere
    home.world.bot(home.world.account(), made.chat)  # somebody else's
    spoil(made)
    assert (made.reasons(), made.post().error) == ([("nobot", "token")], ("nobot", "token"))
    made.kind = "bot"
    assert made.post().error is None, "a bot needs no other bot"


@pytest.mark.parametrize("status", [CampaignStatus.ACTIVE, CampaignStatus.PAUSED])
def test_a_seat_with_a_campaign_is_taken_until_that_is_deleted(home: House, status: CampaignStatus) -> None:
    made = scene(home, "camp")
    sitting = home.world.campaign(made.ben, made.seat, made.chat, status=status)
    assert (made.reasons(), made.post().error) == ([("exists", "token")], ("exists", "token"))
    home.world.set("campaign", sitting, status=CampaignStatus.DELETED)
    assert (made.reasons(), made.post().error) == ([], None)


def test_a_taken_seat_beside_a_broken_one_is_exists(home: House) -> None:
    made = scene(home, "camp")
    home.world.campaign(made.ben, made.seat, made.chat)
    home.world.set("bot", home.world.bot(made.ben, made.chat), token_revoked=True)
    assert made.post().error == ("exists", "token")


def test_a_campaign_goes_to_the_bot_with_the_fewest_campaigns(home: House) -> None:
    made = scene(home, "camp", plan=PlanCode.TIGER)
    fewer, fewest = home.world.bot(made.ben, made.chat), home.world.bot(made.ben, made.chat)
    broken, taken = home.world.bot(made.ben, made.chat), home.world.bot(made.ben, made.chat)
    home.world.set("bot", broken, token_revoked=True)
    home.world.campaign(made.ben, taken, made.chat)
    for bot, count in ((made.seat, 3), (fewer, 2), (fewest, 1)):
        for _ in range(count):
            home.world.campaign(made.ben, bot, home.world.chat())
    for _ in range(5):  # deleted ones do not count
        home.world.campaign(made.ben, fewest, home.world.chat(), status=CampaignStatus.DELETED)

    assert made.post().error is None
    (moved,) = [row for row in rows(home, made.ben, "camp/list") if row["id"] == made.camp]
    assert moved["bot"] == fewest


def test_of_bots_with_equally_many_the_lowest_id_takes_the_campaign(home: House) -> None:
    made = scene(home, "camp")
    second = home.world.bot(made.ben, made.chat)
    for bot in (second, made.seat):
        home.world.campaign(made.ben, bot, home.world.chat(), status=CampaignStatus.PAUSED)
    assert made.post().error is None
    assert home.one("SELECT bot_id FROM campaign WHERE id = %s", made.camp) == made.seat


# What can be given


def test_a_disconnected_bot_is_not_found_and_its_campaign_can_still_be_given(home: House) -> None:
    made = scene(home, "bot")
    home.world.set("bot", made.bot, disconnected=GONE)
    refused, absent = made.post(), made.post(bot=2**40)
    assert refused.error == ("notfound", "bot")
    assert refused.body == absent.body
    made.kind = "camp"
    assert made.post().error is None
    assert made.owners() == (made.ann.id, made.ben.id)


def test_deleted_campaigns_stay_behind_and_cannot_be_given(home: House) -> None:
    made = scene(home, "camp")
    home.world.set("campaign", made.camp, status=CampaignStatus.DELETED)
    refused, absent = made.post(), made.post(camp=2**40)
    assert refused.error == ("notfound", "camp")
    assert refused.body == absent.body
    made.kind = "bot"
    assert made.post().error is None
    assert made.owners() == (made.ben.id, made.ann.id)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_given_away_is_not_the_senders_any_more(home: House, kind: Kind) -> None:
    made = scene(home, kind)
    assert made.post().error is None
    absent_thing: dict[str, Any] = {kind: 2**40}
    again, absent = made.post(), made.post(**absent_thing)
    assert again.error == ("notfound", kind)
    assert again.body == absent.body


def test_a_bot_moves_whatever_its_rights_and_with_a_revoked_token(home: House) -> None:
    made = scene(home, "bot")
    home.world.set("bot", made.bot, token_revoked=True)
    no_longer_admin(home, made.bot)
    assert made.post().error is None
    assert made.owners() == (made.ben.id, made.ben.id)


def test_a_campaign_keeps_what_makes_it_itself(home: House) -> None:
    settings: dict[str, Any] = {
        "welcome": "*Hi*",
        "button_text": "Go",
        "button_url": "https://b.example/{click}",
        "pb_wait": "https://t.example/{click}",
    }
    for kind in KINDS:
        made = scene(home, kind, status=CampaignStatus.PAUSED, unsub_window=60, leads=5, **settings)
        before = read(home, made.ann, "camp/get", id=made.camp)["data"]
        assert made.post().error is None
        after = read(home, made.ben, "camp/get", id=made.camp)["data"]
        changed = {name for name in before if before[name] != after[name]}
        assert changed == (set() if kind == "bot" else {"bot", "bot_username"})


def test_a_flag_goes_along_with_a_bot(home: House) -> None:
    made = scene(home, "bot")
    no_longer_admin(home, made.bot)
    assert made.post().error is None
    assert [row["warning"] for row in rows(home, made.ben, "camp/list")] == [1]
    assert [(row["status"], row["reason"]) for row in rows(home, made.ben, "bots/list")] == [(0, ""), (1, "admin")][
        :: 1 if made.seat < made.bot else -1
    ]


# Leads


def test_kept_leads_go_along_under_their_ids(home: House) -> None:
    for kind in KINDS:
        made = scene(home, kind, leads=30)
        before = read(home, made.ann, "leads/list")
        assert before["total"] == 30
        assert made.post().error is None
        assert read(home, made.ben, "leads/list") == before
        assert read(home, made.ben, "leads/list", campaign=made.camp) == before
        assert read(home, made.ann, "leads/list") == {"status": "ok", "data": [], "total": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_dropped_leads_are_gone_from_every_endpoint_at_once_and_from_the_tables_soon(home: House, kind: Kind) -> None:
    made = scene(home, kind, leads=2_500)
    assert made.post(leads=0).error is None
    for account in (made.ann, made.ben):
        for query in ({}, {"campaign": made.camp}, {"status": 2}, {"from": 0}, {"after": 10**9}):
            assert read(home, account, "leads/list", **query) == {"status": "ok", "data": [], "total": 0}
    (campaign,) = rows(home, made.ben, "camp/list")
    assert (campaign["starts"], campaign["confirms"], campaign["unsubs"]) == (0, 0, 0)
    assert {name: read(home, made.ben, "camp/get", id=made.camp)["data"][name] for name in campaign} == campaign
    back = home.world.bot(made.ann, made.chat)
    preview = check(home.api.get("transfer/preview", made.ben.key, camp=made.camp, token=made.ann.token, leads=1)).data
    assert preview["moves"]["leads"] == 0, back
    assert [entry["leads_moved"] for entry in rows(home, made.ann, "transfer/list")] == [2_500], "how many there were is history"
    eventually(lambda: home.one("SELECT count(*) FROM lead WHERE campaign_id = %s", made.camp) == 0, "the leads are purged")
    eventually(lambda: home.one("SELECT count(*) FROM purge") == 0, "the purge is finished")
