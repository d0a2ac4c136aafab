"""A whole system around a test Telegram: its bots and campaigns, what people do there in Telegram's own words, and what came of it."""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from telethon.tl import types

from shared.db.connect import Raw, connect, engine
from shared.sealing import Sealer
from tests.chaos.telegram import audit
from tests.chaos.telegram.evidence import CHANNEL_MARK, Taken, Watch
from tests.chaos.telegram.judge import expect
from tests.stack import SECRET_KEY, Stack, eventually
from tests.telegram.remote import Remote
from tests.telegram.state import Member, Standing
from tests.telegram.tl import channel_participant
from tests.world import Account, World

#: Who made the chats, and puts people in and out.
ADMIN: Final = 1

#: So many updates travel in one container.
TOGETHER: Final = 40

#: Campaigns of the town began so long ago, so that what happens may have dates of the past.
AGE: Final = timedelta(days=2)
DAWN: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=12)

TEMPLATES: Final = {f"pb_{status}": f"http://tracker.example/{status}?click={{click}}" for status in audit.STATUSES}

Deed = dict[str, Any]


def at(second: int) -> datetime:
    return DAWN + timedelta(seconds=second)


def start(watch: Watch, person: int, second: int, click: str = "a", *, payload: str | None = None) -> Deed:
    """Somebody opens the campaign's link."""
    text = payload if payload is not None else f"{watch.code}-{click}" if click else watch.code
    return {"do": "start", "person": person, "bot": watch.tg, "payload": text, "at": at(second).timestamp()}


def start_again(watch: Watch, person: int, second: int, click: str, message: int) -> Deed:
    """The same as a message with this number, which can be pushed more than once. The person must have written to the bot before."""
    text = f"/start {watch.code}-{click}"
    update = types.UpdateNewMessage(types.Message(id=message, peer_id=types.PeerUser(person), date=at(second), message=text), 0, 0)
    return pushed(watch.tg, update, "start", person=person, payload=text.removeprefix("/start "))


def request(watch: Watch, person: int, second: int, *, tg: int | None = None) -> Deed:
    """Somebody asks to join the campaign's chat."""
    update = types.UpdateBotChatInviteRequester(
        types.PeerChannel(watch.chat_tg), at(second), person, "", types.ChatInvitePublicJoinRequests(), 0
    )
    return pushed(tg or watch.tg, update, "request", person=person, chat=watch.chat_tg)


def change(
    watch: Watch, person: int, second: int, words: str, *, by: int | None = None, tg: int | None = None, explicit: bool = False
) -> Deed:
    """Somebody's standing in the campaign's chat changes, such as `out>member`; by themselves, if nobody else is named."""
    before, after = (
        channel_participant(person, Member(Standing(word), at(second), by or person), explicit_left=explicit) for word in words.split(">")
    )
    update = types.UpdateChannelParticipant(
        channel_id=watch.chat_tg,
        date=at(second),
        actor_id=by or person,
        user_id=person,
        qts=0,
        prev_participant=before,
        new_participant=after,
    )
    return pushed(tg or watch.tg, update, "change", person=person, chat=watch.chat_tg, by=by or person)


