"""The demo: accounts with bots, campaigns and leads, made once, and the keys to them.

The database keeps only hashes of keys, so the keys are remembered in the state folder. Several demos may be remembered there, for a state
folder that is used with several databases; the one that belongs to a database is the one whose keys fit.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from services.run.files import AccountFile, write_private
from shared.db import accounts, bots, campaigns, seeds
from shared.db.connect import engine, raw
from shared.domain import keys
from shared.domain.campaigns import CODE_ALPHABET, CODE_LENGTH, CampaignStatus
from shared.domain.plans import PlanCode

#: The demo's plans must not run out under a newcomer's feet.
PLAN_LASTS: Final = timedelta(days=3_650)

#: An account of the demo has far fewer bots and campaigns than this.
ROWS_MAX: Final = 10_000

#: Telegram's ids of a demo's bots, chats and subscribers begin somewhere above these, so that no two demos in one database collide.
BOT_IDS_FROM: Final = 7_000_000_000
CHAT_IDS_FROM: Final = 1_000_000_000_000
IDS_SPREAD: Final = 900_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Campaign:
    """A campaign to make, in a chat of its own."""

    chat: str
    leads: int
    kind: str = "channel"
    paused: bool = False
    own_templates: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bot:
    """A bot to make."""

    username: str
    name: str
    campaigns: tuple[_Campaign, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """An account to make."""

    name: str
    login: str
    plan: PlanCode
    bots: tuple[_Bot, ...]


# The first two can give each other anything: both are paid, together they have fewer campaigns than the smaller plan allows, and all their
# bots are admins in all their chats. The first bot is the one that is shown moving. 100,000 leads in all.
PLAN: Final = (
    _Account(
        name="Anna's Ads",
        login="anna_ads",
        plan=PlanCode.CAT,
        bots=(
            _Bot(
                username="anna_winter_bot",
                name="Winter Sale",
                campaigns=(
                    _Campaign(chat="Winter Sale", leads=36_000),
                    _Campaign(chat="Winter Sale VIP", leads=9_000, own_templates=True),
                    _Campaign(chat="Winter Sale Talk", leads=3_000, kind="supergroup", paused=True),
                ),
            ),
            _Bot(
                username="anna_recipes_bot",
                name="Ten-Minute Recipes",
                campaigns=(_Campaign(chat="Ten-Minute Recipes", leads=17_000), _Campaign(chat="Baking Club", leads=4_000)),
            ),
        ),
    ),
    _Account(
        name="Boris Media",
        login="boris_media",
        plan=PlanCode.TIGER,
        bots=(
            _Bot(
                username="boris_news_bot",
                name="City News",
                campaigns=(_Campaign(chat="City News", leads=22_000), _Campaign(chat="City News Chat", leads=1_500, kind="supergroup")),
            ),
            _Bot(username="boris_fitness_bot", name="Fit at Home", campaigns=(_Campaign(chat="Fit at Home", leads=6_500),)),
        ),
    ),
    _Account(
        name="Clara's Blog",
        login="clara_blog",
        plan=PlanCode.KITTEN,
        bots=(_Bot(username="clara_reads_bot", name="Clara Reads", campaigns=(_Campaign(chat="Clara Reads", leads=1_000),)),),
    ),
)

GLOBAL_TEMPLATES: Final = {
    "pb_wait": "https://tracker.example/postback?click={click}&status={status}",
    "pb_approve": "https://tracker.example/postback?click={click}&status={status}",
    "pb_cancel": "https://tracker.example/postback?click={click}&status={status}",
}
OWN_TEMPLATES: Final = {"pb_approve": "https://vip.example/conversion?id={click}&lead={lead}"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Key:
    """How to get into an account. No repr, for the key's sake."""

    account: int
    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Demo:
    """A demo in a database. `shown` is the bot that moves."""

    keys: tuple[_Key, ...]
    shown: int

    def paid(self) -> tuple[_Key, _Key]:
        """The two accounts between which the bot moves."""
        return self.keys[0], self.keys[1]


def find(database_url: str, state: Path) -> Demo | None:
    """The remembered demo that this database holds."""
    remembered = _recall(state)
    db = engine(database_url, name="demo", connections=1)
    try:
        with db.begin() as tx:
            return next((demo for demo in remembered if _fits(tx, demo)), None)
    finally:
        db.dispose()


