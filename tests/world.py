"""Accounts, bots, chats and campaigns for a test, in a few words."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from sqlalchemy import Engine, update

from shared.db import accounts, schema, seeds
from shared.domain import keys
from shared.domain.plans import PlanCode


@dataclass(frozen=True, slots=True)
class Account:
    """`key` is the whole credential, `id-key`."""

    id: int
    name: str
    key: str
    token: str


class World:
    """Makes things in one database. Every call commits."""

    def __init__(self, db: Engine) -> None:
        self._db = db
        self._numbers = count(1)

    def account(self, name: str = "", *, plan: PlanCode = PlanCode.TIGER, lasts: timedelta | None = timedelta(days=30)) -> Account:
        """An account on a plan. A negative `lasts` is a plan that has run out."""
        number = next(self._numbers)
        key, token = keys.new_key(secrets.choice), keys.new_transfer_token(secrets.choice)
        name = name or f"Account {number}"
        with self._db.begin() as tx:
            account = accounts.add(tx, name=name, login=f"login{number}", key_hash=keys.hash_key(key), transfer_token=token)
            accounts.set_plan(tx, account, plan, lasts)
        return Account(account, name, f"{account}-{key}", token)

    def chat(self, title: str = "") -> int:
        """A chat."""
        number = next(self._numbers)
        with self._db.begin() as tx:
            return seeds.add_chat(tx, tg_id=-1_000_000_000_000 - number, title=title or f"Chat {number}")

    def bot(self, owner: Account, *chats: int) -> int:
        """A connected bot that is an administrator of these chats."""
        number = next(self._numbers)
        with self._db.begin() as tx:
            bot = seeds.add_bot(tx, owner.id, tg_id=7_000_000_000 + number, username=f"bot{number}_bot", name=f"Bot {number}")
            for chat in chats:
                seeds.make_admin(tx, bot, chat)
        return bot

    def campaign(self, owner: Account, bot: int, chat: int, *, leads: int = 0, **settings: Any) -> int:
        """An active campaign unless `status` says otherwise, with so many leads."""
        number = next(self._numbers)
        with self._db.begin() as tx:
            campaign = seeds.add_campaign(tx, owner.id, bot, chat, code=f"code{number:06}"[:10], **settings)
            if leads:
                seeds.add_leads(tx, campaign, leads, first_subscriber=campaign * 10_000_000 + 3_456_789)
        return campaign

    def bot_with_campaigns(self, owner: Account, number: int, **settings: Any) -> tuple[int, list[int]]:
        """A bot with so many campaigns, each in a chat of its own."""
        chats = [self.chat() for _ in range(number)]
        bot = self.bot(owner, *chats)
        return bot, [self.campaign(owner, bot, chat, **settings) for chat in chats]

    def set(self, table: str, row_id: int, **values: object) -> None:
        """Change columns of one row, as something outside the test's subject would."""
        rows = schema.metadata.tables[table]
        with self._db.begin() as tx:
            tx.execute(update(rows).where(rows.c.id == row_id).values(values))