def pushed(tg: int, update: Any, kind: str, **facts: Any) -> Deed:
    return {"do": "push", "bot": tg, "update": bytes(update).hex(), "kind": kind, **facts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there is of a person in a campaign. Postbacks are status, click, and the rule that holds one back or nothing."""

    status: str = "none"
    click: str = ""
    username: str = ""
    postbacks: tuple[tuple[str, str, str], ...] = ()
    urls: tuple[str, ...] = ()
    journal: tuple[tuple[str, str], ...] = ()
    counted: frozenset[str] = frozenset()


@dataclass(slots=True)
class Town:
    """Everything, with a listener, a relay and an ingest worker at work once it is `open`."""

    server: Remote
    stack: Stack
    db: Raw
    world: World
    owner: Account = field(init=False)
    bots: dict[int, int] = field(default_factory=dict)
    """Telegram's number -> ours."""
    first_owed: int = 0

    def __post_init__(self) -> None:
        self.owner = self.world.account()
        columns = ", ".join(f"{name} = %({name})s" for name in TEMPLATES)
        self.db.execute(f"UPDATE account SET {columns} WHERE id = %(id)s", {**TEMPLATES, "id": self.owner.id})

    def bot(self, *chats: int, owner: Account | None = None) -> int:
        """A bot of ours with its session, an administrator of these chats, here and at Telegram."""
        bot = self.world.bot(owner or self.owner, *chats)
        tg = self._number("bot", bot)
        token = f"{tg}:{secrets.token_hex(16)}"
        sealed = Sealer.read(SECRET_KEY).seal(token.encode(), f"bot_session.token:{bot}")
        self.db.execute("INSERT INTO bot_session (bot_id, token) VALUES (%s, %s)", (bot, sealed))
        self.server.add_bot(token=token)
        for chat in chats:
            number = CHANNEL_MARK - self._number("chat", chat)
            self.server.promote(who=tg, chat=number, by=ADMIN)
        self.bots[tg] = bot
        return bot

    def chat(self, kind: str = "channel") -> int:
        chat = self.world.chat()
        self.server.open_chat(chat=CHANNEL_MARK - self._number("chat", chat), owner=ADMIN, kind=kind)
        return chat

    def watch(self, bot: int | None = None, chat: int | None = None, *, owner: Account | None = None, **settings: Any) -> Watch:
        """A campaign that is old enough, of a bot and a chat of its own unless they are named."""
        chat = chat or self.chat()
        bot = bot or self.bot(chat, owner=owner)
        campaign = self.world.campaign(owner or self.owner, bot, chat, **settings)
        self.db.execute("UPDATE campaign SET epoch_since = now() - %s WHERE id = %s", (AGE, campaign))
        self.db.execute("UPDATE campaign_bot SET from_date = now() - %s WHERE campaign_id = %s", (AGE, campaign))
        row = self.db.execute("SELECT code, unsub_window FROM campaign WHERE id = %s", (campaign,)).fetchone()
        assert row is not None
        return Watch(
            tg=self._number("bot", bot),
            bot=bot,
            chat_tg=CHANNEL_MARK - self._number("chat", chat),
            chat=chat,
            campaign=campaign,
            code=row[0],
            window=row[1],
        )

    def open(self, *listener_options: str) -> None:
        """Start what works; everybody's bots listen afterwards."""
        audit.install(self.db, [], "")
        self.stack.environment |= {
            "GATEPOST_TELEGRAM_SERVER": f"{self.server.ports['dc']}@{self.server.ports['host']}:{self.server.ports['port']}",
            "GATEPOST_TELEGRAM_SERVER_KEY": self.server.ports["public_key"],
        }
        self.stack.listener(*listener_options)
        self.stack.relay()
        self.stack.ingest()
        eventually(lambda: set(self.server.counts()["listening"]) >= set(self.bots), "every bot is listening")
        self.first_owed = self.server.counts()["owed"]

    def do(self, deeds: Sequence[Deed]) -> None:
        """All this happens, many things in one container."""
        for first in range(0, len(deeds), TOGETHER):
            self.server.together(deeds=deeds[first : first + TOGETHER])

    def settle(self) -> None:
        """Wait until all that was told has been taken in and applied, and everything that was to be sent is."""
        due = self._due()

        def settled() -> bool:
            return due <= set(audit.taken(self.db)) and not any(audit.left(self.db).values())

        try:
            eventually(settled, "everything is applied")
        except AssertionError as error:
            missing = due - set(audit.taken(self.db))
            logs = "\n".join(process.log.read_text()[-2_000:] for process in self.stack.processes)
            raise AssertionError(f"not taken in: {sorted(missing)[:5]}; still waiting: {audit.left(self.db)}\n{logs}") from error

    def look(self, watch: Watch) -> dict[int, Seen]:
        """What there is now of everybody in a campaign and its chat, as the campaign's bot saw them."""
        came = audit.came(self.db, watch.campaign, watch.chat, bot=watch.bot)
        extra = {
            row[0]: row[1:]
            for row in self.db.execute(
                """SELECT subscriber, username, starts_day, holds_day, confirms_day, unsubs_day,
                          ARRAY(SELECT url FROM delivery d WHERE d.lead_id = l.id ORDER BY d.id)
                   FROM current_lead l WHERE campaign_id = %s""",
                (watch.campaign,),
            )
        }
        everybody = {*came.leads, *(entry.subscriber for entry in came.journal)}
        seen = {}
        for person in everybody:
            journal = tuple(
                sorted((entry.word, "paid" if entry.paid else "organic") for entry in came.journal if entry.subscriber == person)
            )
            lead = came.leads.get(person)
            if lead is None:
                seen[person] = Seen(journal=journal)
                continue
            username, *days, urls = extra[person]
            names = ("starts", "holds", "confirms", "unsubs")
            seen[person] = Seen(
                status=lead.status,
                click=lead.click,
                username=username,
                postbacks=tuple((one.status, one.click, one.rule) for one in lead.postbacks),
                urls=tuple(urls),
                journal=journal,
                counted=frozenset(name for name, day in zip(names, days, strict=True) if day is not None),
            )
        return seen

    def welcomes(self) -> dict[tuple[int, int], int]:
        """How often each bot wrote to each person."""
        sent: dict[tuple[int, int], int] = {}
        for one in self.server.everything("sent"):
            key = one["bot_id"], one["peer_id"]
            sent[key] = sent.get(key, 0) + 1
        return sent

    def _due(self) -> set[Taken]:
        told = self.server.everything("owed", self.first_owed)
        return {one for owed in told if (one := expect(self.bots[owed["bot_id"]], owed)) is not None}

    def _number(self, table: str, row: int) -> int:
        rows = self.db.execute(f"SELECT tg_id FROM {table} WHERE id = %s", (row,)).fetchall()
        return int(rows[0][0])


@contextlib.contextmanager
def town(database_url: str, amqp_url: str, folder: Path, server: Remote) -> Iterator[Town]:
    """A town in an empty database; its processes end with the block."""
    pool = engine(database_url, name="town")
    with contextlib.ExitStack() as stack:
        stack.callback(pool.dispose)
        db = stack.enter_context(connect(database_url, name="town"))
        processes = Stack(database_url, amqp_url, folder)
        stack.callback(processes.end)
        yield Town(server, processes, db, World(pool))