def make(database_url: str, state: Path) -> Demo:
    """Make the demo, in one transaction, and remember its keys.

    They are remembered just before the commit. A crash in between leaves keys that fit nothing, which is harmless; the other way round it
    would leave accounts that nobody can get into.
    """
    db = engine(database_url, name="demo", connections=1)
    try:
        with db.begin() as tx:
            demo = _make(tx)
            write_private(_file(state), [asdict(known) for known in (*_recall(state), demo)])
        return demo
    finally:
        db.dispose()


def describe(database_url: str, demo: Demo) -> list[AccountFile]:
    """The demo's accounts with what they own now."""
    db = engine(database_url, name="demo", connections=1)
    try:
        return [_describe(db, key) for key in demo.keys]
    finally:
        db.dispose()


def summary() -> str:
    """What a demo consists of, in figures."""
    all_bots = [bot for account in PLAN for bot in account.bots]
    campaigns = [campaign for bot in all_bots for campaign in bot.campaigns]
    leads = sum(campaign.leads for campaign in campaigns)
    return f"{len(PLAN)} accounts, {len(all_bots)} bots, {len(campaigns)} campaigns, {leads:,} leads"


def _make(tx: Connection) -> Demo:
    made = [(_make_account(tx, account), account) for account in PLAN]
    telegram = count(secrets.randbelow(IDS_SPREAD))
    subscribers = count(BOT_IDS_FROM + secrets.randbelow(IDS_SPREAD), max(c.leads for a in PLAN for b in a.bots for c in b.campaigns))
    bot_ids: list[int] = []
    chats: list[int] = []
    for key, account in made:
        for bot in account.bots:
            bot_id = seeds.add_bot(tx, key.account, tg_id=BOT_IDS_FROM + next(telegram), username=bot.username, name=bot.name)
            bot_ids.append(bot_id)
            for campaign in bot.campaigns:
                chat = seeds.add_chat(tx, tg_id=-(CHAT_IDS_FROM + next(telegram)), title=campaign.chat, kind=campaign.kind)
                chats.append(chat)
                _make_campaign(tx, key.account, bot_id, chat, campaign, first_subscriber=next(subscribers))
    for bot_id in bot_ids:
        for chat in chats:
            seeds.make_admin(tx, bot_id, chat)
    return Demo(keys=tuple(key for key, _ in made), shown=bot_ids[0])


def _make_account(tx: Connection, account: _Account) -> _Key:
    key, token = keys.new_key(secrets.choice), keys.new_transfer_token(secrets.choice)
    account_id = accounts.add(tx, name=account.name, login=account.login, key_hash=keys.hash_key(key), transfer_token=token)
    accounts.set_plan(tx, account_id, account.plan, None if account.plan is PlanCode.KITTEN else PLAN_LASTS)
    seeds.set_templates(tx, account_id, **GLOBAL_TEMPLATES)
    return _Key(account=account_id, name=account.name, key=f"{account_id}-{key}")


def _make_campaign(tx: Connection, account: int, bot: int, chat: int, campaign: _Campaign, *, first_subscriber: int) -> None:
    templates = OWN_TEMPLATES if campaign.own_templates else {}
    status = CampaignStatus.PAUSED if campaign.paused else CampaignStatus.ACTIVE
    welcome = f"Welcome to {campaign.chat}!"
    code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
    made = seeds.add_campaign(tx, account, bot, chat, code=code, status=status, welcome=welcome, **templates)
    seeds.add_leads(tx, made, campaign.leads, first_subscriber=first_subscriber)


def _fits(tx: Connection, demo: Demo) -> bool:
    """Whether the database knows each of the demo's keys."""
    found = accounts.get_callers(raw(tx), [key.account for key in demo.keys])
    credentials = [keys.parse_credential(key.key) for key in demo.keys]
    return all(c is not None and c.account in found and keys.key_matches(c.key, found[c.account].key_hash) for c in credentials)


def _describe(db: Engine, key: _Key) -> AccountFile:
    with db.begin() as tx:
        owned, _ = bots.get_bots(tx, key.account, limit=ROWS_MAX, offset=0)
        running, _ = campaigns.get_campaigns(tx, key.account, limit=ROWS_MAX, offset=0)
        return AccountFile(
            name=key.name,
            id=key.account,
            key=key.key,
            transfer_token=accounts.get_transfer_token(tx, key.account),
            bots=[bot["id"] for bot in owned if bot["disconnected"] is None],
            campaigns=[campaign["id"] for campaign in running],
        )


def _recall(state: Path) -> list[Demo]:
    try:
        remembered = json.loads(_file(state).read_text())
        return [Demo(keys=tuple(_Key(**key) for key in demo["keys"]), shown=demo["shown"]) for demo in remembered]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _file(state: Path) -> Path:
    return state / "demo.json"
