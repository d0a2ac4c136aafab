"""Whose a bot becomes, and what a token looks like."""

from datetime import UTC, datetime

import pytest

from shared.domain.bots import TAKEN, Action, Known, Plan, Refusal, decide, is_token

MINE, YOURS = 1, 2
GONE = datetime(2026, 1, 1, tzinfo=UTC)


def known(bot: int, account: int = MINE, *, disconnected: datetime | None = None, revoked: bool = False, at_work: bool = True) -> Known:
    return Known(id=bot, account=account, disconnected=disconnected, revoked=revoked, at_work=at_work)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], Plan(Action.CREATE)),
        ([known(7)], Plan(Action.KEEP, 7)),
        ([known(7, revoked=True)], Plan(Action.RENEW, 7)),
        ([known(7, at_work=False)], Plan(Action.RENEW, 7)),
        ([known(7, YOURS)], TAKEN),
        ([known(7, disconnected=GONE)], Plan(Action.REVIVE, 7)),
        ([known(7, disconnected=GONE), known(8, YOURS)], TAKEN),
        ([known(7, disconnected=GONE), known(8)], Plan(Action.KEEP, 8)),
        ([known(7, disconnected=GONE), known(8, disconnected=GONE)], Plan(Action.REVIVE, 8)),
        ([known(7, disconnected=GONE.replace(year=2027)), known(8, disconnected=GONE)], Plan(Action.REVIVE, 7)),
        ([known(7, YOURS, disconnected=GONE)], Plan(Action.CREATE)),
    ],
    ids=str,
)
def test_whose_a_bot_is(records: list[Known], expected: Plan | Refusal) -> None:
    assert decide(MINE, records) == expected
    assert decide(MINE, records[::-1]) == expected


@pytest.mark.parametrize("token", ["1:a", "700:secret", "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw-_", "9" * 16 + ":x"])
def test_a_token_is_an_id_and_a_secret(token: str) -> None:
    assert is_token(token)


@pytest.mark.parametrize(
    "token", ["", ":", "1:", ":x", "0:x", "01:x", "-1:x", "1:x y", "1:x\n", "1:é", "x:1", "1", "1::x", "9" * 17 + ":x", "１:x", " 1:x"]
)
def test_what_cannot_be_one_is_not(token: str) -> None:
    assert not is_token(token)
