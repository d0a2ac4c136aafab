"""The judge: do the clients' answers, the history and today's owners tell one story?

Pure: it is given a `Case` and knows nothing of the system's queues and counters. Each question below is one line of the verdict, and is
answered with the findings against the system; none is the only good answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tests.chaos.records import Attempt, Case, Entry, Moved, Said

#: The API's dates have no fractions.
DATE_S: Final = 1.0

#: A gateway that was held or killed may have had its command committed this long after its client gave up.
LATE_S: Final = 10.0

Finding = str


def judge(case: Case) -> dict[str, list[Finding]]:
    """The verdict: for each question the findings."""
    return {question: list(find(case)) for question, find in QUESTIONS.items()}


def find_lost(case: Case) -> Iterator[Finding]:
    """Accepted, so the client was told, and then nothing came of it."""
    rows, entries = _rows(case.history), _entries(case)
    for command, attempts in _accepted(case.attempts).items():
        told = attempts[0]
        entry = entries.get(command)
        if entry is None:
            yield f"{_name(told)}: accepted as {command}, and transfer/list does not know it"
        elif any(a.said is Said.OK for a in attempts) and not rows[command]:
            yield f"{_name(told)}: ok as {command}, and nothing moved; transfer/list says {entry.outcome}"
        elif entry.outcome not in {"done", "refused"}:
            yield f"{_name(told)}: accepted as {command}, and still {entry.outcome}"
        elif entry.outcome == "done" and not rows[command]:
            yield f"{_name(told)}: done as {command}, and the history does not know it"
        elif rows[command] and _wish(rows[command][0]) != (told.sender, told.kind, told.object, told.recipient, told.leads):
            yield f"{_name(told)}: {command} moved something else: {rows[command][0]}"


def find_doubled(case: Case) -> Iterator[Finding]:
    """One wish carried out twice: a command with two history rows, a key with two commands, a command with two keys."""
    for command, rows in _rows(case.history).items():
        if len(rows) > 1:
            yield f"{command} is in the history {len(rows)} times"
    of_key, of_command = defaultdict(set), defaultdict(set)
    for a in case.attempts:
        if a.key is not None and a.transfer is not None:
            of_key[a.key].add(a.transfer)
            of_command[a.transfer].add(a.key)
    yield from (f"key {key} became {len(commands)} commands: {sorted(commands)}" for key, commands in of_key.items() if len(commands) > 1)
    yield from (f"{command} has {len(keys)} keys: {sorted(keys)}" for command, keys in of_command.items() if len(keys) > 1)


def find_moved_against_the_answer(case: Case) -> Iterator[Finding]:
    """Refused or withdrawn, and moved all the same.

    The client of a withdrawn command is not told its id. So each move that nobody was told of must be explained by an equal request of
    which a client does not know what became; what is left over was done for somebody who was told `busy`.
    """
    rows, entries = _rows(case.history), _entries(case)
    for a in case.attempts:
        if a.said is Said.REFUSED and a.transfer is not None and rows[a.transfer]:
            yield f"{_name(a)}: refused as {a.transfer}, and moved"
    for entry in case.entries:
        if entry.outcome != "done" and rows[entry.command]:
            yield f"{entry.command} is {entry.outcome}, and moved"
    told = {a.transfer for a in case.attempts if a.transfer is not None}
    unsure = _unsure(case.attempts)
    for row in (row for row in case.history if row.command not in told):
        since = entries[row.command].created if row.command in entries else 0.0
        candidates = unsure[_wish(row)]
        explanation = next((a for a in candidates if a.sent - DATE_S <= since <= a.ended + LATE_S), None)
        if explanation is None:
            yield f"{row.command} moved {row.kind} {row.object} from {row.sender} to {row.recipient}, and no client can have asked for it"
        else:
            candidates.remove(explanation)


def find_wrong_owners(case: Case) -> Iterator[Finding]:
    """The history, replayed from the first owners on, is possible and ends in today's."""
    bots, campaigns = dict(case.first.bots), dict(case.first.campaigns)
    for row in _in_order(case.history):
        yield from _impossible(row, bots, campaigns)
        _replay(row, bots, campaigns)
    for bot, owner in bots.items():
        if case.today.bots.get(bot) != owner:
            yield f"bot {bot} is {owner}'s by the history, and {case.today.bots.get(bot)}'s by bots/list"
    for campaign, place in campaigns.items():
        if case.today.campaigns.get(campaign) != place:
            yield f"campaign {campaign} is at {place} by the history, and at {case.today.campaigns.get(campaign)} by camp/list"


def find_above_limit(case: Case) -> Iterator[Finding]:
    """No transfer left its recipient with more campaigns than its plan allows."""
    bots, campaigns = dict(case.first.bots), dict(case.first.campaigns)
    for row in _in_order(case.history):
        _replay(row, bots, campaigns)
        has = sum(owner == row.recipient for owner, _ in campaigns.values())
        if row.campaigns and has > case.limits.get(row.recipient, has):
            yield f"{row.command} left account {row.recipient} with {has} campaigns of {case.limits[row.recipient]}"


