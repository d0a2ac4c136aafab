"""The judge itself, on small cases made by hand: a good one, and one for each thing that can go wrong."""

import json
from dataclasses import replace
from typing import Any

from tests.chaos.judge import judge
from tests.chaos.records import Attempt, Case, Entry, Holdings, Moved, Said

ANN, BEN, BOT, CAMPAIGN = 1, 2, 70, 80
OK = '{"status":"ok"}'
BUSY = '{"status":"error","error":"busy","message":"Try again."}'
NOTFOUND = '{"status":"error","error":"notfound","field":"bot","message":"You have no connected bot with this id."}'


def attempt(transfer: str | None = "c1", body: str = OK, **changes: Any) -> Attempt:
    """Ann sends her bot to Ben."""
    made = Attempt(
        request=1,
        key=None,
        sender=ANN,
        kind="bot",
        object=BOT,
        recipient=BEN,
        leads=1,
        gateway=0,
        form=False,
        sent=10.0,
        ended=11.0,
        status=503 if body == BUSY else 200,
        body=body,
        transfer=transfer,
    )
    return replace(made, **changes)


def broke(**changes: Any) -> Attempt:
    """The same, and the connection broke."""
    return attempt(None, "", status=0, **changes)


def moved(seq: int = 1, command: str = "c1", **changes: Any) -> Moved:
    """The bot and its campaign go from Ann to Ben."""
    made = Moved(seq=seq, command=command, kind="bot", object=BOT, sender=ANN, recipient=BEN, leads=1, campaigns=(CAMPAIGN,), to_bot=None)
    return replace(made, **changes)


def back_again(seq: int = 2, command: str = "c2", **changes: Any) -> Moved:
    """And back."""
    return moved(seq, command, sender=BEN, recipient=ANN, **changes)


def entry(command: str = "c1", outcome: str = "done", **changes: Any) -> Entry:
    """As transfer/list shows it."""
    made = Entry(command=command, sender=ANN, kind="bot", object=BOT, leads=1, outcome=outcome, created=10.0, finished=11.0)
    return replace(made, **changes)


def owned_by(account: int) -> Holdings:
    return Holdings({BOT: account}, {CAMPAIGN: (account, BOT)})


def case(attempts: list[Attempt], history: list[Moved], entries: list[Entry], *, owner: int = BEN, **changes: Any) -> Case:
    made = Case(
        attempts=attempts, history=history, entries=entries, first=owned_by(ANN), today=owned_by(owner), limits={}, back=20.0, due=22.0
    )
    return replace(made, **changes)


def wrong(made: Case) -> set[str]:
    """The questions with findings."""
    return {question for question, findings in judge(made).items() if findings}


def test_a_transfer_that_was_answered_and_happened_is_right() -> None:
    assert wrong(case([attempt()], [moved()], [entry()])) == set()


def test_an_ok_without_a_history_row_is_lost() -> None:
    assert wrong(case([attempt()], [], [entry(outcome="refused")], owner=ANN)) == {"accepted and lost"}


def test_a_pending_that_nobody_knows_is_lost() -> None:
    told = attempt(key="k", body='{"status":"pending","data":{"transfer":"c1"}}')

    assert told.said is Said.PENDING
    assert wrong(case([told], [], [], owner=ANN)) == {"accepted and lost"}


def test_a_pending_that_is_never_finished_is_lost_and_unfinished() -> None:
    told = attempt(key="k", body='{"status":"pending","data":{"transfer":"c1"}}')
    left = entry(outcome="pending", finished=0.0)

    assert wrong(case([told], [], [left], owner=ANN)) == {"accepted and lost", "unfinished when due"}


def test_a_pending_that_was_refused_later_is_right() -> None:
    told = attempt(key="k", body='{"status":"pending","data":{"transfer":"c1"}}')

    assert wrong(case([told], [], [entry(outcome="refused")], owner=ANN)) == set()


def test_an_ok_for_something_else_than_was_asked_is_lost() -> None:
    assert wrong(case([attempt(leads=0)], [moved()], [entry()])) == {"accepted and lost"}


def test_a_command_with_two_history_rows_is_done_twice() -> None:
    history = [moved(1), back_again(2), moved(3)]
    attempts = [attempt(), attempt("c2", sender=BEN, recipient=ANN)]

    assert wrong(case(attempts, history, [entry(), entry("c2")])) == {"done twice"}


