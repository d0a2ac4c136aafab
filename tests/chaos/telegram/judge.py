"""The judge: is all that the server owed in the database, once, and come to what it should?

Pure: it is given a `Case`. What should have come of it is told by the plain model of `tests/sim`, which shares nothing with the project.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from tests.chaos.telegram.evidence import CHANNEL_MARK, Case, Entry, Lead, Taken, Watch
from tests.sim.model import Happening, Outcome, World, tell

#: Before every date.
ALWAYS: Final = 0

Finding = str

#: A person's life at a bot, and what should have come of it.
Tale = tuple[Watch, int, list[Happening], Outcome]

#: Where the server's words for a standing put somebody.
PLACES: Final = {
    "out": "out",
    "restricted_out": "out",
    "banned": "banned",
    "member": "in",
    "restricted": "in",
    "admin": "in",
    "creator": "in",
}


def judge(case: Case) -> dict[str, list[Finding]]:
    """The verdict: for each question the findings."""
    tales = list(tell_all(case))
    return {
        **{question: list(find(case)) for question, find in QUESTIONS.items()},
        **{question: list(find(case, tales)) for question, find in QUESTIONS_TO_THE_MODEL.items()},
    }


def find_lost(case: Case) -> Iterator[Finding]:
    """Owed by the server and not taken in."""
    missing = Counter(expected(case)) - Counter(case.taken)
    yield from (f"{number} × {one}" if number > 1 else f"{one}" for one, number in missing.items())


def find_doubled(case: Case) -> Iterator[Finding]:
    """Taken in twice, or never owed."""
    due = Counter(expected(case))
    extra = Counter(case.taken) - due
    yield from (f"{one} was taken in {number + due[one]} times, and owed {due[one]} times" for one, number in extra.items())


def find_strangers(case: Case) -> Iterator[Finding]:
    """Written by a process that had not, or no longer, the bot."""
    yield from (f"{write.slot} wrote {write.table} of bot {write.bot}, which was {write.owner or 'nobody'}'s" for write in case.strangers)


def find_late_bytes(case: Case) -> Iterator[Finding]:
    """Sent to Telegram by a process after its lease had ended, on connections that it had when it was stopped."""
    for freeze in case.freezes:
        for line in case.connections:
            if line["port"] not in freeze.ports or line["at"] > freeze.stopped:
                continue
            last = line["last_in_at"] or 0.0
            late = last - freeze.deadline
            if late > 0:
                yield f"{freeze.slot}, stopped and back, sent on connection {line['number']} {late:.2f} s after its deadline"


def find_destroyed_keys(case: Case) -> Iterator[Finding]:
    """A key was used on two connections at once, which Telegram answers by destroying it."""
    yield from (f"call {call['number']} of bot {call['bot_id']}" for call in case.calls if call["refused"] == "AUTH_KEY_DUPLICATED")


def find_not_taken_over(case: Case) -> Iterator[Finding]:
    yield from (f"nobody took over from {freeze.slot}" for freeze in case.freezes if not freeze.taken_over)


def find_wrong_leads(case: Case, tales: Sequence[Tale]) -> Iterator[Finding]:
    """A lead, its click or its dates are not what the model says."""
    known: defaultdict[int, set[int]] = defaultdict(set)
    for watch, person, _, outcome in tales:
        known[watch.campaign].add(person)
        lead = case.came[watch.campaign].leads.get(person)
        if outcome.status == "none":
            if lead is not None:
                yield f"{_name(watch, person)} is a lead and should be none: {lead}"
        elif lead is None:
            yield f"{_name(watch, person)} is no lead and should be {outcome.status}"
        elif (lead.status, lead.click, lead.started, lead.joined) != (outcome.status, outcome.click, outcome.started, outcome.joined):
            yield f"{_name(watch, person)} is {lead}, and should be {outcome}"
    for watch in case.watches:
        strange = set(case.came[watch.campaign].leads) - known[watch.campaign]
        yield from (f"{_name(watch, person)} is a lead, and nobody has seen that person" for person in strange)


def find_wrong_entries(case: Case, tales: Sequence[Tale]) -> Iterator[Finding]:
    """An entry of the journal is missing, too many, or of the wrong type."""
    due: defaultdict[int, Counter[Entry]] = defaultdict(Counter)
    for watch, person, life, outcome in tales:
        seconds = {one.number: one.second for one in life}
        for number, (word, whose) in outcome.journal.items():
            due[watch.campaign][Entry(subscriber=person, word=word, at=seconds[number], paid=whose == "paid")] += 1
    for watch in case.watches:
        journal = Counter(case.came[watch.campaign].journal)
        yield from (f"missing: {entry}" for entry in due[watch.campaign] - journal)
        yield from (f"too many: {entry}" for entry in journal - due[watch.campaign])


def find_wrong_counts(case: Case, tales: Sequence[Tale]) -> Iterator[Finding]:
    """Daily statistics or totals are not the sum of the leads."""
    days: defaultdict[int, Counter[tuple[str, int]]] = defaultdict(Counter)
    totals: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for watch, _, _, outcome in tales:
        days[watch.campaign].update(outcome.days.items())
        totals[watch.campaign].update(outcome.days.keys())
        if outcome.status != "none":
            totals[watch.campaign][f"n_{outcome.status}"] += 1
    for watch in case.watches:
        came = case.came[watch.campaign]
        if (by_day := {key: count for key, count in came.days.items() if count}) != dict(days[watch.campaign]):
            yield f"campaign {watch.campaign} counts {by_day} by day, and should {dict(days[watch.campaign])}"
        if (in_all := {key: count for key, count in came.totals.items() if count}) != dict(totals[watch.campaign]):
            yield f"campaign {watch.campaign} counts {in_all} in all, and should {dict(totals[watch.campaign])}"


def find_wrong_postbacks(case: Case, tales: Sequence[Tale]) -> Iterator[Finding]:
    """A step was told twice or not at all, a rule was broken, or the last one told is not the lead's status."""
    for watch, person, life, outcome in tales:
        lead = case.came[watch.campaign].leads.get(person)
        if lead is not None and outcome.status != "none":
            seconds = {one.number: one.second for one in life}
            yield from (f"{_name(watch, person)}: {finding}" for finding in _tell_wrongs(lead, outcome, seconds))


