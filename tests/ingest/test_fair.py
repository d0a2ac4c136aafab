"""Any market, reported in any order, any number of times, with workers that die: the database has what the plain model says.

That a mutant of each row of the table of states is found is shown where it takes seconds: on the fold alone (`tests/sim/test_lives.py`).
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingest import apply
from services.ledger import transfers
from shared.db.connect import BY_KEY, Raw, connect, engine
from shared.domain.events import Event, EventKind
from shared.domain.leads import Action
from shared.domain.transfers import Kind
from shared.local import Services
from tests.conftest import new_database
from tests.db.support import DONE, accept, ending
from tests.ingest.arrivals import arrive, rows
from tests.ingest.fair import ACCOUNTS, BOTS, CHATS, Arrived, Done, Planner, Step, do, opening
from tests.sim.market import DAY_S, STATUSES, Market, Outcome, Report
from tests.world import Account, World

#: Markets that hypothesis draws, which it can shrink; and those that dice make, which are more of a muddle.
EXAMPLES: Final = 25
SEEDS: Final = range(40)
MIDNIGHT: Final = datetime(2026, 5, 1, tzinfo=UTC)
COUNTERS: Final = ("starts", "holds", "confirms", "unsubs")


def at(second: int) -> datetime:
    return MIDNIGHT + timedelta(seconds=second)


@dataclass
class Stage:
    """A market in the database, beside its model. Accounts, bots, chats and campaigns have other ids there, in the same order."""

    db: Raw
    worker: Raw
    holder: Raw
    accounts: list[Account]
    bots: list[int]
    chats: list[tuple[int, int]]
    campaigns: list[int]
    codes: list[str]
    market: Market = field(default_factory=opening)
    moments: int = 0
    delivered: int = 0

    def play(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Arrived):
                self._arrive(step)
            else:
                self._do(step)

    # Reports

    def _arrive(self, step: Arrived) -> None:
        arrive(self.db, [self._event(report) for report in step.reports])
        if step.crash:
            with self.holder.transaction():
                self.holder.execute("LOCK TABLE inbox_event IN SHARE MODE")  # all is written but the end of the events
                with suppress(psycopg.errors.LockNotAvailable):
                    apply.take_turn(self.worker, self.bots)
        apply.take_turn(self.worker, self.bots)
        for report in step.reports:
            self.market.arrive(report)
        self._look_at_deliveries()

    def _event(self, report: Report) -> Event:
        kind = {"start": EventKind.START, "request": EventKind.REQUEST, "change": EventKind.CHANGE}[report.what]
        payload = f"{self.codes[report.campaign]}-{report.click}".removesuffix("-") if kind is EventKind.START else ""
        return Event(
            bot=self.bots[report.bot],
            kind=kind,
            at=at(report.second),
            subscriber=report.person,
            chat=0 if kind is EventKind.START else self.chats[report.chat][1],
            message=report.number if kind is EventKind.START else 0,
            payload=payload,
            before=report.before,
            after=report.after,
            own=report.own,
        )

    def _look_at_deliveries(self) -> None:
        """What is owed is owed by who has the campaign now, by the templates now in force."""
        new = rows(
            self.db,
            """SELECT id, campaign_id, epoch, account_id, status, click, url, rule, number FROM delivery
               WHERE id > %s AND campaign_id = ANY(%s) ORDER BY id""",
            self.delivered,
            self.campaigns,
        )
        for delivery, campaign_id, epoch, account, status, click, url, rule, number in new:
            self.delivered = max(self.delivered, delivery)
            campaign = self.market.campaigns[self.campaigns.index(campaign_id)]
            assert (account, epoch) == (self.accounts[campaign.account].id, campaign.epoch)
            template = self.market.in_force(campaign)[STATUSES[status]]
            assert url == (template + click if template and number else "")
            assert (rule == "template empty") is (number > 0 and not template)

    # Deeds

    def _do(self, done: Done) -> None:
        self.moments += 1
        when = at(done.second) + timedelta(milliseconds=500 + self.moments)
        campaign = self.campaigns[done.object] if done.object < len(self.campaigns) else 0
        match done.what:
            case "pause":
                self.db.execute("INSERT INTO campaign_pause (campaign_id, since) VALUES (%s, %s)", [campaign, when])
            case "resume":
                self.db.execute("UPDATE campaign_pause SET until = %s WHERE campaign_id = %s AND until IS NULL", [when, campaign])
            case "window":
                self.db.execute("UPDATE campaign SET unsub_window = %s WHERE id = %s", [done.to, campaign])
            case "campaign templates":
                self.write("campaign", campaign, done.texts)
            case "account templates":
                self.write("account", self.accounts[done.object].id, done.texts)
            case "delete":
                self.db.execute("UPDATE campaign SET status = 2, deleted = %s WHERE id = %s", [when, campaign])
            case "hand_bot":
                self._hand(Kind.BOT, done, self.bots[done.object], when)
            case "hand_campaign":
                self._hand(Kind.CAMPAIGN, done, campaign, when)
            case _:
                raise AssertionError(done.what)
        do(self.market, done)

    def write(self, table: str, row: int, texts: dict[str, str]) -> None:
        columns = ", ".join(f"pb_{status} = %s" for status in texts)
        self.db.execute(f"UPDATE {table} SET {columns} WHERE id = %s", [*(text and f"{text}{{click}}" for text in texts.values()), row])

    def _hand(self, kind: Kind, done: Done, row: int, when: datetime) -> None:
        """A transfer by the ledger; its commit is then dated as the market's clock has it."""
        owner = self.market.bots[done.object] if kind is Kind.BOT else self.market.campaigns[done.object].account
        command = accept(self.db, kind, self.accounts[owner], row, self.accounts[done.to].token, keep=done.keep)
        began = rows(self.db, "SELECT clock_timestamp()")[0][0]
        transfers.decide_alone(self.db, [command], worker="fair", owed=[])
        assert ending(self.db, command) == DONE
        for sql in (
            "UPDATE campaign_bot SET to_date = %s WHERE to_date >= %s AND campaign_id = ANY(%s)",
            "UPDATE campaign_bot SET from_date = %s WHERE from_date >= %s AND campaign_id = ANY(%s)",
            "UPDATE campaign SET epoch_since = %s WHERE epoch_since >= %s AND id = ANY(%s)",
        ):
            self.db.execute(sql, [when, began, self.campaigns])

    # What came of it

    def compare(self, *, in_time: bool) -> None:
        outcomes = self.market.outcomes()
        homes = [(campaign.account, campaign.bot, campaign.epoch) for campaign in self.market.campaigns.values()]
        found = rows(self.db, "SELECT account_id, bot_id, lead_epoch FROM campaign WHERE id = ANY(%s) ORDER BY id", self.campaigns)
        assert [(self.accounts[account].id, self.bots[bot], epoch) for account, bot, epoch in homes] == found
        assert rows(self.db, "SELECT * FROM inbox_event") == []
        self._compare_leads(outcomes)
        self._compare_journal(outcomes)
        self._compare_messages()
        self._compare_postbacks(outcomes, in_time=in_time)

    def _current(self, outcomes: dict[tuple[int, int, int], Outcome]) -> Iterator[tuple[int, int, Outcome]]:
        for (campaign, epoch, person), out in outcomes.items():
            if epoch == self.market.campaigns[campaign].epoch and out.status:
                yield campaign, person, out

    def _compare_leads(self, outcomes: dict[tuple[int, int, int], Outcome]) -> None:
        days = ", ".join(f"{name}_day - %s::date" for name in COUNTERS)
        found = rows(
            self.db,
            f"""SELECT campaign_id, subscriber, status, click, start_time, join_time, {days} FROM current_lead
                WHERE campaign_id = ANY(%s) ORDER BY 1, 2""",
            *[MIDNIGHT.date()] * len(COUNTERS),
            self.campaigns,
        )
        leads = sorted(self._current(outcomes), key=lambda lead: lead[:2])
        assert found == [
            (
                self.campaigns[campaign],
                person,
                STATUSES.index(out.status),
                out.click,
                at(out.started or 0),
                None if out.joined is None else at(out.joined),
                *(out.days.get(name) for name in COUNTERS),
            )
            for campaign, person, out in leads
        ]
        totals: Counter[tuple[int, str]] = Counter()
        daily: Counter[tuple[int, int, str]] = Counter()
        for campaign, _, out in leads:
            totals[self.campaigns[campaign], f"n_{out.status}"] += 1
            for name, day in out.days.items():
                totals[self.campaigns[campaign], name] += 1
                daily[self.campaigns[campaign], day, name] += 1
        names = (*COUNTERS, *(f"n_{status}" for status in STATUSES))
        counted = rows(self.db, f"SELECT campaign_id, {', '.join(names)} FROM current_counter WHERE campaign_id = ANY(%s)", self.campaigns)
        assert {(row[0], name): n for row in counted for name, n in zip(names, row[1:], strict=True) if n} == dict(totals)
        sql = f"SELECT campaign_id, day - %s::date, {', '.join(COUNTERS)} FROM current_daily WHERE campaign_id = ANY(%s)"
        by_day = rows(self.db, sql, MIDNIGHT.date(), self.campaigns)
        assert {(row[0], row[1], name): n for row in by_day for name, n in zip(COUNTERS, row[2:], strict=True) if n} == dict(daily)

    def _compare_journal(self, outcomes: dict[tuple[int, int, int], Outcome]) -> None:
        expected: Counter[tuple[Any, ...]] = Counter((*entry, None) for entry in self.market.organic)
        for (campaign, epoch, person), out in outcomes.items():
            for bot, second, word, kind in out.journal:
                entry = (bot, self.market.campaigns[campaign].chat, person, second, word)
                if kind == "organic":
                    expected[(*entry, None)] += 1
                elif epoch == self.market.campaigns[campaign].epoch:
                    expected[(*entry, campaign)] += 1
        found = rows(
            self.db, "SELECT bot_id, chat_id, subscriber, at, action, campaign_id FROM current_journal WHERE bot_id = ANY(%s)", self.bots
        )
        chats = [chat for chat, _ in self.chats]
        assert expected == Counter(
            (
                self.bots.index(bot),
                chats.index(chat),
                person,
                (moment - MIDNIGHT).days * 86_400 + (moment - MIDNIGHT).seconds,
                Action(action).name.lower(),
                None if campaign is None else self.campaigns.index(campaign),
            )
            for bot, chat, person, moment, action, campaign in found
        )

    def _compare_messages(self) -> None:
        found = rows(self.db, "SELECT kind, bot_id, subscriber, campaign_id FROM send WHERE bot_id = ANY(%s)", self.bots)
        assert Counter((kind, self.bots.index(bot), person, self.campaigns.index(c)) for kind, bot, person, c in found) == self.market.said

    def _compare_postbacks(self, outcomes: dict[tuple[int, int, int], Outcome], *, in_time: bool) -> None:
        numbers = {(s.report.person, s.report.second): s.report.number for seen in self.market.seen.values() for s in seen}
        for (campaign, epoch, person), out in outcomes.items():
            found = rows(
                self.db,
                """SELECT d.status, d.click, d.at, d.number, d.rule, d.correction FROM delivery d JOIN lead l ON l.id = d.lead_id
                   WHERE (l.campaign_id, l.epoch, l.subscriber) = (%s, %s, %s) ORDER BY d.id""",
                self.campaigns[campaign],
                epoch,
                person,
            )
            told = [(STATUSES[s], c, numbers[person, int((when - MIDNIGHT).total_seconds())], fix) for s, c, when, n, _, fix in found if n]
            held = [
                (STATUSES[s], rule, numbers[person, int((when - MIDNIGHT).total_seconds())]) for s, _, when, n, rule, _ in found if not n
            ]
            assert [n for _, _, _, n, _, _ in found if n] == list(range(1, len(told) + 1))
            if in_time:
                assert [postback[:3] for postback in told] == out.owed
                assert held == out.held
            else:
                _told_late(out, told, held)


