"""Who is calling: both ways of saying so, and the order in which a request is checked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from services.gateway.app import ENDPOINTS
from services.gateway.params import BODY_BYTES_MAX
from shared.domain.plans import PlanCode
from shared.local import Services
from tests.api import Answer
from tests.flow.test_api_envelope import House, check, error, house
from tests.world import Account

GETS = [endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"]
POSTS = [endpoint.path for endpoint in ENDPOINTS if endpoint.method == "POST"]
OPEN_WHEN_LAPSED = ["/api/profile/info.json", "/api/tariff/list.json"]


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(local, template, tmp_path_factory.mktemp("auth")) as home:
        yield home


@pytest.fixture(scope="module")
def ann(home: House) -> Account:
    return home.world.account("Ann")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def whose(answer: Answer) -> int:
    return int(check(answer).data["id"])


def test_the_key_may_come_in_the_query(home: House, ann: Account) -> None:
    assert whose(home.api.send("GET", f"/api/profile/info.json?id={ann.key}")) == ann.id


def test_the_key_may_come_as_bearer(home: House, ann: Account) -> None:
    assert whose(home.api.send("GET", "/api/profile/info.json", headers=bearer(ann.key))) == ann.id


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_word_bearer_may_be_written_in_any_way(home: House, ann: Account, scheme: str) -> None:
    assert whose(home.api.send("GET", "/api/profile/info.json", headers={"Authorization": f"{scheme} {ann.key}"})) == ann.id


@pytest.mark.parametrize("way", ["query", "bearer"])
def test_the_same_ways_work_for_a_post(home: House, way: str) -> None:
    account = home.world.account()
    query, headers = (f"?id={account.key}", {}) if way == "query" else ("", bearer(account.key))

    answer = check(home.api.send("POST", f"/api/transfer/token.json{query}", b"", headers))

    assert answer.data["token"] != account.token
    assert home.api.get("transfer/token", account.key).data == answer.data


def test_a_post_does_not_take_the_key_from_its_body(home: House, ann: Account) -> None:
    assert error(home.api.send("POST", "/api/transfer/token.json", f"id={ann.key}".encode())) == ("key", "")


@pytest.mark.parametrize("way", ["query", "bearer"])
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda ann, ben: f"{ann.id}-{ben.key.split('-')[1]}", id="another account's key"),
        pytest.param(lambda ann, _: f"{ann.id + 10**6}-{ann.key.split('-')[1]}", id="an absent account"),
        pytest.param(lambda ann, _: ann.key[:-1] + ("a" if ann.key[-1] != "a" else "b"), id="a wrong checksum"),
        pytest.param(lambda ann, _: ann.key[:8] + ("a" if ann.key[8] != "a" else "b") + ann.key[9:], id="a mistyped letter"),
        pytest.param(lambda ann, _: ann.key[:-1], id="a letter short"),
        pytest.param(lambda ann, _: ann.key + "x", id="a letter long"),
        pytest.param(lambda ann, _: ann.key.split("-")[1], id="no account"),
        pytest.param(lambda ann, _: f"0{ann.key}", id="a zero before the account"),
        pytest.param(lambda ann, _: f"{ann.id}-", id="no key"),
        pytest.param(lambda ann, _: f"9999999999999999999999-{ann.key.split('-')[1]}", id="an account beyond every number"),
        pytest.param(lambda ann, _: f"{ann.id}-{ann.token}", id="the transfer token"),
        pytest.param(lambda *_: "", id="nothing"),
    ],
)
def test_every_wrong_key_gets_the_same_bytes(home: House, ann: Account, way: str, spoil: Callable[[Account, Account], str]) -> None:
    wrong = spoil(ann, home.world.account("Ben"))
    query, headers = (f"?id={wrong}", {}) if way == "query" else ("", bearer(wrong))

    answer = home.api.send("GET", f"/api/profile/info.json{query}", headers=headers)

    assert error(answer) == ("key", "")
    assert answer.body == home.api.send("GET", "/api/profile/info.json").body


def test_a_fresh_key_is_not_the_first_ones(home: House, ann: Account) -> None:
    """The checksum alone lets nobody in: this key is well formed, but nobody's."""
    stranger = home.world.account().key.split("-")[1]
    assert error(home.api.get("profile/info", f"{ann.id}-{stranger}")) == ("key", "")


