"""What people do reaches the right bots, in Telegram's own words."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from telethon.sessions import MemorySession
from telethon.tl import types

from tests.telegram.core import Core
from tests.telegram.naming import standing_word
from tests.telegram.people import People
from tests.telegram.server import serve
from tests.telegram.tl import now
from tests.telegram.watching import Watching, watching

BOT, OTHER, TOKEN, OTHER_TOKEN = 100, 200, "100:secret", "200:secret"
OWNER, ANN, CHAT, GROUP = 1, 7, 5_000, 6_000

Deed = Callable[[People], object]


def furnish(core: Core, kind: str = "channel") -> str:
    """A bot that is admin in a chat, and a link of its own that needs approval; the link."""
    core.add_bot(TOKEN)
    core.people.open_chat(CHAT, OWNER, kind)
    core.people.promote(BOT, CHAT, OWNER)
    return core.people.make_link(CHAT, BOT, "own", request_needed=True).url


async def caught_up(core: Core, watcher: Watching) -> None:
    await watcher.has(core.record.keys(BOT))
    assert watcher.keys == core.record.keys(BOT)


CHANGES: list[tuple[str, list[Deed], str]] = [
    ("join", [lambda p: p.join(ANN, CHAT)], "out>member"),
    ("leave", [lambda p: p.join(ANN, CHAT), lambda p: p.leave(ANN, CHAT)], "member>out"),
    ("kick", [lambda p: p.join(ANN, CHAT), lambda p: p.kick(ANN, CHAT, OWNER)], "member>out"),
    ("ban", [lambda p: p.join(ANN, CHAT), lambda p: p.ban(ANN, CHAT, OWNER)], "member>banned"),
    ("unban", [lambda p: p.ban(ANN, CHAT, OWNER), lambda p: p.unban(ANN, CHAT, OWNER)], "banned>out"),
    ("restrict", [lambda p: p.join(ANN, CHAT), lambda p: p.restrict(ANN, CHAT, OWNER)], "member>restricted"),
    ("unrestrict", [lambda p: p.restrict(ANN, CHAT, OWNER), lambda p: p.unrestrict(ANN, CHAT, OWNER)], "restricted>member"),
    ("leave", [lambda p: p.restrict(ANN, CHAT, OWNER), lambda p: p.leave(ANN, CHAT)], "restricted>restricted_out"),
    (
        "join",
        [lambda p: p.restrict(ANN, CHAT, OWNER), lambda p: p.leave(ANN, CHAT), lambda p: p.join(ANN, CHAT)],
        "restricted_out>restricted",
    ),
    ("add", [lambda p: p.add(ANN, CHAT, OWNER)], "out>member"),
    ("promote", [lambda p: p.join(ANN, CHAT), lambda p: p.promote(ANN, CHAT, OWNER)], "member>admin"),
    ("demote", [lambda p: p.promote(ANN, CHAT, OWNER), lambda p: p.demote(ANN, CHAT, OWNER)], "admin>member"),
    ("self_demote", [lambda p: p.demote(BOT, CHAT, OWNER)], "admin>member"),
    ("self_kick", [lambda p: p.kick(BOT, CHAT, OWNER)], "admin>out"),
]


@pytest.mark.parametrize("kind", ["channel", "supergroup"])
async def test_every_change_of_membership_is_told_once(kind: str) -> None:
    for name, deeds, change in CHANGES:
        async with serve() as core:
            furnish(core, kind)
            before = len(core.record.owed)
            async with watching(core, TOKEN) as watcher:
                for deed in deeds:
                    deed(core.people)
                await watcher.has(core.record.keys(BOT, before))
                last = [update for update in watcher.updates if isinstance(update, types.UpdateChannelParticipant)][-1]
                assert f"{standing_word(last.prev_participant)}>{standing_word(last.new_participant)}" == change
                assert core.record.owed[-1].kind == name


async def test_a_start_comes_with_its_payload_and_its_user() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        async with watching(core, TOKEN) as watcher:
            core.people.start(ANN, BOT, "p" * 64)
            core.people.start(ANN, BOT)
            await caught_up(core, watcher)
            first, second = (update.message for update in watcher.updates)
            assert (first.message, second.message) == ("/start " + "p" * 64, "/start")
            assert isinstance(first.entities[0], types.MessageEntityBotCommand)
            assert (await watcher.client.get_entity(ANN)).id == ANN


async def test_a_request_and_its_approval_name_the_link() -> None:
    async with serve() as core:
        link = furnish(core)
        async with watching(core, TOKEN) as watcher:
            core.people.ask(ANN, CHAT, link, about="let me in")
            core.people.approve(ANN, CHAT, OWNER)
            await watcher.has(core.record.keys(BOT, 1))
            asked, approved = watcher.updates
            assert (asked.user_id, asked.about, asked.invite.link, asked.peer.channel_id) == (ANN, "let me in", link, CHAT)
            assert (approved.actor_id, approved.invite.link, approved.invite.request_needed) == (OWNER, link, True)


async def test_a_request_at_a_public_chat_names_no_link() -> None:
    async with serve() as core:
        furnish(core)
        async with watching(core, TOKEN) as watcher:
            core.people.ask(ANN, CHAT)
            core.people.approve(ANN, CHAT, OWNER)
            core.people.ask(8, CHAT)
            core.people.decline(8, CHAT)
            await watcher.has(core.record.keys(BOT, 1))
            assert all(isinstance(update.invite, types.ChatInvitePublicJoinRequests) for update in watcher.updates)
            assert len(watcher.updates) == 3


async def test_a_basic_group_speaks_its_own_words() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        core.people.open_chat(GROUP, OWNER, "group")
        async with watching(core, TOKEN) as watcher:
            core.people.add(BOT, GROUP, OWNER)
            core.people.promote(BOT, GROUP, OWNER)
            core.people.join(ANN, GROUP)
            core.people.leave(ANN, GROUP)
            core.people.post(GROUP, "only noise", by=OWNER)
            await watcher.settle(core, BOT)
            assert [key.partition(":")[0] for key in core.record.keys(BOT)] == ["member"] * 4
            assert watcher.kinds.count("UpdateNewMessage") == 4, "three changes are announced once more, and a post"
            changes = [update for update in watcher.updates if isinstance(update, types.UpdateChatParticipant)]
            assert [f"{standing_word(one.prev_participant)}>{standing_word(one.new_participant)}" for one in changes] == [
                "out>member",
                "member>admin",
                "out>member",
                "member>out",
            ]


async def test_a_group_that_becomes_a_supergroup_says_so_in_both() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        core.people.open_chat(GROUP, OWNER, "group")
        core.people.promote(BOT, GROUP, OWNER)
        async with watching(core, TOKEN) as watcher:
            core.people.migrate(GROUP, CHAT)
            core.people.join(ANN, CHAT)
            await watcher.has(core.record.keys(BOT, 1))
            actions = [update.message.action for update in watcher.updates if hasattr(update, "message") and update.message.action]
            assert actions[0].channel_id == CHAT
            assert actions[1].chat_id == GROUP
            assert core.record.owed[-1].facts["chat"] == CHAT


async def test_blocking_and_starting_again() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        async with watching(core, TOKEN) as watcher:
            core.people.start(ANN, BOT, "code")
            core.people.block(ANN, BOT)
            core.people.start(ANN, BOT, "code")
            await watcher.until(lambda: len(watcher.updates) == 4)
            assert [getattr(update, "stopped", None) for update in watcher.updates] == [None, True, False, None]


async def test_each_bot_learns_what_is_its_business() -> None:
    async with serve() as core:
        core.add_bot(OTHER_TOKEN)
        core.add_bot("300:secret")
        link = furnish(core)
        core.people.promote(OTHER, CHAT, OWNER, may_invite=False)
        core.people.add(300, CHAT, OWNER)
        start = len(core.record.owed)
        core.people.ask(ANN, CHAT, link)
        core.people.join(8, CHAT)
        core.people.start(ANN, OTHER, "code")
        kinds = {bot: [owed.kind for owed in core.record.owed[start:] if owed.bot_id == bot] for bot in (BOT, OTHER, 300)}
        assert kinds == {BOT: ["request", "join"], OTHER: ["join", "start"], 300: []}


async def test_dates_are_those_we_name() -> None:
    async with serve() as core:
        core.add_bot(TOKEN)
        yesterday = now() - timedelta(days=1)
        async with watching(core, TOKEN) as watcher:
            core.people.start(ANN, BOT, "code", at=yesterday)
            await caught_up(core, watcher)
            assert watcher.updates[0].message.date == yesterday


async def test_a_restarted_client_that_kept_its_state_catches_up() -> None:
    async with serve() as core:
        furnish(core, "supergroup")
        session: Any = MemorySession()
        async with watching(core, TOKEN, session) as watcher:
            core.people.start(ANN, BOT, "before")
            await watcher.has(core.record.keys(BOT, 1))
        before = len(core.record.owed)
        core.people.start(ANN, BOT, "meanwhile")
        core.people.join(ANN, CHAT)
        core.people.leave(ANN, CHAT)
        async with watching(core, None, session, catch_up=True) as watcher:
            await watcher.has(core.record.keys(BOT, before))
            assert set(watcher.keys) == set(core.record.keys(BOT, before))


async def test_a_supergroups_messages_are_counted_there_and_can_be_asked_for() -> None:
    async with serve() as core:
        furnish(core, "supergroup")
        session: Any = MemorySession()
        async with watching(core, TOKEN, session) as watcher:
            core.people.post(CHAT, "first", by=ANN)
            await watcher.until(lambda: "UpdateNewChannelMessage" in watcher.kinds)
            core.nasty.set(withhold_percent=100)
            core.people.post(CHAT, "second", by=ANN)
            core.nasty.set(withhold_percent=0)
            core.people.post(CHAT, "third", by=ANN)
            await watcher.until(lambda: watcher.kinds.count("UpdateNewChannelMessage") == 3)
            assert "GetChannelDifference" in core.record.methods()


async def test_many_things_at_once_come_in_one_container() -> None:
    async with serve() as core:
        furnish(core)
        async with watching(core, TOKEN) as watcher:
            with core.courier.together():
                core.people.start(ANN, BOT, "code")
                core.people.join(ANN, CHAT)
                core.people.leave(ANN, CHAT)
            await watcher.has(core.record.keys(BOT, 1))
            assert core.record.connections[0].pushes == 1


async def test_a_thousand_events_are_all_seen() -> None:
    async with serve() as core:
        furnish(core)
        async with watching(core, TOKEN) as watcher:
            for person in range(1_000, 1_500):
                core.people.start(person, BOT, f"code-{person}")
                core.people.join(person, CHAT)
            await watcher.has(core.record.keys(BOT, 1))
            assert len(watcher.keys) == len(set(watcher.keys)) == 1_000
