"""The system's side of the story, collected when everything is quiet: the history, and what each account's lists say."""

from calendar import timegm
from collections.abc import Iterator, Sequence
from time import strptime
from typing import Any, Final

from shared.db.connect import connect
from tests.api import Api
from tests.chaos.cast import Cast
from tests.chaos.records import Entry, Holdings, Moved
from tests.world import Account

PAGE: Final = 200
NEVER: Final = "0000-00-00 00:00:00"


def get_history(database_url: str) -> list[Moved]:
    """The whole history. The API shows only names of the other side, and the replay needs to know who it was."""
    with connect(database_url, name="judge") as db:
        rows = db.execute(
            """SELECT seq, command_id::text, kind, object_id, from_account, to_account, keep_leads::int, campaigns, to_bot
               FROM transfer ORDER BY seq"""
        ).fetchall()
    return [
        Moved(
            seq=seq,
            command=command,
            kind=kind,
            object=object_id,
            sender=sender,
            recipient=recipient,
            leads=leads,
            campaigns=tuple(campaigns),
            to_bot=to_bot,
        )
        for seq, command, kind, object_id, sender, recipient, leads, campaigns, to_bot in rows
    ]


def get_entries(api: Api, accounts: Sequence[Account]) -> list[Entry]:
    """What each sender's transfer/list shows of its own commands, finished or not."""
    return [
        Entry(
            command=row["transfer"],
            sender=account.id,
            kind=row["kind"],
            object=row["object"],
            leads=row["leads"],
            outcome=row["outcome"],
            created=_seconds(row["created"]),
            finished=_seconds(row["finished"]),
        )
        for account in accounts
        for row in _list(api, "transfer/list", account)
        if row["direction"] == "out"
    ]


def get_holdings(api: Api, cast: Cast) -> Holdings:
    """Who has what, by bots/list and camp/list."""
    return Holdings(
        {row["id"]: account.id for account in cast.accounts for row in _list(api, "bots/list", account)},
        {row["id"]: (account.id, row["bot"]) for account in cast.accounts for row in _list(api, "camp/list", account)},
    )


def _list(api: Api, path: str, account: Account) -> Iterator[dict[str, Any]]:
    offset, total = 0, 1
    while offset < total:
        answer = api.get(path, account.key, limit=PAGE, offset=offset)
        assert answer.error is None, answer.body
        yield from answer.data
        offset, total = offset + PAGE, answer.json["total"]


def _seconds(date: str) -> float:
    return 0.0 if date == NEVER else float(timegm(strptime(date, "%Y-%m-%d %H:%M:%S")))
