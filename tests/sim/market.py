"""What must come of a market: accounts whose bots and campaigns are paused, edited, deleted and handed over, and people who come and go.

A plain model that shares nothing with the project but the names it uses. Time is whole seconds; what is done to a campaign happens within
a second, after the people of that second or before them, nobody can tell. `arrive` is told what bots report, in the order in which
that is applied; what came of it is worked out anew from all of it, whenever it is asked.
"""

from collections import Counter
from dataclasses import dataclass, field

GRACE_S = 60
DAY_S = 86_400
ANSWER_S = 30 * DAY_S
EVER = 10**9
STATUSES = ("wait", "hold", "approve", "cancel", "trash")


@dataclass(frozen=True)
class Report:
    """What a bot reports of one happening: a start with a campaign's code, a request, or a change in a chat."""

    number: int
    bot: int
    second: int
    what: str
    person: int
    chat: int = 0
    campaign: int = 0
    click: str = ""
    before: str = ""
    after: str = ""
    own: bool = True

    @property
    def mark(self) -> tuple[object, ...]:
        """What is the same for all bots that report it; a start is told to one bot only."""
        return (self.second, self.what, self.before, self.after, self.number if self.what == "start" else 0)


@dataclass
class Campaign:
    """`holdings` are (bot, since, until), `pauses` (since, until); EVER is no end. `own` are templates of its own, by status."""

    id: int
    account: int
    bot: int
    chat: int
    window: int
    holdings: list[tuple[int, int, int]]
    epoch: int = 0
    epoch_since: int = -EVER
    pauses: list[tuple[int, int]] = field(default_factory=list)
    deleted: int = EVER
    own: dict[str, str] = field(default_factory=dict)

    @property
    def paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] == EVER


@dataclass(frozen=True)
class Seen:
    """A report that counts, how much, and the window when it came."""

    report: Report
    weight: str
    window: int


@dataclass
class Outcome:
    """What came of a person in a campaign's epoch. Owed are (status, click, number of the happening)."""

    status: str = ""
    click: str = ""
    started: int | None = None
    joined: int | None = None
    days: dict[str, int] = field(default_factory=dict)
    journal: list[tuple[int, int, str, str]] = field(default_factory=list)
    owed: list[tuple[str, str, int]] = field(default_factory=list)
    held: list[tuple[str, str, int]] = field(default_factory=list)
    #: Whether a rule held back the postback of the present status.
    silent: bool = False


@dataclass
class Market:
    """`bots` are owners by bot, `templates` an account's by status. What bots keep for themselves and say is listed as it comes."""

    bots: dict[int, int]
    campaigns: dict[int, Campaign]
    templates: dict[int, dict[str, str]]
    seen: dict[tuple[int, int, int], list[Seen]] = field(default_factory=dict)
    told: set[tuple[int, int]] = field(default_factory=set)
    organic: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    said: Counter[tuple[str, int, int, int]] = field(default_factory=Counter)

    # What is done

    def pause(self, campaign: int, second: int) -> None:
        self.campaigns[campaign].pauses.append((second, EVER))

    def resume(self, campaign: int, second: int) -> None:
        pauses = self.campaigns[campaign].pauses
        pauses[-1] = (pauses[-1][0], second)

    def hand_bot(self, bot: int, to: int, second: int, *, keep: bool) -> None:
        self.bots[bot] = to
        for campaign in self.held_by(bot):
            self._hand(campaign, to, second, keep=keep)

    def hand_campaign(self, number: int, to: int, second: int, *, keep: bool) -> None:
        campaign = self.campaigns[number]
        bot = self.seat(campaign, to)
        assert bot is not None, "somebody can take it"
        *before, (old, since, _) = campaign.holdings
        campaign.holdings = [*before, (old, since, second), (bot, second, EVER)]
        campaign.bot = bot
        self._hand(campaign, to, second, keep=keep)

    def _hand(self, campaign: Campaign, to: int, second: int, *, keep: bool) -> None:
        campaign.account = to
        if not keep:
            campaign.epoch, campaign.epoch_since = campaign.epoch + 1, second

    def held_by(self, bot: int) -> list[Campaign]:
        return [campaign for campaign in self.campaigns.values() if campaign.bot == bot and campaign.deleted == EVER]

    def seat(self, campaign: Campaign, to: int) -> int | None:
        """The bot of an account that would take a campaign: without one in the chat, with the fewest, the lowest."""
        free = [bot for bot, owner in self.bots.items() if owner == to and all(c.chat != campaign.chat for c in self.held_by(bot))]
        return min(free, key=lambda bot: (len(self.held_by(bot)), bot), default=None)

    # What is reported

    def arrive(self, report: Report) -> None:
        if (report.bot, report.number) in self.told:
            return
        self.told.add((report.bot, report.number))
        if report.what == "start":
            self._start(report)
        else:
            self._membership(report)

    def _start(self, report: Report) -> None:
        campaign = self.campaigns[report.campaign]
        mine = [until for bot, since, until in campaign.holdings if bot == report.bot and since <= report.second]
        if report.second > campaign.deleted or not mine:
            return
        if max(mine) < report.second:
            if report.second <= max(mine) + ANSWER_S:
                self.said["moved", report.bot, report.person, campaign.id] += 1
        elif report.second >= campaign.epoch_since and not _paused(campaign, report.second):
            self.said["welcome", report.bot, report.person, campaign.id] += 1
            self._see(campaign, report, "full")

    def _membership(self, report: Report) -> None:
        claims = []
        for campaign in self.campaigns.values():
            if campaign.chat == report.chat and report.second <= campaign.deleted:
                claims += [
                    (since <= report.second <= until, since, campaign.id)
                    for bot, since, until in campaign.holdings
                    if bot == report.bot and since - GRACE_S <= report.second <= until + GRACE_S
                ]
        if not claims:
            self._keep(report)
            return
        campaign = self.campaigns[max(claims)[-1]]
        weight = "journal" if report.second < campaign.epoch_since else "silent" if _paused(campaign, report.second) else "full"
        same = [seen.report.bot for seen in self._of(campaign, report.person) if seen.report.mark == report.mark]
        if not same:
            self._see(campaign, report, weight)
        elif report.bot not in same:
            self._keep(report)

    def _of(self, campaign: Campaign, person: int) -> list[Seen]:
        return self.seen.setdefault((campaign.id, campaign.epoch, person), [])

    def _see(self, campaign: Campaign, report: Report, weight: str) -> None:
        self._of(campaign, report.person).append(Seen(report, weight, campaign.window))

    def _keep(self, report: Report) -> None:
        if _word(report) != "unban":
            self.organic.append((report.bot, report.chat, report.person, report.second, _word(report)))

    # What comes of it

    def outcomes(self) -> dict[tuple[int, int, int], Outcome]:
        """By campaign, epoch and person; of earlier epochs, too."""
        return {key: _tell(seen) for key, seen in self.seen.items()}

    def in_force(self, campaign: Campaign) -> dict[str, str]:
        return campaign.own or self.templates[campaign.account]