def _told_late(out: Outcome, told: list[tuple[str, str, int, bool]], held: list[tuple[str, str, int]]) -> None:
    """Each step is told once or has its rule; the last one told is the lead's state, unless a rule holds that back."""
    first = [number for _, _, number, correction in told if not correction]
    assert len(first) == len(set(first))
    owed = {(status, number) for status, _, number, _ in told}
    for status, _, number in out.owed:
        assert (status, number) in owed or (status, "superseded", number) in held
    for status, rule, number in out.held:
        assert (status, number) in owed or (status, rule, number) in held
    if out.status and not out.silent:
        said = [status for status, *_ in told]
        while said[-1] != out.status:
            assert said.pop() == "wait", "a new click may wait while the state stands"


@pytest.fixture(scope="module")
def connections(local: Services, template: str) -> Iterator[tuple[World, Raw, Raw, Raw]]:
    """One database for all markets: each has its own accounts in it."""
    with new_database(local, template) as url:
        pool = engine(url, name="test")
        with (
            connect(url, name="test") as db,
            connect(url, name="ingest", limits={**BY_KEY, "lock_timeout": 50}) as worker,
            connect(url, name="holder") as holder,
        ):
            yield World(pool), db, worker, holder
        pool.dispose()


def stage(connections: tuple[World, Raw, Raw, Raw]) -> Stage:
    world, db, worker, holder = connections
    market = opening()
    accounts = [world.account() for _ in ACCOUNTS]
    chats = [world.chat() for _ in CHATS]
    bots = [world.bot(accounts[owner], *chats) for owner in BOTS.values()]
    campaigns = [
        world.campaign(accounts[c.account], bots[c.bot], chats[c.chat], unsub_window=c.window, epoch_since=at(-2 * DAY_S))
        for c in market.campaigns.values()
    ]
    db.execute("UPDATE campaign_bot SET from_date = %s WHERE campaign_id = ANY(%s)", [at(-2 * DAY_S), campaigns])
    tg_ids = dict(rows(db, "SELECT id, tg_id FROM chat"))
    codes = dict(rows(db, "SELECT id, code FROM campaign"))
    made = Stage(
        db, worker, holder, accounts, bots, [(chat, tg_ids[chat]) for chat in chats], campaigns, [codes[campaign] for campaign in campaigns]
    )
    for account, texts in market.templates.items():
        made.write("account", accounts[account].id, texts)
    return made


