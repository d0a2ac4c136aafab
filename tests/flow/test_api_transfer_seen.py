"""What both sides see of a transfer, and the ways to ask for one: body forms, repeats, Idempotency-Keys."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from shared.domain.campaigns import CampaignStatus
from shared.domain.plans import PlanCode
from shared.local import Services
from tests.flow.test_api_envelope import DATE, House, check, error, house
from tests.flow.test_api_transfer import KINDS, TRANSFER, Kind, count, read, rows, scene


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(local, template, tmp_path_factory.mktemp("asking"), whole=True) as home:
        yield home


# What both sides see


OWN: Final[dict[str, Any]] = {"pb_trash": "https://t.example/{click}"}


@pytest.mark.parametrize(("settings", "templates"), [(OWN, "own"), ({}, "global")])
@pytest.mark.parametrize("kind", KINDS)
def test_preview_and_both_notices_say_whose_templates_will_be_used(
    home: House, kind: Kind, settings: dict[str, Any], templates: str
) -> None:
    made = scene(home, kind, **settings)
    preview = made.preview().data
    assert [campaign["templates"] for campaign in preview["moves"]["campaigns"]] == [templates]
    assert {warning["kind"] for warning in preview["warnings"]} == {templates, "link" if kind == "camp" else "token"}

    assert made.post().error is None
    (sent,), (received,) = rows(home, made.ann, "notices/list"), rows(home, made.ben, "notices/list")
    assert (sent["kind"], received["kind"]) == ("transfer_sent", "transfer_received")
    if templates == "own":
        assert "your tracker" in sent["text"]
        assert "previous owner's tracker" in received["text"]
    else:
        assert "the new owner's global postback templates" in sent["text"]
        assert "your global postback templates" in received["text"]
    for text in (sent["text"], received["text"]):
        assert ("deep link" in text) == (kind == "camp")
    assert "BotFather" not in sent["text"]
    assert ("BotFather" in received["text"]) == (kind == "bot")
    assert "Ben Receiver" in sent["text"]
    assert "Ann Sender" in received["text"]


def test_a_preview_says_what_would_move(home: House) -> None:
    made = scene(home, "bot", plan=PlanCode.TIGER, leads=10, **OWN)
    paused = home.world.campaign(made.ann, made.bot, home.world.chat("Second"), leads=5, status=CampaignStatus.PAUSED)
    home.world.campaign(made.ann, made.bot, home.world.chat(), leads=5, status=CampaignStatus.DELETED)
    home.world.bot_with_campaigns(made.ann, 1, leads=5)
    before = count(home)

    preview = made.preview(leads=0).data

    assert list(preview) == ["kind", "recipient", "moves", "warnings", "reasons"]
    assert (preview["kind"], preview["recipient"], preview["reasons"]) == ("bot", "Ben Receiver", [])
    assert preview["moves"]["bot"].startswith("@bot")
    assert [(c["id"], c["status"], c["templates"], c["leads"]) for c in preview["moves"]["campaigns"]] == [
        (made.camp, 0, "own", 10),
        (paused, 1, "global", 5),
    ]
    assert (preview["moves"]["leads"], preview["moves"]["keep"]) == (15, 0)
    assert {warning["kind"] for warning in preview["warnings"]} == {"leads", "own", "global", "paused", "token"}
    assert count(home) == before


def test_a_preview_of_an_unknown_recipient_names_nobody(home: House) -> None:
    made = scene(home, "bot")
    home.world.set("account", made.ben.id, suspended=True)
    preview = made.preview().data
    assert preview["recipient"] == ""
    assert [(reason["error"], reason["field"]) for reason in preview["reasons"]] == [("notfound", "token")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leads", [0, 1])
def test_both_sides_find_the_transfer_in_their_lists(home: House, kind: Kind, leads: int) -> None:
    made = scene(home, kind, leads=10)
    answer = made.post(leads=leads)
    assert answer.body == b'{"status":"ok"}'

    (sent,), (received,) = rows(home, made.ann, "transfer/list"), rows(home, made.ben, "transfer/list")

    common = {"transfer": answer.headers[TRANSFER], "kind": kind, "object": made.thing, "leads": leads, "outcome": "done"}
    common |= {"reason": "", "field": "", "campaigns_moved": 1, "leads_moved": 10}
    times = {name: sent[name] for name in ("created", "finished")}
    assert sent == {**common, **times, "title": sent["title"], "direction": "out", "other": "Ben Receiver"}
    assert received == {**sent, "direction": "in", "other": "Ann Sender", "created": received["created"], "finished": received["finished"]}
    assert all(DATE.fullmatch(row[name]) for row in (sent, received) for name in times)
    assert re.match(r"@bot" if kind == "bot" else r"code\d+ \(Chat", sent["title"])
    for account, row in ((made.ann, sent), (made.ben, received)):
        assert read(home, account, "transfer/status", transfer=answer.headers[TRANSFER])["data"] == row


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_transfer_is_the_senders_alone(home: House, kind: Kind) -> None:
    made = scene(home, kind, lasts=timedelta(days=-1))
    transfer = made.post().headers[TRANSFER]
    (entry,) = rows(home, made.ann, "transfer/list")
    assert (entry["outcome"], entry["reason"], entry["field"], entry["other"], entry["title"]) == ("refused", "unpaid", "token", "", "")
    assert (entry["campaigns_moved"], entry["leads_moved"]) == (0, 0)
    assert read(home, made.ann, "transfer/status", transfer=transfer)["data"] == entry
    assert read(home, made.ben, "transfer/list") == {"status": "ok", "data": [], "total": 0}
    assert error(home.api.get("transfer/status", made.ben.key, transfer=transfer)) == ("notfound", "transfer")
    assert rows(home, made.ann, "notices/list") == rows(home, made.ben, "notices/list") == []


def test_a_bot_that_comes_back_is_twice_in_both_histories(home: House) -> None:
    made = scene(home, "bot")
    assert made.post().error is None
    assert error(home.api.post("transfer/bot", made.ben.key, bot=made.bot, token=made.ann.token, leads=1)) is None
    assert [row["direction"] for row in rows(home, made.ann, "transfer/list")] == ["in", "out"]
    assert [row["direction"] for row in rows(home, made.ben, "transfer/list")] == ["out", "in"]
    assert made.owners() == (made.ann.id, made.ann.id)


# How it may be asked for


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("label", "write"),
    [
        ("application/json", json.dumps),
        ("application/json", lambda fields: json.dumps({name: str(value) for name, value in fields.items()})),
        ("application/x-www-form-urlencoded", urlencode),
        ("application/x-www-form-urlencoded", json.dumps),
        ("text/plain", json.dumps),
        ("text/plain", urlencode),
        ("", lambda fields: f"\n {json.dumps({**fields, 'unknown': [1]})}"),
        ("multipart/form-data", lambda fields: urlencode({**fields, "unknown": "x"})),
    ],
    ids=str,
)
def test_every_way_to_write_the_same_request_is_the_same_request(
    home: House, kind: Kind, label: str, write: Callable[[dict[str, object]], str]
) -> None:
    made = scene(home, kind)
    answer = home.api.send("POST", f"/api/transfer/{kind}.json?id={made.ann.key}", write(made.fields()).encode(), {"Content-Type": label})
    assert check(answer).body == b'{"status":"ok"}'
    assert made.owners() == (made.ben.id if kind == "bot" else made.ann.id, made.ben.id)


# Idempotency-Key


@pytest.mark.parametrize("kind", KINDS)
def test_a_repeat_with_the_same_key_gets_the_same_bytes_and_moves_nothing_twice(home: House, kind: Kind) -> None:
    made = scene(home, kind)
    first = made.post(key="k")
    assert first.body == b'{"status":"ok"}'
    padded: dict[str, Any] = {kind: f"00{made.thing}", "leads": "1"}
    for repeat in (made.post(key="k"), made.post(key="k", form=True), made.post(key="k", **padded)):
        assert (repeat.body, repeat.headers[TRANSFER]) == (first.body, first.headers[TRANSFER])
    assert read(home, made.ann, "transfer/list")["total"] == 1
    assert made.post().error == ("notfound", kind), "without the key it is another request"


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_repeated_even_when_it_would_be_no_refusal_now(home: House, kind: Kind) -> None:
    made = scene(home, kind, lasts=timedelta(days=-1))
    first = made.post(key="k")
    assert first.error == ("unpaid", "token")
    home.world.set("account", made.ben.id, paid_until=datetime.now(UTC) + timedelta(days=1))
    assert made.post(key="k").body == made.post(key="k", form=True).body == first.body
    assert made.owners() == (made.ann.id, made.ann.id)
    assert made.post(key="another").error is None


@pytest.mark.parametrize("change", ["thing", "token", "leads", "kind"])
def test_a_key_belongs_to_one_request_and_another_one_does_not_affect_it(home: House, change: str) -> None:
    made = scene(home, "camp")
    first = made.post(key="k")
    assert first.error is None
    changed: dict[str, Any] = {"thing": {"camp": 2**40}, "token": {"token": "B" * 22}, "leads": {"leads": 0}, "kind": {}}[change]  # type: ignore[assignment]
    if change == "kind":
        made.kind = "bot"
    before = count(home)
    assert made.post(key="k", **changed).error == ("invalid", "Idempotency-Key")
    assert count(home) == before
    made.kind = "camp"
    assert made.post(key="k").body == first.body


def test_a_key_is_its_accounts_own(home: House) -> None:
    one, two = scene(home, "bot"), scene(home, "camp")
    assert one.post(key="shared").error is None
    assert two.post(key="shared").error is None


@pytest.mark.parametrize("key", ["!", "~" * 255, 'a,b;c="d"\'', "K", "k"])
def test_any_visible_ascii_makes_a_key_and_its_case_counts(home: House, key: str) -> None:
    made = scene(home, "bot")
    assert made.post(key="other").error is None
    assert made.post(key=key).error == ("notfound", "bot")
    assert made.post(key=key.swapcase() + "x", leads=0).error in {("notfound", "bot"), ("invalid", "Idempotency-Key")}


@pytest.mark.parametrize("refusal", ["invalid", "key", "large"])
def test_what_was_never_accepted_binds_no_key(home: House, refusal: str) -> None:
    made = scene(home, "bot")
    match refusal:
        case "invalid":
            assert made.post(key="k", leads=2).error == ("invalid", "leads")
        case "large":
            assert made.post(key="k", filler="x" * 70_000).error == ("large", "")
        case _:
            stranger = f"{made.ann.id}-{made.ben.key.split('-')[1]}"
            answer = home.api.post("transfer/bot", stranger, idempotency_key="k", **made.fields(leads=0))
            assert error(answer) == ("key", "")
    assert made.post(key="k").error is None
