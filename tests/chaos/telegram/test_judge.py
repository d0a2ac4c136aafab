"""The judge itself, on a small case made by hand: a good one, and one for each thing that can go wrong."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.telegram.evidence import Came, Case, Entry, Freeze, Lead, Postback, Taken, Watch, Write
from tests.chaos.telegram.judge import judge

WATCH = Watch(tg=700, bot=1, chat_tg=5, chat=2, campaign=3, code="code01", window=10)
ANN, BEN, OWNER, T = 50, 51, 9, 86_400
MARKED = -1_000_000_000_005


def owed(number: int, kind: str, key: str, at: int, **facts: Any) -> dict[str, Any]:
    return {"number": number, "bot_id": 700, "kind": kind, "key": key, "date": at, "facts": facts}


def case() -> Case:
    """Ann starts, joins and leaves too late; Ben, who has not started, joins and is kicked."""
    return Case(
        watches=[WATCH],
        owed=[
            owed(0, "start", "message:50:1", T, person=ANN, payload="code01-a"),
            owed(1, "join", f"member:5:50:50:{T + 1}:out>member", T + 1, person=ANN, chat=5, by=ANN),
            owed(2, "restrict", f"member:5:50:9:{T + 2}:member>restricted", T + 2, person=ANN, chat=5, by=OWNER),
            owed(3, "join", f"member:5:51:51:{T + 2}:out>member", T + 2, person=BEN, chat=5, by=BEN),
            owed(4, "message", "message:51:2", T + 3, person=BEN, text="hello"),
            owed(5, "kick", f"member:5:51:9:{T + 3}:member>out", T + 3, person=BEN, chat=5, by=OWNER),
            owed(6, "leave", f"member:5:50:50:{T + 20}:restricted>out", T + 20, person=ANN, chat=5, by=ANN),
            owed(7, "block", f"stopped:50:{T + 21}:yes", T + 21, person=ANN),
            {**owed(8, "start", "message:50:1", T, person=ANN, payload="control"), "bot_id": 800},
        ],
        sent=[{"bot_id": 700, "peer_id": ANN}],
        calls=[{"number": 0, "bot_id": 700, "refused": None}],
        connections=[{"number": 0, "port": 4_000, "at": 10.0, "last_in_at": 20.0}],
        taken=[
            Taken(bot=1, kind="start", at=T, subscriber=ANN, message=1, payload="code01-a"),
            Taken(bot=1, kind="change", at=T + 1, subscriber=ANN, chat=MARKED, before="out", after="in", own=True),
            Taken(bot=1, kind="change", at=T + 2, subscriber=BEN, chat=MARKED, before="out", after="in", own=True),
            Taken(bot=1, kind="change", at=T + 3, subscriber=BEN, chat=MARKED, before="in", after="out"),
            Taken(bot=1, kind="change", at=T + 20, subscriber=ANN, chat=MARKED, before="in", after="out", own=True),
            Taken(bot=1, kind="stopped", at=T + 21, subscriber=ANN, after="blocked"),
        ],
        freezes=[freeze()],
        came={3: came()},
        left={"events in the inbox": 0},
    )


def freeze(**changes: Any) -> Freeze:
    made = Freeze(slot="one", ports=frozenset({4_000}), stopped=20.5, deadline=22.0, continued=30.0, taken_over=True)
    return replace(made, **changes)


def postback(status: str, at: int, *, rule: str = "", **changes: Any) -> Postback:
    made = Postback(status=status, click="a", at=at, pending=not rule, rule=rule, correction=False)
    return replace(made, **changes)


def came(*postbacks: Postback, **changes: Any) -> Came:
    told = postbacks or (postback("wait", T), postback("approve", T + 1), postback("cancel", T + 20, rule="window closed"))
    lead = Lead(status="cancel", click="a", started=T, joined=T + 1, postbacks=told)
    made = {
        "leads": {ANN: lead},
        "journal": [
            Entry(subscriber=ANN, word="join", at=T + 1, paid=True),
            Entry(subscriber=BEN, word="join", at=T + 2, paid=False),
            Entry(subscriber=BEN, word="kick", at=T + 3, paid=False),
            Entry(subscriber=ANN, word="leave", at=T + 20, paid=True),
        ],
        "days": {("starts", 1): 1, ("confirms", 1): 1, ("unsubs", 1): 1, ("holds", 1): 0},
        "totals": {"starts": 1, "confirms": 1, "unsubs": 1, "n_cancel": 1, "n_wait": 0},
    }
    return Came(**{**made, **changes})


def with_lead(**changes: Any) -> Came:
    return came(leads={ANN: replace(came().leads[ANN], **changes)})


def found(**changes: Any) -> dict[str, list[str]]:
    return {question: findings for question, findings in judge(replace(case(), **changes)).items() if findings}


def test_there_is_nothing_to_say_against_a_good_case() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("question", "changes"),
    [
        ("events lost", {"taken": case().taken[1:]}),
        ("events doubled or invented", {"taken": [*case().taken, case().taken[2]]}),
        ("rows written without the lease", {"strangers": [Write(table="peer", bot=1, slot="one", owner="two")]}),
        ("bytes sent after the deadline", {"connections": [{"number": 0, "port": 4_000, "at": 10.0, "last_in_at": 30.1}]}),
        ("keys destroyed by two connections", {"calls": [{"number": 0, "bot_id": 700, "refused": "AUTH_KEY_DUPLICATED"}]}),
        ("stopped and not taken over", {"freezes": [freeze(taken_over=False)]}),
        ("work left over", {"left": {"events in the inbox": 1}}),
        ("welcomes lost or doubled", {"sent": [{"bot_id": 700, "peer_id": ANN}] * 2}),
        ("welcomes lost or doubled", {"sent": [], "owed": case().owed[:7], "taken": case().taken[:5]}),
        ("welcomes lost or doubled", {"sent": [*case().sent, {"bot_id": 700, "peer_id": BEN}]}),
    ],
)
def test_each_thing_is_found(question: str, changes: dict[str, Any]) -> None:
    assert list(found(**changes)) == [question]


@pytest.mark.parametrize(
    ("question", "outcome"),
    [
        ("leads not by the model", with_lead(click="b")),
        ("leads not by the model", with_lead(joined=None)),
        ("leads not by the model", came(leads={})),
        ("leads not by the model", came(leads={**came().leads, BEN: came().leads[ANN]})),
        ("leads not by the model", came(leads={**came().leads, 99: came().leads[ANN]})),
        ("journal not by the model", came(journal=came().journal[1:])),
        ("journal not by the model", came(journal=[*came().journal, came().journal[1]])),
        ("journal not by the model", came(journal=[replace(came().journal[0], paid=False), *came().journal[1:]])),
        ("counters not by the model", came(days={**came().days, ("starts", 1): 2})),
        ("counters not by the model", came(totals={**came().totals, "n_wait": 1})),
        ("postbacks not by the model", came(postback("wait", T), postback("approve", T + 1))),
        ("postbacks not by the model", came(postback("approve", T + 1), postback("cancel", T + 20, rule="window closed"))),
        (
            "postbacks not by the model",
            came(postback("wait", T), postback("approve", T + 1), postback("approve", T + 1), *came().leads[ANN].postbacks[2:]),
        ),
        ("postbacks not by the model", came(*came().leads[ANN].postbacks, postback("hold", T + 2))),
    ],
)
def test_each_thing_that_came_wrong_is_found(question: str, outcome: Came) -> None:
    assert list(found(came={3: outcome})) == [question]


def test_what_came_late_may_be_superseded_if_the_last_one_told_is_the_status() -> None:
    late = [postback("wait", T, rule="superseded"), postback("approve", T + 1), postback("cancel", T + 20, rule="window closed")]
    assert found(came={3: came(*late)}) == {}
    window = replace(WATCH, window=0)
    told = [postback("wait", T), postback("approve", T + 1), postback("cancel", T + 20)]
    assert found(watches=[window], came={3: came(*told)}) == {}
    assert list(found(watches=[window], came={3: came(*told, postback("approve", T + 1, correction=True))})) == [
        "postbacks not by the model"
    ]


def test_a_step_that_was_found_late_may_be_told_as_a_correction() -> None:
    """Of a start, a join and another start the join came last: its state is told once more, with its date and the new click."""
    told = [postback("wait", T), postback("approve", T + 1, correction=True), postback("cancel", T + 20, rule="window closed")]
    assert found(came={3: came(*told)}) == {}


def test_what_a_stopped_listener_sends_on_a_new_connection_is_its_own() -> None:
    later = {"number": 1, "port": 4_000, "at": 31.0, "last_in_at": 40.0}
    assert found(connections=[*case().connections, later]) == {}