def find_unequal(case: Case) -> Iterator[Finding]:
    """Every final answer to one key is the same, byte for byte."""
    bodies = defaultdict(set)
    for a in case.attempts:
        if a.key is not None and a.said in {Said.OK, Said.REFUSED}:
            bodies[a.key].add(a.body)
    yield from (f"key {key} was answered {sorted(different)}" for key, different in bodies.items() if len(different) > 1)


def find_unfinished(case: Case) -> Iterator[Finding]:
    """What was accepted before the last service was back is finished when due."""
    for entry in case.entries:
        if entry.created > case.back:
            continue
        if entry.finished == 0:
            yield f"{entry.command} is {entry.outcome}"
        elif entry.finished > case.due:
            yield f"{entry.command} was finished {entry.finished - case.back:.0f} s after the last service was back"


def find_forbidden(case: Case) -> Iterator[Finding]:
    """Nobody got an answer that the API does not have for such a request, nor one without the id it promises."""
    for a in case.attempts:
        if a.said is Said.FORBIDDEN:
            yield f"{_name(a)} was answered {a.status} {a.body}"
        elif a.said in {Said.OK, Said.PENDING, Said.REFUSED} and a.transfer is None:
            yield f"{_name(a)} was answered without the transfer's id: {a.body}"


QUESTIONS: Final[Mapping[str, Callable[[Case], Iterator[Finding]]]] = {
    "accepted and lost": find_lost,
    "done twice": find_doubled,
    "refused or withdrawn, and moved": find_moved_against_the_answer,
    "owner not by the history": find_wrong_owners,
    "above the limit": find_above_limit,
    "unequal answers to one key": find_unequal,
    "unfinished when due": find_unfinished,
    "answers that may not be": find_forbidden,
}

Wish = tuple[int, str, int, int, int]


def _wish(row: Moved) -> Wish:
    return row.sender, row.kind, row.object, row.recipient, row.leads


def _name(a: Attempt) -> str:
    return f"request {a.request} ({a.kind} {a.object} from {a.sender} to {a.recipient})"


def _rows(history: Sequence[Moved]) -> defaultdict[str, list[Moved]]:
    rows: defaultdict[str, list[Moved]] = defaultdict(list)
    for row in history:
        rows[row.command].append(row)
    return rows


def _entries(case: Case) -> dict[str, Entry]:
    return {entry.command: entry for entry in case.entries}


def _accepted(attempts: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    accepted: defaultdict[str, list[Attempt]] = defaultdict(list)
    for a in attempts:
        if a.said in {Said.OK, Said.PENDING} and a.transfer is not None:
            accepted[a.transfer].append(a)
    return accepted


def _unsure(attempts: Sequence[Attempt]) -> defaultdict[Wish, list[Attempt]]:
    """Attempts of which the client never learned what became, nor of a repeat with the same key."""
    sure = {a.key for a in attempts if a.key is not None and a.transfer is not None}
    unsure: defaultdict[Wish, list[Attempt]] = defaultdict(list)
    for a in attempts:
        if a.said is Said.UNKNOWN and a.key not in sure:
            unsure[a.sender, a.kind, a.object, a.recipient, a.leads].append(a)
    return unsure


def _in_order(history: Sequence[Moved]) -> list[Moved]:
    return sorted(history, key=lambda row: row.seq)


def _impossible(row: Moved, bots: Mapping[int, int], campaigns: Mapping[int, tuple[int, int]]) -> Iterator[Finding]:
    """What speaks against a row on the state before it."""
    if row.kind == "bot":
        owner = bots.get(row.object)
        moving = {campaign for campaign, (_, bot) in campaigns.items() if bot == row.object}
        if set(row.campaigns) != moving:
            yield f"row {row.seq} moved bot {row.object} with campaigns {sorted(row.campaigns)}; it had {sorted(moving)}"
    else:
        owner = campaigns[row.object][0] if row.object in campaigns else None
        if row.to_bot is None or bots.get(row.to_bot) != row.recipient:
            yield f"row {row.seq} moved campaign {row.object} to bot {row.to_bot}, which was not {row.recipient}'s"
    if owner != row.sender:
        yield f"row {row.seq} took {row.kind} {row.object} from {row.sender}; its owner was {owner}"


def _replay(row: Moved, bots: dict[int, int], campaigns: dict[int, tuple[int, int]]) -> None:
    if row.kind == "bot":
        bots[row.object] = row.recipient
    for campaign in row.campaigns:
        campaigns[campaign] = (row.recipient, row.object if row.kind == "bot" else row.to_bot or 0)