def find_wrong_welcomes(case: Case, tales: Sequence[Tale]) -> Iterator[Finding]:
    """Somebody was not welcomed as often as they started. Who blocks the bot may miss a welcome, and gets none twice."""
    welcomed = Counter((sent["bot_id"], sent["peer_id"]) for sent in case.sent)
    blockers = {(owed["bot_id"], owed["facts"]["person"]) for owed in case.owed if owed["kind"] == "block"}
    for watch, person, _, outcome in tales:
        got, due = welcomed.pop((watch.tg, person), 0), len(outcome.welcomes)
        if got > due or (got < due and (watch.tg, person) not in blockers):
            yield f"{_name(watch, person)} got {got} welcomes for {due} starts"
    known = {watch.tg for watch in case.watches}
    yield from (
        f"bot {bot} wrote {number} times to {person}, who never started" for (bot, person), number in welcomed.items() if bot in known
    )


def find_left(case: Case) -> Iterator[Finding]:
    """Work that nobody will do any more."""
    yield from (f"{number} {what}" for what, number in case.left.items() if number)


QUESTIONS: Final[Mapping[str, Callable[[Case], Iterator[Finding]]]] = {
    "events lost": find_lost,
    "events doubled or invented": find_doubled,
    "rows written without the lease": find_strangers,
    "bytes sent after the deadline": find_late_bytes,
    "keys destroyed by two connections": find_destroyed_keys,
    "stopped and not taken over": find_not_taken_over,
    "work left over": find_left,
}
QUESTIONS_TO_THE_MODEL: Final[Mapping[str, Callable[[Case, Sequence[Tale]], Iterator[Finding]]]] = {
    "leads not by the model": find_wrong_leads,
    "journal not by the model": find_wrong_entries,
    "counters not by the model": find_wrong_counts,
    "postbacks not by the model": find_wrong_postbacks,
    "welcomes lost or doubled": find_wrong_welcomes,
}


# What should have been taken in


def expected(case: Case) -> Iterator[Taken]:
    """What the server owed our bots, in the listener's words."""
    bots = {watch.tg: watch for watch in case.watches}
    for owed in case.owed:
        if owed["bot_id"] in bots and (taken := expect(bots[owed["bot_id"]].bot, owed)) is not None:
            yield taken


