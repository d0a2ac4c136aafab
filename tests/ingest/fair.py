"""Random markets: what is done to campaigns, what people do, what bots report of it and when that arrives; as a plan that can be played.

Every choice is `pick(n)`, a number below n, as in `tests/sim/lives.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tests.sim.market import DAY_S, Campaign, Market, Report

Pick = Callable[[int], int]
STEPS_MAX: Final = 30
ACCOUNTS: Final = (0, 1, 2)
BOTS: Final = {0: 0, 1: 1, 2: 2, 3: 0}
CHATS: Final = (0, 1)
PEOPLE: Final = (1, 2, 3)
#: Bot and chat of each campaign at first.
CAMPAIGNS: Final = ((0, 0), (0, 1), (1, 0))
#: Seconds between two happenings: mostly few, sometimes beyond grace, the window, or into another day.
PASSING_S: Final = (0, 0, 1, 1, 5, 30, 61, DAY_S)
WINDOWS_S: Final = (0, 1, 31, DAY_S)
CLICKS: Final = ("", "a", "b")
PLACES: Final = ("out", "in", "banned")
DEEDS: Final = ("pause", "resume", "window", "templates", "templates", "delete", "hand_bot", "hand_bot", "hand_campaign", "hand_campaign")


@dataclass(frozen=True)
class Done:
    """Something done to a market: a method of `Market`, or a change of a field, with its second."""

    what: str
    second: int
    object: int
    to: int = 0
    keep: bool = True
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrived:
    """Reports that arrive together. `crash`: the worker that takes them first does not live to commit."""

    reports: list[Report]
    crash: bool


Step = Done | Arrived


def opening() -> Market:
    """A market before anything was done."""
    campaigns = {
        number: Campaign(number, BOTS[bot], bot, chat, WINDOWS_S[-1], [(bot, -2 * DAY_S, 10**9)])
        for number, (bot, chat) in enumerate(CAMPAIGNS)
    }
    return Market(dict(BOTS), campaigns, {account: templates(f"account{account}") for account in ACCOUNTS})


def templates(host: str, *, only: str = "") -> dict[str, str]:
    """Templates of a set, or `only` one of them and the others empty."""
    made = {status: f"https://{host}.example/{status}?c=" for status in ("wait", "hold", "approve", "cancel", "trash")}
    return {status: template if only in {"", status} else "" for status, template in made.items()}


def do(market: Market, done: Done) -> None:
    """Do it to the model."""
    match done.what:
        case "pause":
            market.pause(done.object, done.second)
        case "resume":
            market.resume(done.object, done.second)
        case "window":
            market.campaigns[done.object].window = done.to
        case "campaign templates":
            market.campaigns[done.object].own = done.texts if any(done.texts.values()) else {}
        case "account templates":
            market.templates[done.object] = done.texts
        case "delete":
            market.campaigns[done.object].deleted = done.second
        case "hand_bot":
            market.hand_bot(done.object, done.to, done.second, keep=done.keep)
        case "hand_campaign":
            market.hand_campaign(done.object, done.to, done.second, keep=done.keep)
        case _:
            raise AssertionError(done.what)


class Planner:
    """Makes a plan, with a model at hand to know what can be done."""

    def __init__(self, pick: Pick, *, in_time: bool) -> None:
        self._pick, self._in_time = pick, in_time
        self._market = opening()
        self._second = 0
        self._places = {(person, chat): PLACES[(0, 0, 0, 1, 2)[pick(5)]] for person in PEOPLE for chat in CHATS}
        self._last = dict.fromkeys(PEOPLE, -1)
        self._pending: list[Report] = []
        self._told: list[Report] = []
        self._steps: list[Step] = []

    def plan(self) -> list[Step]:
        for number in range(4 + self._pick(STEPS_MAX)):
            self._second += PASSING_S[self._pick(len(PASSING_S))]
            choice = self._pick(10)
            if choice < 6 or number == 0:
                self._happen(number)
            elif choice < 8:
                self._do(number)
            else:
                self._deliver(1 + self._pick(6))
        self._deliver(len(self._pending))
        return self._steps

    def _happen(self, number: int) -> None:
        """Somebody does something; at most one thing a second, so that its place in their life is plain."""
        person = PEOPLE[self._pick(len(PEOPLE))]
        self._second = max(self._second, self._last[person] + 1)
        self._last[person] = self._second
        what = ("start", "start", "change", "change", "change", "request")[self._pick(6)]
        if what == "start":
            campaign = self._market.campaigns[self._pick(len(CAMPAIGNS))]
            bot = campaign.bot if self._pick(4) else self._pick(len(BOTS))
            click = CLICKS[self._pick(len(CLICKS))]
            self._report([Report(number, bot, self._second, what, person, campaign=campaign.id, click=click)])
            return
        chat = CHATS[self._pick(len(CHATS))]
        told = Report(number, 0, self._second, what, person, chat)
        if what == "change":
            before = self._places[person, chat]
            after = (
                PLACES[(PLACES.index(before) + 1 + (0, 0, 1)[self._pick(3)]) % 3]
                if before != "in"
                else ("out", "out", "banned")[self._pick(3)]
            )
            self._places[person, chat] = after
            told = replace(told, before=before, after=after, own=bool(self._pick(2)))
        watching = [bot for bot in BOTS if self._pick(4)] or [self._pick(len(BOTS))]
        self._report([replace(told, bot=bot) for bot in watching])

    def _report(self, reports: list[Report]) -> None:
        if self._in_time:
            self._arrive(reports)
        else:
            self._pending += reports

    def _deliver(self, number: int) -> None:
        """Some of what is pending arrives in any order, some of it again."""
        reports = [self._pending.pop(self._pick(len(self._pending))) for _ in range(min(number, len(self._pending)))]
        reports += [self._told[self._pick(len(self._told))] for _ in range(self._pick(3)) if self._told]
        if reports:
            self._arrive(reports)

    def _arrive(self, reports: list[Report]) -> None:
        self._told += reports
        for report in reports:
            self._market.arrive(report)
        self._steps.append(Arrived(reports, crash=not self._pick(8)))

    def _do(self, number: int) -> None:
        campaign = self._market.campaigns[self._pick(len(CAMPAIGNS))]
        to, keep = ACCOUNTS[self._pick(len(ACCOUNTS))], bool(self._pick(2))
        what = DEEDS[self._pick(len(DEEDS))]
        bot = self._pick(len(BOTS))
        possible = {
            "pause": not campaign.paused,
            "resume": campaign.paused,
            "delete": number > STEPS_MAX // 2,
            "hand_bot": self._market.bots[bot] != to,
            "hand_campaign": campaign.account != to and self._market.seat(campaign, to) is not None,
        }
        if campaign.deleted <= self._second or not possible.get(what, True):
            return
        only = ("", "", "approve", "none")[self._pick(4)]
        done = Done(what, self._second, campaign.id, to, keep)
        match what:
            case "window":
                done = replace(done, to=WINDOWS_S[self._pick(len(WINDOWS_S))])
            case "templates" if keep:
                done = replace(done, what="campaign templates", texts=templates(f"campaign{campaign.id}v{number}", only=only))
            case "templates":
                done = replace(done, what="account templates", object=to, texts=templates(f"account{to}v{number}", only=only))
            case "hand_bot":
                done = replace(done, object=bot)
            case _:
                pass
        do(self._market, done)
        self._steps.append(done)
