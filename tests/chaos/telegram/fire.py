"""Transfers under fire: bots and campaigns change hands through the real ledger while people come and go."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg

from shared.db.connect import Raw
from shared.db.migrate import migrate
from shared.local import Services
from tests.api import Api
from tests.chaos.stage import empty_queues
from tests.chaos.telegram import moves
from tests.chaos.telegram.evidence import Lead, Taken, Watch, mark
from tests.chaos.telegram.judge import expect
from tests.conftest import on_database
from tests.ingest.town import ADMIN, Town, town
from tests.stack import eventually
from tests.telegram.remote import started
from tests.world import Account

DATABASE: Final = "chaos_fire"
ACCOUNTS: Final = 3

#: Chats whose campaign goes back and forth between two bots in there, and bots that go round with their campaign.
SHARED: Final = 4
ROUND: Final = 3

#: Of the transfers so many leave the leads behind.
SHARE_WITHOUT_LEADS: Final = 0.3

#: The crowd is there so long before the first transfer.
LEAD_S: Final = 2.0

PEOPLE: Final = 300
FIRST_PERSON: Final = 70_000_000
WINDOW_S: Final = 2_592_000
FINDINGS_SHOWN: Final = 5
PURGED_S: Final = 60.0

NUMBERED: Final = """
    CREATE SEQUENCE audit_n;
    CREATE TABLE fire_applied (LIKE inbox_event, n bigint);
    CREATE TABLE fire_version (n bigint, campaign bigint, account bigint, bot bigint, epoch int, since timestamptz);
    CREATE TABLE fire_binding (n bigint, campaign bigint, bot bigint, from_date timestamptz, ended boolean);
    CREATE TABLE fire_told (LIKE delivery, subscriber bigint, n bigint);

    CREATE FUNCTION fire_applied() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO fire_applied SELECT OLD.*, nextval('audit_n');
        RETURN NULL;
    END $$;
    CREATE FUNCTION fire_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO fire_version VALUES (nextval('audit_n'), NEW.id, NEW.account_id, NEW.bot_id, NEW.lead_epoch, NEW.epoch_since);
        RETURN NULL;
    END $$;
    CREATE FUNCTION fire_binding() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO fire_binding VALUES (nextval('audit_n'), NEW.campaign_id, NEW.bot_id, NEW.from_date, NEW.to_date IS NOT NULL);
        RETURN NULL;
    END $$;
    CREATE FUNCTION fire_told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO fire_told SELECT NEW.*, (SELECT subscriber FROM lead WHERE id = NEW.lead_id), nextval('audit_n');
        RETURN NULL;
    END $$;

    CREATE TRIGGER fire AFTER DELETE ON inbox_event FOR EACH ROW EXECUTE FUNCTION fire_applied();
    CREATE TRIGGER fire AFTER UPDATE OF account_id, bot_id, lead_epoch ON campaign FOR EACH ROW EXECUTE FUNCTION fire_version();
    CREATE TRIGGER fire AFTER INSERT OR UPDATE OF to_date ON campaign_bot FOR EACH ROW EXECUTE FUNCTION fire_binding();
    CREATE TRIGGER fire AFTER INSERT ON delivery FOR EACH ROW EXECUTE FUNCTION fire_told();

    INSERT INTO fire_version SELECT nextval('audit_n'), id, account_id, bot_id, lead_epoch, epoch_since FROM campaign;
    INSERT INTO fire_binding SELECT nextval('audit_n'), campaign_id, bot_id, from_date, false FROM campaign_bot;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """So many transfers, spread over so many events."""

    seed: int
    events: int
    rate: float
    transfers: int


def full_script(seed: int) -> Script:
    return Script(seed=seed, events=20_000, rate=200.0, transfers=240)


def short_script(seed: int) -> Script:
    return Script(seed=seed, events=900, rate=120.0, transfers=16)