@pytest.mark.parametrize("path", ["/api/profile/info.json", "/api/camp/get.json", "/api/transfer/token.json"])
def test_two_credentials_are_invalid_even_when_both_are_right(home: House, ann: Account, path: str) -> None:
    assert error(home.api.send("GET", f"{path}?id={ann.key}&id={ann.key}")) == ("invalid", "id")
    assert error(home.api.send("GET", f"{path}?id={ann.key}", headers=bearer(ann.key))) == ("invalid", "id")
    assert error(home.api.send("GET", f"{path}?id={ann.key}", headers=bearer("rubbish"))) == ("invalid", "id")


def test_two_credentials_are_invalid_for_a_post_too(home: House, ann: Account) -> None:
    answer = home.api.send("POST", f"/api/transfer/token.json?id={ann.key}", b"", bearer(ann.key))
    assert error(answer) == ("invalid", "id")
    assert home.api.get("transfer/token", ann.key).data == {"token": ann.token}


def test_the_object_goes_beside_the_credential_under_the_same_name(home: House) -> None:
    account = home.world.account()
    _, (campaign,) = home.world.bot_with_campaigns(account, 1)

    for query in (f"id={account.key}&id={campaign}", f"id={campaign}&id={account.key}", f"camp={campaign}&id={account.key}"):
        assert check(home.api.send("GET", f"/api/camp/get.json?{query}")).data["id"] == campaign
    assert check(home.api.send("GET", f"/api/camp/get.json?id={campaign}", headers=bearer(account.key))).data["id"] == campaign


@pytest.mark.parametrize("objects", ["id=1&id=2", "id=1&id=1", "id=1&id=", "id=1&id=x", "id=1&camp=2"])
def test_two_objects_are_invalid(home: House, ann: Account, objects: str) -> None:
    assert error(home.api.send("GET", f"/api/camp/get.json?{objects}", headers=bearer(ann.key))) == ("invalid", "id")
    assert error(home.api.send("GET", f"/api/camp/get.json?{objects}&id={ann.key}")) == ("invalid", "id")


def test_two_objects_in_the_query_of_a_post_are_invalid_too(home: House, ann: Account) -> None:
    assert error(home.api.send("POST", f"/api/transfer/bot.json?id={ann.key}&id=5&id=6", b'{"bot":1,"token":"t","leads":1}')) == (
        "invalid",
        "id",
    )


def test_an_object_that_is_no_number_is_not_taken_for_a_credential(home: House, ann: Account) -> None:
    assert error(home.api.send("GET", "/api/camp/get.json?id=seven", headers=bearer(ann.key))) == ("invalid", "id")
    assert error(home.api.send("GET", "/api/camp/get.json?id=seven")) == ("key", "")


def test_an_authorization_for_somebody_else_is_not_ours(home: House, ann: Account) -> None:
    basic = {"Authorization": "Basic YW5uOnNlY3JldA=="}
    assert whose(home.api.send("GET", f"/api/profile/info.json?id={ann.key}", headers=basic)) == ann.id
    assert error(home.api.send("GET", "/api/profile/info.json", headers=basic)) == ("key", "")


def test_a_replaced_key_is_dead_at_once(home: House) -> None:
    account, other = home.world.account(), home.world.account()
    kept = home.db.execute("SELECT key_hash FROM account WHERE id = %s", [other.id]).fetchone()
    assert kept is not None
    home.world.set("account", account.id, key_hash=kept[0])

    assert error(home.api.get("profile/info", account.key)) == ("key", "")
    assert whose(home.api.get("profile/info", f"{account.id}-{other.key.split('-')[1]}")) == account.id


