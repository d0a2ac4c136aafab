"""No account learns anything of another: neither that a thing exists, nor who is at the other end of a transfer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import pytest

from services.gateway.app import ENDPOINTS
from shared.db.schema import POSTBACKS
from shared.domain.campaigns import CampaignStatus
from shared.local import Services
from tests.api import Answer
from tests.flow.test_api_envelope import House, check, error, house
from tests.flow.test_api_input import names
from tests.world import Account


@dataclass(frozen=True, slots=True)
class Busy:
    """An account with some of everything."""

    account: Account
    bot: int
    campaign: int
    deleted: int
    disconnected: int
    lead: int
    transfer: str


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Ids of accounts are numbers that nothing else has, so that they can be searched for."""
    with house(local, template, tmp_path_factory.mktemp("isolation"), whole=True) as home:
        home.db.execute("ALTER TABLE account ALTER COLUMN id RESTART WITH 770000001")
        yield home


def busy(home: House, name: str) -> Busy:
    account = home.world.account(name)
    bot, (campaign, deleted, passing) = home.world.bot_with_campaigns(account, 3, leads=5)
    home.world.set("campaign", deleted, status=CampaignStatus.DELETED)
    disconnected, _ = home.world.bot_with_campaigns(account, 1)
    home.db.execute("UPDATE bot SET disconnected = now() WHERE id = %s", [disconnected])
    friend = home.world.account("A friend")
    home.world.bot(friend, home.one("SELECT chat_id FROM campaign WHERE id = %s", passing))
    moved = check(home.api.post("transfer/camp", account.key, camp=passing, token=friend.token, leads=1))
    assert moved.error is None
    lead = home.one("SELECT max(id) FROM lead WHERE campaign_id = %s", campaign)
    return Busy(account, bot, campaign, deleted, disconnected, lead, moved.headers["gatepost-transfer"])


@pytest.fixture(scope="module")
def ann(home: House) -> Busy:
    return busy(home, "Ann")


@pytest.fixture(scope="module")
def ben(home: House, ann: Busy) -> Busy:
    """His ids are higher than hers, as `after` wants them to be."""
    return busy(home, "Ben")


#: Every parameter that names a thing, by the attribute of `Busy` that is one.
THINGS: Final = {
    ("GET", "camp/get", "id"): "campaign",
    ("GET", "camp/get", "camp"): "campaign",
    ("GET", "bots/chats", "id"): "bot",
    ("GET", "bots/chats", "bot"): "bot",
    ("POST", "bots/del", "id"): "bot",
    ("POST", "bots/del", "bot"): "bot",
    ("POST", "bots/moved", "id"): "bot",
    ("POST", "bots/moved", "bot"): "bot",
    ("GET", "camp/link", "id"): "campaign",
    ("GET", "camp/link", "camp"): "campaign",
    ("POST", "camp/add", "bot"): "bot",
    **{("POST", f"camp/{what}", name): "campaign" for what in ("edit", "pause", "resume", "del") for name in ("id", "camp")},
    ("GET", "leads/list", "campaign"): "campaign",
    ("GET", "leads/list", "after"): "lead",
    ("GET", "transfer/preview", "bot"): "bot",
    ("GET", "transfer/preview", "camp"): "campaign",
    ("GET", "transfer/status", "transfer"): "transfer",
    ("POST", "transfer/bot", "bot"): "bot",
    ("POST", "transfer/camp", "camp"): "campaign",
}

#: Parameters that name no thing of an account's. A token is an address: it is there to be looked up by others.
NO_THINGS: Final = {
    *("token", "leads", "limit", "offset", "status", "start_from", "start_to"),
    *("chat", "answer", "welcome", "media", "button_text", "button_url", *POSTBACKS, "unsub_window"),
}

#: A campaign's bot cannot be changed: every other one is refused in the same way. See `test_api_campaigns.py`.
UNCHANGEABLE: Final = {("POST", "camp/edit", "bot")}


def test_every_parameter_that_names_a_thing_is_covered_here() -> None:
    fields = {
        (e.method, e.path[len("/api/") : -len(".json")], wire)
        for e in ENDPOINTS
        for name, info in e.model.model_fields.items()
        if name not in NO_THINGS
        for wire in names(info, name)
    }
    assert set(THINGS) == fields - UNCHANGEABLE


def ask(home: House, who: Account, method: str, path: str, fields: dict[str, object], *, in_query: bool) -> Answer:
    headers = {} if in_query else {"Authorization": f"Bearer {who.key}"}
    query = [("id", who.key)] if in_query else []
    if method == "GET":
        query += [(name, str(value)) for name, value in fields.items()]
    body = urlencode(fields).encode() if method == "POST" else None
    return check(home.api.send(method, f"/api/{path}.json?{urlencode(query)}", body, headers))