@dataclass(slots=True)
class Thing:
    """A bot or a campaign, and whose it is now. `homes` are those it goes to, one after another."""

    kind: str
    id: int
    homes: Sequence[Account]
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of it."""

    script: Script
    moved: int
    without_leads: int
    events: int
    findings: dict[str, list[str]]

    @property
    def passed(self) -> bool:
        return not any(self.findings.values()) and self.moved == self.script.transfers


@dataclass(slots=True)
class Fire:
    """The town, its accounts and things, and what was refused although nothing was in the way."""

    town: Town
    accounts: list[Account]
    watches: list[Watch] = field(default_factory=list)
    """A bot and a campaign that it has or may get."""
    things: list[Thing] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    moved: int = 0
    without_leads: int = 0

    def furnish(self) -> None:
        town = self.town
        for account in self.accounts:
            columns = {f"pb_{status}": f"http://tracker{account.id}.example/{status}?click={{click}}" for status in moves.STATUSES}
            sets = ", ".join(f"{name} = %({name})s" for name in columns)
            town.db.execute(f"UPDATE account SET {sets} WHERE id = %(id)s", {**columns, "id": account.id})
        for number in range(SHARED):
            first, second = self.accounts[number % ACCOUNTS], self.accounts[(number + 1) % ACCOUNTS]
            watch = town.watch(owner=first, unsub_window=WINDOW_S, welcome="Welcome")
            other = town.bot(watch.chat, owner=second)
            tg = next(tg for tg, bot in town.bots.items() if bot == other)
            self.watches += [watch, Watch(**{**{name: getattr(watch, name) for name in Watch.__slots__}, "bot": other, "tg": tg})]
            self.things.append(Thing("camp", watch.campaign, (first, second)))
        for number in range(ROUND):
            homes = [*self.accounts[number:], *self.accounts[:number]]
            watch = town.watch(owner=homes[0], unsub_window=WINDOW_S, welcome="Welcome")
            self.watches.append(watch)
            self.things.append(Thing("bot", watch.bot, homes))

    def transfer(self, api: Api, random: Random, number: int, over_s: float) -> None:
        """So many transfers, one after another, over this time."""
        began = time.monotonic()
        for turn in range(number):
            time.sleep(max(0.0, began + (turn + random.random()) * over_s / number - time.monotonic()))
            thing = random.choice(self.things)
            sender, recipient = thing.homes[thing.place], thing.homes[(thing.place + 1) % len(thing.homes)]
            leads = int(random.random() >= SHARE_WITHOUT_LEADS)
            fields: dict[str, Any] = {thing.kind: thing.id, "token": recipient.token, "leads": leads}
            answer = api.post(f"transfer/{thing.kind}", sender.key, **fields)
            if answer.error is None:
                thing.place = (thing.place + 1) % len(thing.homes)
                self.moved += 1
                self.without_leads += not leads
            else:
                self.refused.append(f"{thing.kind} {thing.id} from {sender.id} to {recipient.id}: {answer.error}")


def run(script: Script, services: Services, folder: Path) -> Report:
    """One run.

    1. Accounts, bots and campaigns; every process; all bots listen.
    2. The crowd, and after a while the transfers beside it.
    3. Everything is applied, and what was left behind is purged.
    4. The story is collected and judged.
    """
    random = Random(script.seed)
    with furnished(services, folder) as fire:
        here, server = fire.town, fire.town.server
        gateway = here.stack.gateway()
        here.stack.ledger()
        began = mark(server)
        stages = [{"bot": w.tg, "chat": w.chat_tg, "admin": ADMIN, "codes": [w.code] * 9 + ["nobody0"]} for w in fire.watches]
        crowd = {"events": script.events, "per_s": script.rate, "seed": script.seed, "people": PEOPLE, "first_id": FIRST_PERSON}
        server.crowd(stages=stages, wait=False, **crowd)
        time.sleep(LEAD_S)
        connections = server.counts()["connections"]
        moving = threading.Thread(
            target=fire.transfer,
            args=(Api(gateway.base_url), random, script.transfers, script.events / script.rate - LEAD_S),
            name="transfers",
        )
        moving.start()
        moving.join()
        eventually(lambda: not server.counts()["crowd_running"], "the crowd has gone", wait_s=2 * script.events / script.rate + 60)
        here.settle()
        eventually(lambda: here.db.execute("SELECT count(*) FROM purge").fetchone() == (0,), "all is purged", wait_s=PURGED_S)
        story = collect(fire, began.owed, began.sent, (connections, server.counts()["connections"]))
    return Report(
        script=script,
        moved=fire.moved,
        without_leads=fire.without_leads,
        events=len(story.owed),
        findings={**moves.judge(story), "transfers refused without reason": fire.refused},
    )


@contextmanager
def furnished(services: Services, folder: Path) -> Iterator[Fire]:
    """A town in a database of its own, with everything in place and at work."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {DATABASE}")
    empty_queues(services.amqp_url)
    url = on_database(services.database_url, DATABASE)
    migrate(url)
    with started(log=folder / "telegram.log") as server, town(url, services.amqp_url, folder, server) as here:
        fire = Fire(here, [here.world.account() for _ in range(ACCOUNTS)])
        fire.furnish()
        here.open("--catch-up", "2")
        here.db.execute(NUMBERED)
        yield fire