def _tell(everything: list[Seen]) -> Outcome:
    out = Outcome()
    for seen in sorted(everything, key=lambda seen: seen.report.second):
        if seen.report.what == "start":
            _start(out, seen.report)
        else:
            _move(out, seen)
    return out


def _start(out: Outcome, report: Report) -> None:
    fresh = report.click not in {"", out.click}
    if fresh:
        out.click = report.click
    if not out.status:
        out.started = report.second
        _count(out, "starts", report.second)
    if not out.status or (fresh and out.status in {"cancel", "trash"}):
        out.status, out.silent = "wait", False
        out.owed.append(("wait", out.click, report.number))
    elif fresh:
        out.owed.append(("wait", out.click, report.number))
        out.silent = out.silent and out.status != "wait"


def _move(out: Outcome, seen: Seen) -> None:
    report, word = seen.report, _word(seen.report)
    known = bool(out.status) and seen.weight != "journal"
    if word != "unban":
        out.journal.append((report.bot, report.second, word, "paid" if known else "organic"))
    if not known:
        return
    joined = out.joined
    if word == "join":
        out.joined = report.second
    became = _became(out.status, word)
    if became == out.status:
        return
    out.status = became
    _count(out, {"hold": "holds", "approve": "confirms", "cancel": "unsubs", "trash": "unsubs"}[became], report.second)
    rule = ""
    if seen.weight == "silent":
        rule = "campaign paused"
    elif became in {"cancel", "trash"} and seen.window and joined is not None and report.second > joined + seen.window:
        rule = "window closed"
    out.silent = rule != ""
    if rule:
        out.held.append((became, rule, report.number))
    else:
        out.owed.append((became, out.click, report.number))


def _became(status: str, word: str) -> str:
    if word == "join":
        return "approve"
    if word == "request" and status != "approve":
        return "hold"
    if word == "leave" and status == "approve":
        return "cancel"
    if word == "kick" and status == "approve":
        return "trash"
    return status


def _word(report: Report) -> str:
    if report.what == "request":
        return "request"
    if report.after == "in":
        return "join"
    if report.after == "banned":
        return "kick"
    if report.before == "banned":
        return "unban"
    return "leave" if report.own else "kick"


def _count(out: Outcome, counter: str, second: int) -> None:
    out.days.setdefault(counter, second // DAY_S)


def _paused(campaign: Campaign, second: int) -> bool:
    return any(since < second < until for since, until in campaign.pauses)