@st.composite
def plans(draw: st.DrawFn, *, in_time: bool) -> list[Step]:
    return Planner(lambda below: draw(st.integers(0, below - 1)), in_time=in_time).plan()


HASTY: Final = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])


def check(connections: tuple[World, Raw, Raw, Raw], steps: list[Step], *, in_time: bool) -> None:
    here = stage(connections)
    here.play(steps)
    here.compare(in_time=in_time)


@given(steps=plans(in_time=False))
@HASTY
def test_whatever_arrives_when_the_database_has_what_happened(connections: tuple[World, Raw, Raw, Raw], steps: list[Step]) -> None:
    check(connections, steps, in_time=False)


@given(steps=plans(in_time=True))
@HASTY
def test_what_arrives_as_it_happens_is_told_as_it_happens(connections: tuple[World, Raw, Raw, Raw], steps: list[Step]) -> None:
    check(connections, steps, in_time=True)


@pytest.mark.parametrize("in_time", [False, True])
def test_so_it_is_in_many_a_muddle(connections: tuple[World, Raw, Raw, Raw], in_time: bool) -> None:
    deeds: Counter[str] = Counter()
    for seed in SEEDS:
        steps = Planner(random.Random(seed).randrange, in_time=in_time).plan()
        deeds.update(f"{step.what} {step.keep}" if isinstance(step, Done) else "arrived" for step in steps)
        try:
            check(connections, steps, in_time=in_time)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(map(str, steps))) from error
    assert min(deeds[f"{what} {keep}"] for what in ("hand_bot", "hand_campaign", "pause") for keep in (False, True)) > 0