def collect(fire: Fire, since_owed: int, since_sent: int, connections: tuple[int, int]) -> moves.Story:
    """Everything that the judge is to know."""
    here, db = fire.town, fire.town.db
    told = here.server.everything("owed", since_owed)
    chats: dict[int, tuple[int, list[int]]] = {}
    for watch in fire.watches:
        campaigns = chats.setdefault(watch.marked, (watch.chat, []))[1]
        campaigns += [] if watch.campaign in campaigns else [watch.campaign]
    return moves.Story(
        codes={watch.code: watch.campaign for watch in fire.watches},
        chats=chats,
        window=WINDOW_S,
        owed=[one for owed in told if (one := expect(here.bots[owed["bot_id"]], owed)) is not None],
        applied=_applied(db),
        versions=[
            moves.Version(number=n, campaign=campaign, account=account, bot=bot, epoch=epoch, epoch_since=since.timestamp())
            for n, campaign, account, bot, epoch, since in db.execute("SELECT * FROM fire_version")
        ],
        bindings=_bindings(db),
        told=_told(db),
        leads=_leads(db),
        journal=_journal(db),
        counts=_counts(db),
        sent=Counter((here.bots[sent["bot_id"]], sent["peer_id"]) for sent in here.server.everything("sent", since_sent)),
        blockers=frozenset((here.bots[owed["bot_id"]], owed["facts"]["person"]) for owed in told if owed["kind"] == "block"),
        connections=connections,
        hosts={account.id: f"tracker{account.id}.example" for account in fire.accounts},
    )


def _applied(db: Raw) -> list[tuple[int, Taken]]:
    rows = db.execute(
        """SELECT n, bot_id, kind, at, subscriber, chat, message, payload, before, after, own
           FROM fire_applied WHERE kind <> 'seat' ORDER BY n"""
    )
    names = ("subscriber", "chat", "message", "payload", "before", "after", "own")
    return [(n, Taken(bot=bot, kind=kind, at=_s(at), **dict(zip(names, rest, strict=True)))) for n, bot, kind, at, *rest in rows]


def _bindings(db: Raw) -> list[moves.Binding]:
    rows = db.execute(
        """SELECT b.n, b.campaign, b.bot, b.from_date, c.to_date, e.n
           FROM fire_binding b
           JOIN campaign_bot c ON (c.campaign_id, c.from_date) = (b.campaign, b.from_date)
           LEFT JOIN fire_binding e ON e.ended AND (e.campaign, e.from_date) = (b.campaign, b.from_date)
           WHERE NOT b.ended"""
    )
    return [
        moves.Binding(number=n, campaign=campaign, bot=bot, since=since.timestamp(), until=until and until.timestamp(), ended=ended)
        for n, campaign, bot, since, until, ended in rows
    ]


def _told(db: Raw) -> list[moves.Told]:
    rows = db.execute(
        "SELECT n, campaign_id, epoch, account_id, subscriber, url, status, at, state, rule, correction FROM fire_told ORDER BY n"
    )
    return [
        moves.Told(
            number=n,
            campaign=campaign,
            epoch=epoch,
            account=account,
            subscriber=subscriber,
            host=url.split("/")[2] if url else "",
            status=moves.STATUSES[status],
            at=_s(at),
            pending=state == "pending",
            rule=rule,
            correction=correction,
        )
        for n, campaign, epoch, account, subscriber, url, status, at, state, rule, correction in rows
    ]


def _leads(db: Raw) -> dict[tuple[int, int, int], Lead]:
    rows = db.execute("SELECT campaign_id, epoch, subscriber, status, click, start_time, join_time FROM lead")
    return {
        (campaign, epoch, subscriber): Lead(
            status=moves.STATUSES[status], click=click, started=_s(started), joined=joined and _s(joined), postbacks=()
        )
        for campaign, epoch, subscriber, status, click, started, joined in rows
    }


def _journal(db: Raw) -> list[moves.Line]:
    words = ("join", "leave", "kick", "request")
    rows = db.execute("SELECT chat_id, subscriber, action, at, coalesce(campaign_id, 0) FROM journal")
    return [moves.Line(chat=chat, subscriber=who, word=words[action], at=_s(at), campaign=of) for chat, who, action, at, of in rows]


def _counts(db: Raw) -> dict[tuple[int, int], dict[str, int]]:
    names = ("starts", "holds", "confirms", "unsubs", *(f"n_{status}" for status in moves.STATUSES))
    rows: Any = db.execute(f"SELECT campaign_id, epoch, {', '.join(names)} FROM lead_counter")
    return {(campaign, epoch): dict(zip(names, counts, strict=True)) for campaign, epoch, *counts in rows}


def _s(moment: datetime) -> int:
    return int(moment.timestamp())


def show(report: Report) -> None:
    """What was done, and the verdict."""
    print(f"\n{report.moved} transfers, {report.without_leads} of them without leads, during {report.events:,} events\n\nverdict")
    for question, findings in report.findings.items():
        print(f"  {question:<48} {len(findings):>5}")
        for finding in findings[:FINDINGS_SHOWN]:
            print(f"      {finding}")
    print(flush=True)