def shown(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """All that a caller can see of an answer, but its time and the number of their own request."""
    return answer.status, {n: v for n, v in answer.headers.items() if n not in {"date", "gatepost-transfer"}}, answer.body


#: Good values for what else an endpoint wants.
REST: Final[dict[str, object]] = {"leads": 1, "chat": -1, "welcome": "Hi", "answer": 1}


@pytest.mark.parametrize("in_query", [False, True], ids=["bearer", "query"])
@pytest.mark.parametrize(("method", "path", "name"), THINGS, ids=str)
def test_a_foreign_thing_and_an_absent_one_look_the_same(
    home: House, ann: Busy, ben: Busy, method: str, path: str, name: str, in_query: bool
) -> None:
    (endpoint,) = (e for e in ENDPOINTS if (e.method, e.path) == (method, f"/api/{path}.json"))
    rest = {n: REST[n] for n, info in endpoint.model.model_fields.items() if info.is_required() and n in REST}
    rest |= {"token": ann.account.token} if "token" in endpoint.model.model_fields else {}
    foreign = getattr(ben, THINGS[method, path, name])
    absent: object = str(UUID(int=7)) if name == "transfer" else 2**62
    own = getattr(ann, THINGS[method, path, name])

    answers = [ask(home, ann.account, method, path, {**rest, name: value}, in_query=in_query) for value in (foreign, absent)]

    assert shown(answers[0]) == shown(answers[1])
    if name in {"campaign", "after"}:
        assert answers[0].json["total"] == (0 if name == "campaign" else 10)
    else:
        assert answers[0].json["error"] == "notfound"
    if method == "GET":
        assert ask(home, ann.account, method, path, {**rest, name: own}, in_query=in_query).body != answers[0].body, "her own is there"


@pytest.mark.parametrize(
    ("path", "name"), [("transfer/bot", "bot"), ("transfer/camp", "camp"), ("transfer/preview", "bot"), ("transfer/preview", "camp")]
)
def test_neither_does_a_good_token_tell_them_apart(home: House, ann: Busy, ben: Busy, path: str, name: str) -> None:
    """With a recipient who could take the foreign thing, its own owner even."""
    things = [ben.bot if name == "bot" else ben.campaign, ben.disconnected if name == "bot" else ben.deleted, 2**62]
    method = "GET" if path == "transfer/preview" else "POST"
    for token in (ben.account.token, ann.account.token, home.world.account().token):
        answers = [ask(home, ann.account, method, path, {name: thing, "token": token, "leads": 1}, in_query=False) for thing in things]
        assert len({answer.body for answer in answers}) == 1
        assert error(answers[0]) == ("notfound", name)


def test_filters_do_not_add_up_to_a_hint(home: House, ann: Busy, ben: Busy) -> None:
    for extra in ({"status": 2}, {"from": 0}, {"from": 0, "to": 2**33}, {"limit": 200}, {"offset": 1}, {"after": ben.lead + 1}):
        answers = [check(home.api.get("leads/list", ann.account.key, campaign=i, **extra)) for i in (ben.campaign, 2**62)]
        assert shown(answers[0]) == shown(answers[1])
        assert answers[0].json == {"status": "ok", "data": [], "total": 0}


def test_a_transfer_of_others_is_as_unknown_as_none(home: House, ann: Busy, ben: Busy) -> None:
    spelled = [ben.transfer, ben.transfer.upper(), ben.transfer.replace("-", ""), str(UUID(int=7))]
    bodies = {home.api.get("transfer/status", ann.account.key, transfer=transfer).body for transfer in spelled}
    assert len(bodies) == 1


def everything(home: House, account: Account, **things: object) -> dict[str, bytes]:
    """The body of every GET there is, each with every parameter it may have, for the things named."""
    bodies = {}
    for endpoint in ENDPOINTS:
        if endpoint.method == "GET":
            path = endpoint.path[len("/api/") : -len(".json")]
            named = {**things, "id": things["bot"]} if path.startswith("bots/") else things
            wanted = {name: value for name, value in named.items() if name in endpoint.model.model_fields}
            for query in [{}, wanted, *({name: value} for name, value in wanted.items())]:
                bodies[f"{path} {sorted(query)}"] = check(home.api.get(path, account.key, **query)).body
    return bodies


@pytest.mark.parametrize("leads", [0, 1])
@pytest.mark.parametrize("kind", ["bot", "camp"])
def test_the_former_owner_sees_nothing_but_the_entry_in_the_history(home: House, kind: str, leads: int) -> None:
    sender, recipient = home.world.account("Sender"), home.world.account("Recipient")
    chat = home.world.chat(f"Chat of {kind} {leads}")
    bot, _ = home.world.bot(sender, chat), home.world.bot(recipient, chat)
    home.world.bot(sender, chat)
    campaign = home.world.campaign(sender, bot, chat, leads=5)
    lead = home.one("SELECT max(id) FROM lead WHERE campaign_id = %s", campaign)
    (code,) = home.db.execute("SELECT code FROM campaign WHERE id = %s", [campaign]).fetchone() or ()
    named: dict[str, Any] = {"id": campaign, "camp": campaign, "campaign": campaign, "bot": bot, "token": recipient.token, "leads": 1}
    before = everything(home, sender, **named)
    assert any(code.encode() in body for body in before.values())

    wanted: dict[str, Any] = {kind: bot if kind == "bot" else campaign, "token": recipient.token, "leads": leads}
    moved = home.api.post(f"transfer/{kind}", sender.key, **wanted)
    assert error(moved) is None

    after = everything(home, sender, **named, transfer=moved.headers["gatepost-transfer"])
    absent = everything(home, sender, **{**named, **dict.fromkeys(("id", "camp", "campaign", *(["bot"] if kind == "bot" else [])), 2**62)})
    assert {path: body for path, body in after.items() if "transfer'" not in path} == {
        p: b for p, b in absent.items() if "transfer'" not in p
    }
    told = {path for path, body in after.items() if code.encode() in body or f"Chat of {kind} {leads}".encode() in body}
    seen_by_bot = {"bots/chats"} if kind == "camp" else set()  # the bot is still the sender's, and an administrator there
    assert {path.split(maxsplit=1)[0] for path in told} <= {"transfer/list", "transfer/status", "notices/list", *seen_by_bot}
    assert all(f'"id":{lead}'.encode() not in body for body in after.values())
    assert check(home.api.get("transfer/list", sender.key)).json["total"] == 1


def test_neither_side_learns_more_of_the_other_than_a_name(home: House) -> None:
    """Every body either side gets is searched for what is the other's own: before and after transfers of each kind and outcome."""
    sender, recipient = home.world.account("Sender Name"), home.world.account("Recipient Name")
    chat = home.world.chat()
    bot, campaign_bot = home.world.bot(sender, chat), home.world.bot(sender, chat)
    seat = home.world.bot(recipient, chat)
    home.world.campaign(sender, bot, home.world.chat(), leads=5, pb_wait="https://tracker.example/?secret=1")
    campaign = home.world.campaign(sender, campaign_bot, chat, leads=5)
    bodies: dict[str, list[bytes]] = {"sender": [], "recipient": []}

    def look_round(*transfers: str) -> None:
        things: dict[str, Any] = {"id": campaign, "camp": campaign, "campaign": campaign, "bot": bot, "leads": 1}
        for side, account, other in (("sender", sender, recipient), ("recipient", recipient, sender)):
            for transfer in (*transfers, str(UUID(int=7))):
                bodies[side] += everything(home, account, **things, token=other.token, transfer=transfer).values()
            answer = home.api.get("transfer/preview", account.key, camp=campaign, token=other.token, leads=0)
            bodies[side].append(check(answer).body)

    def move(kind: str, thing: int, leads: int = 1) -> str:
        wanted: dict[str, Any] = {kind: thing, "token": recipient.token, "leads": leads}
        answer = check(home.api.post(f"transfer/{kind}", sender.key, **wanted))
        bodies["sender"].append(answer.body + str(answer.headers).encode())
        return answer.headers["gatepost-transfer"]

    look_round()
    home.world.set("account", recipient.id, suspended=True)
    refused = [move("bot", bot)]
    home.world.set("account", recipient.id, suspended=False, plan="kitten")
    refused += [move("bot", bot), move("camp", campaign)]
    home.world.set("account", recipient.id, plan="cat")
    done = [move("camp", campaign), move("bot", bot, leads=0)]
    look_round(*refused, *done)
    assert [e["outcome"] for e in check(home.api.get("transfer/list", sender.key)).data] == ["done"] * 2 + ["refused"] * 3
    assert home.one("SELECT bot_id FROM campaign WHERE id = %s", campaign) == seat

    own = {"sender": sender, "recipient": recipient}
    for side, other in (("sender", recipient), ("recipient", sender)):
        everything_said = b"\n".join(bodies[side])
        login = home.db.execute("SELECT login FROM account WHERE id = %s", [other.id]).fetchone() or ("",)
        assert other.name.encode() in everything_said
        assert str(own[side].id).encode() in everything_said, "the search would find an id"
        for secret in (str(other.id), f'"{login[0]}"', other.token, other.key, other.key.split("-")[1]):
            assert secret.encode() not in everything_said
    owners = home.db.execute("SELECT count(*) FROM campaign WHERE account_id = %s", [recipient.id]).fetchone()
    assert owners == (2,)