def expect(bot: int, owed: Mapping[str, Any]) -> Taken | None:
    """One thing that the server owes; None where it is nothing to us, or the bot's own seat."""
    kind, facts, at = owed["kind"], owed["facts"], owed["date"]
    person = facts.get("person", 0)
    if kind in {"message", "post"} or kind.startswith("self_"):
        return None
    if kind == "start":
        message = int(owed["key"].rpartition(":")[2])
        return Taken(bot=bot, kind="start", at=at, subscriber=person, message=message, payload=facts["payload"])
    if kind in {"block", "unblock"}:
        return Taken(bot=bot, kind="stopped", at=at, subscriber=person, after="blocked" if kind == "block" else "")
    chat = CHANNEL_MARK - facts["chat"]
    if kind == "request":
        return Taken(bot=bot, kind="request", at=at, subscriber=person, chat=chat)
    before, after = (PLACES[word] for word in owed["key"].rpartition(":")[2].split(">"))
    own = facts["by"] == person
    return (
        Taken(bot=bot, kind="change", at=at, subscriber=person, chat=chat, before=before, after=after, own=own) if before != after else None
    )


# What should have come of it


def _lives(case: Case) -> dict[int, dict[int, list[Happening]]]:
    """Bot -> person -> what happened to them, as it happened."""
    lives: dict[int, dict[int, list[Happening]]] = {watch.tg: {} for watch in case.watches}
    codes = {watch.tg: watch.code for watch in case.watches}
    for owed in case.owed:
        if owed["bot_id"] in codes and (happening := _happening(owed, codes[owed["bot_id"]])) is not None:
            lives[owed["bot_id"]].setdefault(owed["facts"]["person"], []).append(happening)
    return lives


def _happening(owed: Mapping[str, Any], code: str) -> Happening | None:
    number, second = owed["number"], owed["date"]
    taken = expect(1, owed)
    if taken is None or taken.kind == "stopped":
        return None
    if taken.kind == "start":
        named, _, click = taken.payload.partition("-")
        return Happening(number, second, "start", (1,), click=click) if named == code else None
    if taken.kind == "request":
        return Happening(number, second, "request", (1,))
    return Happening(number, second, "change", (1,), before=taken.before, after=taken.after, own=taken.own)


def tell_all(case: Case) -> Iterator[Tale]:
    """Everybody's."""
    lives = _lives(case)
    for watch in case.watches:
        world = World(window=watch.window, epoch=ALWAYS, pauses=(), moved=None, deleted=None)
        for person, life in lives[watch.tg].items():
            yield watch, person, life, tell(world, life)


def _tell_wrongs(lead: Lead, outcome: Outcome, seconds: Mapping[int, int]) -> Iterator[Finding]:
    """Against the log of one lead; what came late may be superseded, and the last state is then told once more."""
    told = [postback for postback in lead.postbacks if postback.pending]
    steps = [(postback.status, postback.at) for postback in told if not postback.correction]
    held = {(postback.status, postback.at, postback.rule) for postback in lead.postbacks if not postback.pending}
    if len(steps) != len(set(steps)):
        yield f"a step was told twice: {steps}"
    owed = [(status, seconds[number]) for status, _, number in outcome.owed]
    ruled = [(status, seconds[number], rule) for status, rule, number in outcome.held]
    at_all = {(postback.status, postback.at) for postback in told}  # a step that was found late may be told as a correction
    for status, at in owed:
        if (status, at) not in at_all and (status, at, "superseded") not in held:
            yield f"{status} of {at} was not told, and no rule says why"
    for status, at, rule in ruled:
        if (status, at) not in at_all and (status, at, rule) not in held:
            yield f"{status} of {at} is held back by {rule}, and the log does not say so"
    yield from (f"{status} of {at} was told, and there was no such step" for status, at in at_all - set(owed) - {r[:2] for r in ruled})
    said = [postback.status for postback in told]
    while said and said[-1] == "wait" and outcome.status != "wait":
        said.pop()  # a new click says wait while the state stands
    if not outcome.silent and said[-1:] != [outcome.status]:
        yield f"the last one told is {said[-1] if said else 'none'}, and the lead is {outcome.status}"


def _name(watch: Watch, person: int) -> str:
    return f"person {person} of campaign {watch.campaign}"