@dataclass(frozen=True)
class Flawed:
    """A POST transfer/bot with the flaws that are set; each is a reason of its own to refuse it."""

    path: str = "/api/transfer/bot.json"
    method: str = "POST"
    filler: int = 0
    wrong_key: bool = False
    account: dict[str, object] = field(default_factory=dict)
    lapsed: bool = False
    bot: object = 2**40  # nobody has it

    def send(self, house: House) -> Answer:
        account = house.world.account(lasts=timedelta(days=-8) if self.lapsed else timedelta(days=30))
        if self.account:
            house.world.set("account", account.id, **self.account)
        body = f'{{"bot": "{self.bot}", "token": "x", "leads": 1}}' + " " * self.filler
        key = "1-wrong" if self.wrong_key else account.key
        return house.api.send(self.method, self.path, body.encode(), bearer(key))


#: The order of the description, each with the flaw that brings it about. A command's objects are its ledger's: see test_api_transfer.
FLAWS: list[tuple[str, dict[str, object]]] = [
    ("func", {"path": "/api/transfer/bots.json"}),
    ("func", {"method": "PUT"}),
    ("large", {"filler": BODY_BYTES_MAX}),
    ("key", {"wrong_key": True}),
    ("ban", {"account": {"suspended": True}}),
    ("unpaid", {"lapsed": True}),
    ("invalid", {"bot": "none"}),
]


@pytest.mark.parametrize("number", range(len(FLAWS)))
def test_of_a_flaw_and_all_those_after_it_the_first_is_answered(home: House, number: int) -> None:
    request = Flawed()
    for _, flaw in reversed(FLAWS[number:]):
        request = replace(request, **flaw)  # type: ignore[arg-type]
    assert check(request.send(home)).json["error"] == FLAWS[number][0]


PAIRS = [(first, second) for number, first in enumerate(FLAWS) for second in FLAWS[number + 1 :] if first[1].keys() != second[1].keys()]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda flaw: f"{flaw[0]} {next(iter(flaw[1]))}")
def test_of_two_flaws_the_earlier_is_answered(
    home: House, first: tuple[str, dict[str, object]], second: tuple[str, dict[str, object]]
) -> None:
    request = replace(Flawed(), **first[1], **second[1])  # type: ignore[arg-type]
    assert check(request.send(home)).json["error"] == first[0]


def test_parameters_are_checked_before_objects(home: House, ann: Account) -> None:
    assert error(home.api.get("camp/get", ann.key, id=2**40)) == ("notfound", "id")
    assert error(home.api.get("camp/get", ann.key, id="x")) == ("invalid", "id")
    assert error(home.api.get("transfer/preview", ann.key, bot=2**40, token="x" * 22, leads=2)) == ("invalid", "leads")
    assert error(home.api.get("transfer/preview", ann.key, bot=2**40, token="x" * 22, leads=1)) == ("notfound", "token")


@pytest.mark.parametrize("rubbish", ["x=%FF", "x=%00", "x=1&x=2", "limit=0", "&".join(f"x{n}=1" for n in range(200))])
@pytest.mark.parametrize("path", ["/api/bots/list.json", "/api/transfer/list.json"])
def test_a_bad_key_is_said_before_bad_parameters(home: House, ann: Account, path: str, rubbish: str) -> None:
    """Whoever has no key learns nothing of what is wrong with the rest."""
    assert error(home.api.send("GET", f"{path}?{rubbish}", headers=bearer("1-x"))) == ("key", "")
    assert error(home.api.send("GET", f"{path}?{rubbish}")) == ("key", "")
    refused = error(home.api.send("GET", f"{path}?{rubbish}", headers=bearer(ann.key)))
    assert refused is not None and refused[0] == "invalid"  # noqa: PT018


def test_bad_parameters_are_not_looked_at_for_the_suspended_and_the_lapsed(home: House) -> None:
    banned, lapsed = home.world.account(), home.world.account(lasts=timedelta(days=-8))
    home.world.set("account", banned.id, suspended=True)
    for account, code in ((banned, "ban"), (lapsed, "unpaid")):
        assert error(home.api.send("GET", "/api/bots/list.json?x=%FF", headers=bearer(account.key))) == (code, "")
        assert error(home.api.send("POST", "/api/transfer/bot.json", b"{", bearer(account.key))) == (code, "")


