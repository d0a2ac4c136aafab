"""What people do, and which bots learn of it in which words.

People, bots and chats are named by their numbers; a person is made on first mention. Nothing is forbidden: somebody may
join twice, or be unbanned who was never banned, because clients must stand that, too.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from telethon.tl import types

from tests.telegram.courier import Courier
from tests.telegram.nasty import Nasty
from tests.telegram.state import OUTSIDE, Bot, Chat, Kind, Link, Member, Standing, World
from tests.telegram.tl import channel_participant, group_participant, invite, now, peer_of

COMMAND_ENTITY_BYTES: Final = len("/start")


#: A restriction outlives leaving and coming back; only an admin takes it away.
RESTRICTION_KEPT: Final = {
    (Standing.RESTRICTED, Standing.OUT): Standing.RESTRICTED_OUT,
    (Standing.RESTRICTED_OUT, Standing.MEMBER): Standing.RESTRICTED,
}


class People:
    """Everybody's hands."""

    def __init__(self, world: World, courier: Courier, nasty: Nasty, clock: Callable[[], datetime] = now) -> None:
        self._world, self._courier, self._nasty, self.clock = world, courier, nasty, clock

    def call(self, person: int, username: str | None) -> None:
        """Somebody takes a username, or gives it up; bots see it with what comes next."""
        self._world.person(person).username = username

    # Bots

    def start(self, person: int, bot: int, payload: str = "", *, at: datetime | None = None) -> None:
        """Open the bot by its link. Whoever had blocked it unblocks it by that."""
        to = self._world.bots[bot]
        if person in to.blocked_by:
            self.unblock(person, bot, at=at)
        entity = types.MessageEntityBotCommand(0, COMMAND_ENTITY_BYTES)
        self._write(person, to, f"/start {payload}".strip(), "start", at, [entity], payload=payload)

    def say(self, person: int, bot: int, text: str, *, at: datetime | None = None) -> None:
        """Write something to the bot."""
        self._write(person, self._world.bots[bot], text, "message", at, None)

    def block(self, person: int, bot: int, *, at: datetime | None = None) -> None:
        self._world.bots[bot].blocked_by.add(person)
        self._stop(person, bot, stopped=True, at=at)

    def unblock(self, person: int, bot: int, *, at: datetime | None = None) -> None:
        self._world.bots[bot].blocked_by.discard(person)
        self._stop(person, bot, stopped=False, at=at)

    def _write(self, person: int, to: Bot, text: str, kind: str, at: datetime | None, entities: Any, **facts: Any) -> None:
        self._world.person(person)
        to.met.add(person)
        message = types.Message(
            id=to.next_message_id(), peer_id=types.PeerUser(person), date=at or self.clock(), message=text, entities=entities
        )
        self._courier.deliver(to, types.UpdateNewMessage(message, 0, 0), kind, person=person, text=text, **facts)

    def _stop(self, person: int, bot: int, *, stopped: bool, at: datetime | None) -> None:
        update = types.UpdateBotStopped(person, at or self.clock(), stopped, 0)
        self._courier.deliver(self._world.bots[bot], update, "block" if stopped else "unblock", person=person)

    # Chats

    def open_chat(self, chat: int, owner: int, kind: str = Kind.CHANNEL, *, title: str = "", username: str | None = None) -> Chat:
        """A new chat with its creator; no bot is in there yet."""
        opened = Chat(chat, Kind(kind), title or f"Chat {chat}", self.clock(), username)
        opened.members[owner] = Member(Standing.CREATOR, opened.since, owner)
        self._world.person(owner)
        self._world.chats[chat] = opened
        return opened

    def make_link(self, chat: int, admin: int, secret: str, *, title: str | None = None, request_needed: bool = False) -> Link:
        """An invite link of this admin's."""
        link = Link(f"https://t.me/+{secret}", admin, self.clock(), title, request_needed)
        self._world.chats[chat].links[link.url] = link
        return link

    def ask(self, person: int, chat: int, link: str | None = None, *, about: str = "", at: datetime | None = None) -> None:
        """Ask to be let in: by a link that needs approval, or at a public chat that does."""
        where = self._world.chats[chat]
        where.asked[person] = where.links[link] if link else None
        for bot in self._world.watchers(where, person, inviting=True):
            bot.met.add(person)
            update = types.UpdateBotChatInviteRequester(
                peer=peer_of(where),
                date=at or self.clock(),
                user_id=person,
                about=about,
                invite=self._asked_by(bot, where.asked[person]),
                qts=0,
            )
            self._courier.deliver(bot, update, "request", person=person, chat=chat, link=link)

    def approve(self, person: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        """Let somebody in who has asked."""
        link = self._world.chats[chat].asked.pop(person)
        shown = self._asked_by
        self._move("approve", person, chat, by, Standing.MEMBER, at=at, show=lambda bot: shown(bot, link), url=link.url if link else None)

    def decline(self, person: int, chat: int) -> None:
        """Bots learn nothing of it."""
        self._world.chats[chat].asked.pop(person, None)

    def join(self, person: int, chat: int, link: str | None = None, *, via_chatlist: bool = False, at: datetime | None = None) -> None:
        """Come in, by a link, by a folder of chats, or by the public name."""
        used = self._world.chats[chat].links[link] if link else None
        self._move("join", person, chat, person, Standing.MEMBER, at=at, show=self._shower(used), via_chatlist=via_chatlist, url=link)

    def add(self, person: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        """Be put in by somebody else."""
        self._move("add", person, chat, by, Standing.MEMBER, at=at)

    def leave(self, person: int, chat: int, *, at: datetime | None = None) -> None:
        self._move("leave", person, chat, person, Standing.OUT, at=at)

    def kick(self, person: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        """Be put out, and free to come back."""
        self._move("kick", person, chat, by, Standing.OUT, at=at)

    def ban(self, person: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        self._move("ban", person, chat, by, Standing.BANNED, at=at)

    def unban(self, person: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        """Be free to come back, without being in."""
        self._move("unban", person, chat, by, Standing.OUT, at=at)

    def restrict(self, person: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        """Stay in, but say nothing."""
        self._move("restrict", person, chat, by, Standing.RESTRICTED, at=at)

    def unrestrict(self, person: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        self._move("unrestrict", person, chat, by, Standing.MEMBER, at=at)

    def promote(self, who: int, chat: int, by: int, *, may_invite: bool = True, at: datetime | None = None) -> None:
        """Make somebody an admin, or change an admin's rights. A bot is put into a channel by this alone."""
        self._move("promote", who, chat, by, Standing.ADMIN, at=at, may_invite=may_invite)

    def demote(self, who: int, chat: int, by: int, *, at: datetime | None = None) -> None:
        self._move("demote", who, chat, by, Standing.MEMBER, at=at)

    def post(self, chat: int, text: str, *, by: int | None = None) -> None:
        """Write into a chat: noise for the bots there."""
        where = self._world.chats[chat]
        author = types.PeerUser(by) if by else None
        self._announce(where, message=text, from_id=author, post=where.kind is Kind.CHANNEL or None)

    def migrate(self, chat: int, into: int, *, at: datetime | None = None) -> Chat:
        """Turn a basic group into a supergroup with another number. Everybody stays who they are; only messages tell of it."""
        old = self._world.chats[chat]
        new = self.open_chat(into, next(iter(old.members)), Kind.SUPERGROUP, title=old.title)
        new.members, new.bots, old.moved_to = dict(old.members), set(old.bots), into
        self._announce(old, at=at, action=types.MessageActionChatMigrateTo(into))
        for bot in self._bots_in(new):
            self._courier.mention(bot, types.UpdateChannel(into))
        self._announce(new, at=at, action=types.MessageActionChannelMigrateFrom(old.title, chat))
        return new

    # How it reaches bots

    def _move(
        self,
        kind: str,
        who: int,
        chat: int,
        by: int,
        standing: Standing,
        *,
        at: datetime | None = None,
        show: Callable[[Bot], Any] = lambda _bot: None,
        via_chatlist: bool = False,
        may_invite: bool = True,
        url: str | None = None,
    ) -> None:
        """Give somebody a standing, and tell the bots that watch; the invite is shown to each in its own way."""
        where, date = self._world.chats[chat], at or self.clock()
        standing = kept_restriction(where.standing(who), standing, by_admin=by != who)
        watching = self._world.watchers(where, who)
        member = Member(standing, date, by, may_invite)
        before = self._world.place(where, who, member)
        for bot in watching:
            update = self._changed(where, who, by, date, before, member, show(bot), via_chatlist)
            facts = {"person": who, "chat": chat, "by": by, "link": url}
            self._courier.deliver(bot, update, kind if who != bot.id else f"self_{kind}", **facts)
            if who == bot.id and not where.basic:
                self._courier.mention(bot, types.UpdateChannel(chat))
        self._tell_group(where, who, by, before, member, url)

    def _changed(
        self, where: Chat, who: int, by: int, date: datetime, before: Member | None, after: Member, link: Any, via_chatlist: bool
    ) -> Any:
        if where.basic:
            return types.UpdateChatParticipant(
                chat_id=where.id,
                date=date,
                actor_id=by,
                user_id=who,
                qts=0,
                prev_participant=group_participant(who, before),
                new_participant=group_participant(who, after),
                invite=link,
            )
        left = self._nasty.explicit_left
        return types.UpdateChannelParticipant(
            channel_id=where.id,
            date=date,
            actor_id=by,
            user_id=who,
            qts=0,
            via_chatlist=via_chatlist or None,
            prev_participant=channel_participant(who, before, explicit_left=left),
            new_participant=channel_participant(who, after, explicit_left=left),
            invite=link,
        )

    def _tell_group(self, where: Chat, who: int, by: int, before: Member | None, after: Member, url: str | None) -> None:
        """The service message with which a group announces the same thing once more."""
        was_in = before is not None and before.standing not in OUTSIDE
        is_in = after.standing not in OUTSIDE
        if where.kind is Kind.CHANNEL or was_in == is_in or not self._nasty.service_messages:
            return
        if was_in:
            action = types.MessageActionChatDeleteUser(who)
        elif url and where.links[url].request_needed:
            action = types.MessageActionChatJoinedByRequest()
        elif url:
            action = types.MessageActionChatJoinedByLink(where.links[url].admin_id)
        else:
            action = types.MessageActionChatAddUser([who])
        self._announce(where, at=after.since, from_id=types.PeerUser(by), action=action)

    def _announce(self, where: Chat, *, at: datetime | None = None, action: Any = None, **content: Any) -> None:
        """A message in a chat, to every bot in it. A supergroup or channel counts it; in a basic group each bot does."""
        what = types.MessageService if action is not None else types.Message
        content |= {"action": action} if action is not None else {}
        message = what(id=len(where.messages) + 1, peer_id=peer_of(where), date=at or self.clock(), **content)
        if not where.basic:
            where.messages.append(message)
        for bot in self._bots_in(where):
            if where.basic:
                own = what(id=bot.next_message_id(), peer_id=peer_of(where), date=message.date, **content)
                self._courier.deliver(bot, types.UpdateNewMessage(own, 0, 0), "post", chat=where.id)
            else:
                self._courier.mention(bot, types.UpdateNewChannelMessage(message, where.pts, 1))

    def _bots_in(self, where: Chat) -> list[Bot]:
        return [self._world.bots[number] for number in sorted(where.bots) if where.standing(number) is not Standing.BANNED]

    def _shower(self, link: Link | None) -> Callable[[Bot], Any]:
        return lambda bot: invite(bot, link, truncated=self._nasty.truncated_links)

    def _asked_by(self, bot: Bot, link: Link | None) -> Any:
        """The link of a request, or that it was made at a public chat."""
        return self._shower(link)(bot) if link else types.ChatInvitePublicJoinRequests()


def kept_restriction(before: Standing, after: Standing, *, by_admin: bool) -> Standing:
    """Where somebody ends who is going there."""
    return after if by_admin else RESTRICTION_KEPT.get((before, after), after)