def test_a_key_with_two_commands_is_done_twice() -> None:
    attempts = [attempt("c1", key="k"), attempt("c3", key="k"), attempt("c2", sender=BEN, recipient=ANN)]
    history = [moved(1, "c1"), back_again(2, "c2"), moved(3, "c3")]

    assert wrong(case(attempts, history, [entry("c1"), entry("c2"), entry("c3")])) == {"done twice"}


def test_a_withdrawn_transfer_that_moved_is_found_though_its_client_knows_no_id() -> None:
    assert wrong(case([attempt(None, BUSY)], [moved()], [entry()])) == {"refused or withdrawn, and moved"}


def test_a_withdrawn_transfer_that_moved_is_found_in_the_list() -> None:
    found = judge(case([attempt(None, BUSY)], [moved()], [entry(outcome="withdrawn")]))

    assert len(found["refused or withdrawn, and moved"]) == 2


def test_a_refused_transfer_that_moved_is_found() -> None:
    assert "refused or withdrawn, and moved" in wrong(case([attempt(body=NOTFOUND)], [moved()], [entry(outcome="refused")]))


def test_a_broken_connection_explains_one_move_and_not_two() -> None:
    once = case([broke()], [moved()], [entry()])
    twice = case([broke()], [moved(1), back_again(2), moved(3, "c3")], [entry(), entry("c2", sender=BEN), entry("c3")])

    assert wrong(once) == set()
    assert wrong(replace(twice, attempts=[broke(), attempt("c2", sender=BEN, recipient=ANN)])) == {"refused or withdrawn, and moved"}


def test_a_connection_that_broke_before_the_command_was_made_explains_nothing() -> None:
    late = entry(created=40.0, finished=41.0)

    assert wrong(case([broke()], [moved()], [late])) == {"refused or withdrawn, and moved"}


def test_a_broken_connection_whose_repeat_was_answered_explains_nothing_else() -> None:
    attempts = [broke(key="k"), attempt("c1", key="k"), attempt("c2", sender=BEN, recipient=ANN)]
    history = [moved(1), back_again(2), moved(3, "c3")]

    assert wrong(case(attempts, history, [entry(), entry("c2"), entry("c3")])) == {"refused or withdrawn, and moved"}


def test_an_owner_that_the_history_does_not_lead_to_is_found() -> None:
    assert wrong(case([attempt()], [moved()], [entry()], owner=ANN)) == {"owner not by the history"}


def test_a_row_that_takes_from_somebody_else_than_the_owner_is_found() -> None:
    attempts = [attempt(), attempt("c2")]

    assert wrong(case(attempts, [moved(), moved(2, "c2")], [entry(), entry("c2")])) == {"owner not by the history"}


def test_a_bot_that_left_its_campaign_behind_is_found() -> None:
    today = Holdings({BOT: BEN}, {CAMPAIGN: (ANN, BOT)})

    assert wrong(case([attempt()], [moved(campaigns=())], [entry()], today=today)) == {"owner not by the history"}


def test_a_recipient_with_more_campaigns_than_its_plan_allows_is_found() -> None:
    assert wrong(case([attempt()], [moved()], [entry()], limits={BEN: 0})) == {"above the limit"}


def test_two_answers_to_one_key_must_have_the_same_bytes() -> None:
    attempts = [attempt(key="k"), attempt(key="k", body='{"status": "ok"}')]

    assert wrong(case(attempts, [moved()], [entry()])) == {"unequal answers to one key"}


def test_pending_and_then_ok_are_not_unequal() -> None:
    attempts = [attempt(key="k", body='{"status":"pending","data":{"transfer":"c1"}}'), attempt(key="k")]

    assert wrong(case(attempts, [moved()], [entry()])) == set()


def test_what_was_finished_too_late_is_found() -> None:
    assert wrong(case([attempt()], [moved()], [entry(finished=23.0)])) == {"unfinished when due"}


def test_what_was_asked_for_after_the_faults_may_still_be_under_way() -> None:
    told = attempt(sent=21.0, ended=23.0)

    assert wrong(case([told], [moved()], [entry(created=21.0, finished=23.0)])) == set()


def test_an_internal_error_is_no_answer() -> None:
    body = json.dumps({"status": "error", "error": "db", "message": "Something went wrong here. Try again."})

    assert wrong(case([attempt(None, body, status=500)], [], [], owner=ANN)) == {"answers that may not be"}


def test_a_database_that_was_away_leaves_the_client_unsure() -> None:
    away = attempt(None, '{"status":"error","error":"db","message":"The database is away. Try again."}')

    assert wrong(case([away], [moved()], [entry()])) == set()