@pytest.mark.parametrize("path", GETS)
def test_a_lapsed_plan_closes_all_but_the_profile_and_the_price_list(home: House, path: str) -> None:
    lapsed = home.world.account(lasts=timedelta(days=-8))
    answer = home.api.send("GET", path, headers=bearer(lapsed.key))
    assert error(answer) == (None if path in OPEN_WHEN_LAPSED else ("unpaid", ""))


@pytest.mark.parametrize("path", POSTS)
def test_a_lapsed_plan_closes_every_post(home: House, path: str) -> None:
    lapsed = home.world.account(lasts=timedelta(days=-8))
    assert error(home.api.send("POST", path, b"", bearer(lapsed.key))) == ("unpaid", "")
    assert home.one("SELECT count(*) FROM account WHERE transfer_token = %s", lapsed.token) == 1


@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS])
def test_a_suspended_account_is_told_so_everywhere(home: House, path: str) -> None:
    banned = home.world.account()
    home.world.set("account", banned.id, suspended=True)
    method = "GET" if path in GETS else "POST"
    assert error(home.api.send(method, path, headers=bearer(banned.key))) == ("ban", "")


@pytest.mark.parametrize(
    ("plan", "paid_until", "refused"),
    [
        (PlanCode.CAT, "now() - interval '7 days' + interval '1 minute'", None),
        (PlanCode.CAT, "now() - interval '7 days' - interval '1 millisecond'", ("unpaid", "")),
        (PlanCode.TIGER, "now() - interval '400 days'", ("unpaid", "")),
        (PlanCode.KITTEN, "NULL", None),
        (PlanCode.KITTEN, "now() - interval '400 days'", None),
    ],
)
def test_a_plan_lapses_seven_days_after_its_last(home: House, plan: PlanCode, paid_until: str, refused: tuple[str, str] | None) -> None:
    account = home.world.account(plan=plan)
    with home.tables.begin() as tx:
        tx.execute(text(f"UPDATE account SET paid_until = {paid_until} WHERE id = {account.id}"))
    assert error(home.api.get("bots/list", account.key)) == refused


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "M-SEARCH", "QUERY"])
@pytest.mark.parametrize("path", ["/api/bots/list.json", "/api/transfer/bot.json", "/api/transfer/token.json", "/api/nothing.json"])
def test_get_reads_and_post_writes_and_nothing_else(home: House, ann: Account, method: str, path: str) -> None:
    assert error(home.api.send(method, path, headers=bearer(ann.key))) == ("func", "")


@pytest.mark.parametrize("path", GETS)
def test_what_reads_cannot_be_posted_to(home: House, ann: Account, path: str) -> None:
    if path not in POSTS:
        assert error(home.api.send("POST", path, b"{}", bearer(ann.key))) == ("func", "")


@pytest.mark.parametrize("path", POSTS)
def test_what_writes_cannot_be_read(home: House, ann: Account, path: str) -> None:
    if path not in GETS:
        assert error(home.api.send("GET", path, headers=bearer(ann.key))) == ("func", "")


@pytest.mark.parametrize("path", ["/api/bots/list.json", "/api/nothing.json"])
def test_head_is_answered_without_a_body(home: House, ann: Account, path: str) -> None:
    answer = home.api.send("HEAD", path, headers=bearer(ann.key))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api/bots/list",
        "/api/bots/list.json/",
        "/api/bots//list.json",
        "/api/Bots/list.json",
        "/api/bots/list.json%00",
        "/api/bots/%FF",
        "/api/bots/%D0%B1",
        "/api/" + "x" * 10_000,
        "/api/{path}",
    ],
)
def test_an_unknown_path_is_no_function(home: House, ann: Account, path: str) -> None:
    assert error(home.api.send("GET", path, headers=bearer(ann.key))) == ("func", "")
