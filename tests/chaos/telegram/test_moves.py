"""The judge of transfers, on a small story made by hand: a good one, and one for each thing that can go wrong."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.telegram.evidence import Lead, Taken
from tests.chaos.telegram.moves import Binding, Line, Story, Told, Version, judge

CAMPAIGN, CHAT, MARKED, OLD, NEW = 3, 2, -1_000_000_000_005, 1, 2
ANN, BEN, COY = 50, 51, 52
T = 10 * 86_400


def start(bot: int, who: int, at: int, click: str = "a") -> Taken:
    return Taken(bot=bot, kind="start", at=at, subscriber=who, message=at - T, payload=f"code01-{click}")


def join(bot: int, who: int, at: int) -> Taken:
    return Taken(bot=bot, kind="change", at=at, subscriber=who, chat=MARKED, before="out", after="in", own=True)


def told(number: int, account: int, epoch: int, who: int, status: str, at: int, **changes: Any) -> Told:
    made = Told(
        number=number,
        campaign=CAMPAIGN,
        epoch=epoch,
        account=account,
        subscriber=who,
        host=f"tracker{account}",
        status=status,
        at=at,
        pending=True,
        rule="",
        correction=False,
    )
    return replace(made, **changes)


def story() -> Story:
    """The campaign goes from one account and bot to another without its leads, in the second T + 10.

    Ann started before and joins after it; Ben starts at the new bot and joins in both bots' sight; Coy starts at the old one, too late.
    """
    applied = [
        (10, start(OLD, ANN, T + 1)),
        (30, join(OLD, ANN, T + 5)),
        (31, start(NEW, BEN, T + 11)),
        (32, join(OLD, BEN, T + 12)),
        (33, join(NEW, BEN, T + 12)),
        (34, start(OLD, COY, T + 13)),
    ]
    return Story(
        codes={"code01": CAMPAIGN},
        chats={MARKED: (CHAT, [CAMPAIGN])},
        window=0,
        owed=[event for _, event in applied],
        applied=applied,
        versions=[
            Version(number=1, campaign=CAMPAIGN, account=7, bot=OLD, epoch=0, epoch_since=T - 9.5),
            Version(number=20, campaign=CAMPAIGN, account=8, bot=NEW, epoch=1, epoch_since=T + 10.5),
        ],
        bindings=[
            Binding(campaign=CAMPAIGN, bot=OLD, since=T - 9.5, until=T + 10.5, number=2, ended=21),
            Binding(campaign=CAMPAIGN, bot=NEW, since=T + 10.6, until=None, number=22, ended=None),
        ],
        told=[told(9, 7, 0, ANN, "wait", T + 1), told(30, 8, 1, BEN, "wait", T + 11), told(32, 8, 1, BEN, "approve", T + 12)],
        leads={(CAMPAIGN, 1, BEN): Lead(status="approve", click="a", started=T + 11, joined=T + 12, postbacks=())},
        journal=[
            Line(chat=CHAT, subscriber=ANN, word="join", at=T + 5, campaign=0),
            Line(chat=CHAT, subscriber=BEN, word="join", at=T + 12, campaign=CAMPAIGN),
            Line(chat=CHAT, subscriber=BEN, word="join", at=T + 12, campaign=0),
        ],
        counts={(CAMPAIGN, 1): {"starts": 1, "confirms": 1, "n_approve": 1, "holds": 0}},
        sent=Counter({(OLD, ANN): 1, (NEW, BEN): 1, (OLD, COY): 1}),
        blockers=frozenset(),
        connections=(2, 2),
        hosts={7: "tracker7", 8: "tracker8"},
    )


def found(**changes: Any) -> dict[str, list[str]]:
    return {question: findings for question, findings in judge(replace(story(), **changes)).items() if findings}


def test_there_is_nothing_to_say_against_a_good_story() -> None:
    assert found() == {}


BEN_LEAD = story().leads[CAMPAIGN, 1, BEN]


@pytest.mark.parametrize(
    ("question", "changes"),
    [
        ("events lost or doubled", {"owed": [*story().owed, join(OLD, COY, T + 20)]}),
        ("events lost or doubled", {"owed": story().owed[:-1]}),
        ("leads that are not whose they should be", {"leads": {}}),
        ("leads that are not whose they should be", {"leads": {(CAMPAIGN, 1, BEN): replace(BEN_LEAD, click="b")}}),
        ("leads that are not whose they should be", {"leads": {**story().leads, (CAMPAIGN, 0, ANN): BEN_LEAD}}),
        ("totals that are not their leads'", {"counts": {**story().counts, (CAMPAIGN, 0): {"starts": 1}}}),
        ("journal rows that are not whose they should be", {"journal": story().journal[1:]}),
        ("journal rows that are not whose they should be", {"journal": [*story().journal, story().journal[1]]}),
        ("deliveries owed by the wrong account", {"told": [*story().told[:2], replace(story().told[2], account=7)]}),
        ("deliveries owed by the wrong account", {"told": [*story().told[:2], replace(story().told[2], host="tracker7")]}),
        ("postbacks lost or doubled", {"told": story().told[:2]}),
        ("postbacks lost or doubled", {"told": story().told[1:]}),
        ("postbacks lost or doubled", {"told": [*story().told, story().told[2]]}),
        ("postbacks lost or doubled", {"told": [*story().told, told(34, 8, 1, COY, "wait", T + 13)]}),
        ("messages lost or doubled", {"sent": Counter({(OLD, ANN): 1, (NEW, BEN): 2, (OLD, COY): 1})}),
        ("messages lost or doubled", {"sent": Counter({(OLD, ANN): 1, (NEW, BEN): 1})}),
        ("connections because of a transfer", {"connections": (2, 3)}),
    ],
)
def test_each_thing_is_found(question: str, changes: dict[str, Any]) -> None:
    assert list(found(**changes)) == [question]


def test_who_is_told_of_by_the_owner_before_is_judged_by_the_commit() -> None:
    """The same row written after the transfer would have been the new owner's."""
    late = [replace(story().told[0], number=25), *story().told[1:]]
    assert "deliveries owed by the wrong account" in found(told=late)


def test_what_arrives_after_the_transfer_and_is_dated_before_it_counts_for_nobody() -> None:
    applied = [(25, story().applied[0][1]), *story().applied[1:]]
    assert set(found(applied=applied)) == {"postbacks lost or doubled", "messages lost or doubled"}
