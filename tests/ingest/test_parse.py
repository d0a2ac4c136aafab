"""What each shape of update says to us."""

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from telethon.tl import types

from services.ingest import parse
from shared.domain.events import Event, EventKind
from tests.telegram.state import Member, Standing
from tests.telegram.tl import channel_participant, group_participant

BOT, TG, ANN, ADMIN, CHAT = 3, 700, 7, 1, 5_000
CHANNEL: Final = -1_000_000_005_000
AT: Final = datetime(2026, 11, 20, 9, 0, 1, tzinfo=UTC)
HOSTILE: Final = "ann\0\ud800'; DROP TABLE lead;--" + "я" * 100

STANDINGS: Final = {word: Standing(word) for word in ("out", "member", "restricted", "restricted_out", "admin", "creator", "banned")}
MEMBERSHIPS: Final = {
    "none": "out",
    "out": "out",
    "restricted_out": "out",
    "member": "in",
    "restricted": "in",
    "admin": "in",
    "creator": "in",
    "banned": "banned",
}
SEATS: Final = {
    word: {"admin": "admin", "creator": "admin"}.get(word, "member" if known == "in" else "out") for word, known in MEMBERSHIPS.items()
}


def with_entities(update: Any, *entities: Any) -> Any:
    update._entities = {
        entity.id if isinstance(entity, types.User) else (-entity.id if isinstance(entity, types.Chat) else -(10**12) - entity.id): entity
        for entity in entities
    }
    return update


def read(update: Any, *entities: Any) -> Event | None:
    seen = parse.read(with_entities(update, *entities), bot=BOT, tg_id=TG)
    return seen.event if seen else None


def key(update: Any) -> bytes:
    seen = parse.read(with_entities(update), bot=BOT, tg_id=TG)
    assert seen is not None
    return seen.key


def user(number: int = ANN, username: str | None = "ann", **more: Any) -> Any:
    return types.User(number, access_hash=99, username=username, **more)


def message(text: str, *, peer: Any = None, out: bool = False, number: int = 11) -> Any:
    return types.UpdateNewMessage(types.Message(id=number, peer_id=peer or types.PeerUser(ANN), date=AT, message=text, out=out), 5, 1)


def short(text: str, *, out: bool = False) -> Any:
    return types.UpdateShortMessage(id=11, user_id=ANN, message=text, pts=5, pts_count=1, date=AT, out=out)


def participant(word: str, who: int) -> Any:
    return None if word == "none" else channel_participant(who, Member(STANDINGS[word], AT, ADMIN), explicit_left=True)


def change(before: str, after: str, *, who: int = ANN, by: int = ANN, qts: int = 9, at: datetime = AT, **more: Any) -> Any:
    return types.UpdateChannelParticipant(
        channel_id=CHAT,
        date=at,
        actor_id=by,
        user_id=who,
        qts=qts,
        prev_participant=participant(before, who),
        new_participant=participant(after, who),
        **more,
    )


def group_change(before: str, after: str, *, who: int = ANN, by: int = ANN) -> Any:
    was, becomes = (group_participant(who, Member(STANDINGS[word], AT, ADMIN)) for word in (before, after))
    return types.UpdateChatParticipant(CHAT, AT, by, who, 9, prev_participant=was, new_participant=becomes)


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("/start", ""),
        ("/start code12-click", "code12-click"),
        ("/start@some_bot code12-click", "code12-click"),
        ("/start " + "x" * 64, "x" * 64),
        ("/start " + "x" * 5_000, "x" * parse.PAYLOAD_LENGTH_MAX),
        ("/start a b", "a b"),
        ("/start  two", " two"),
        ("/start \ud800a\0b", "ab"),
        ("/start кто-там", "кто-там"),
    ],
)
def test_a_start(text: str, payload: str) -> None:
    expected = Event(bot=BOT, kind=EventKind.START, at=AT, subscriber=ANN, message=11, username="ann", payload=payload)
    assert read(message(text), user()) == expected
    assert read(short(text)) == Event(bot=BOT, kind=EventKind.START, at=AT, subscriber=ANN, message=11, payload=payload)
    assert key(message(text)) == key(short(text))


@pytest.mark.parametrize(
    "update",
    [
        message("hello"),
        message("/startle code12"),
        message("/help /start"),
        message("/start code12", out=True),
        message("/start code12", peer=types.PeerChat(5)),
        message("/start code12", peer=types.PeerChannel(5)),
        short("hello"),
        short("/start code12", out=True),
        types.UpdateNewChannelMessage(types.Message(id=1, peer_id=types.PeerChannel(CHAT), date=AT, message="/start a"), 1, 1),
        types.UpdateChannel(CHAT),
        types.UpdateConfig(),
        types.UpdateNewMessage(
            types.MessageService(id=1, peer_id=types.PeerChat(CHAT), date=AT, action=types.MessageActionChatAddUser([ANN])), 1, 1
        ),
        types.UpdateNewMessage(types.MessageEmpty(id=1, peer_id=types.PeerUser(ANN)), 1, 1),
    ],
    ids=lambda update: type(update).__name__,
)
def test_what_is_nothing_to_us(update: Any) -> None:
    assert read(update) is None


@pytest.mark.parametrize("after", list(MEMBERSHIPS))
@pytest.mark.parametrize("before", list(MEMBERSHIPS))
def test_every_change_of_membership(before: str, after: str) -> None:
    was, becomes = MEMBERSHIPS[before], MEMBERSHIPS[after]
    for by, own in ((ANN, True), (ADMIN, False)):
        event = read(change(before, after, by=by), user())
        if was == becomes:
            assert event is None
        else:
            assert event == Event(
                bot=BOT, kind=EventKind.CHANGE, at=AT, subscriber=ANN, chat=CHANNEL, username="ann", before=was, after=becomes, own=own
            )


@pytest.mark.parametrize("after", list(SEATS))
@pytest.mark.parametrize("before", list(SEATS))
def test_every_change_of_the_bots_own_seat(before: str, after: str) -> None:
    where = types.Channel(CHAT, "News", types.ChatPhotoEmpty(), AT, access_hash=55, broadcast=True)
    assert read(change(before, after, who=TG, by=ADMIN), where) == Event(
        bot=BOT,
        kind=EventKind.SEAT,
        at=AT,
        chat=CHANNEL,
        before=SEATS[before],
        after=SEATS[after],
        title="News",
        chat_type="channel",
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("out", "member", ("out", "in")), ("member", "out", ("in", "out")), ("out", "admin", ("out", "in")), ("member", "admin", None)],
)
def test_a_basic_group(before: str, after: str, expected: tuple[str, str] | None) -> None:
    event = read(group_change(before, after), user())
    assert (event and (event.before, event.after)) == expected
    if event:
        assert (event.chat, event.subscriber, event.own) == (-CHAT, ANN, True)


def test_the_bots_seat_in_a_basic_group() -> None:
    group = types.Chat(CHAT, "Friends", types.ChatPhotoEmpty(), 3, AT, 1)
    event = read(group_change("out", "admin", who=TG, by=ADMIN), group)
    assert event is not None
    assert (event.kind, event.chat, event.before, event.after, event.title, event.chat_type) == (
        EventKind.SEAT,
        -CHAT,
        "out",
        "admin",
        "Friends",
        "group",
    )


@pytest.mark.parametrize(
    ("entity", "said"),
    [
        (types.Channel(CHAT, "Talk", types.ChatPhotoEmpty(), AT, access_hash=1, megagroup=True), ("Talk", "supergroup")),
        (types.ChannelForbidden(CHAT, 1, "Gone", broadcast=True), ("Gone", "channel")),
        (types.ChannelForbidden(CHAT, 1, HOSTILE, megagroup=True), (HOSTILE.replace("\0", "").replace("\ud800", ""), "supergroup")),
    ],
)
def test_where_the_bot_was_put_out_the_chats_name_is_still_known(entity: Any, said: tuple[str, str]) -> None:
    event = read(change("admin", "banned", who=TG, by=ADMIN), entity)
    assert event is not None
    assert (event.title, event.chat_type) == said


def test_a_seat_in_a_chat_that_is_not_described() -> None:
    event = read(change("none", "admin", who=TG, by=ADMIN))
    assert event is not None
    assert (event.title, event.chat_type) == ("", "")


@pytest.mark.parametrize(
    ("peer", "chat"), [(types.PeerChannel(CHAT), CHANNEL), (types.PeerChat(CHAT), -CHAT)], ids=["supergroup or channel", "basic group"]
)
@pytest.mark.parametrize(
    "invite",
    [types.ChatInvitePublicJoinRequests(), types.ChatInviteExported("https://t.me/+abc...", ADMIN, AT, request_needed=True)],
    ids=["public", "cut link"],
)
def test_a_request(peer: Any, chat: int, invite: Any) -> None:
    update = types.UpdateBotChatInviteRequester(peer, AT, ANN, "let me in", invite, 4)
    assert read(update, user()) == Event(bot=BOT, kind=EventKind.REQUEST, at=AT, subscriber=ANN, chat=chat, username="ann")


@pytest.mark.parametrize(("stopped", "after"), [(True, "blocked"), (False, "")])
def test_the_bot_is_blocked_and_unblocked(stopped: bool, after: str) -> None:
    assert read(types.UpdateBotStopped(ANN, AT, stopped, 4)) == Event(bot=BOT, kind=EventKind.STOPPED, at=AT, subscriber=ANN, after=after)


def test_a_group_becomes_a_supergroup() -> None:
    service = types.MessageService(id=4, peer_id=types.PeerChat(CHAT), date=AT, action=types.MessageActionChatMigrateTo(6_000))
    group = types.Chat(CHAT, "Friends", types.ChatPhotoEmpty(), 3, AT, 1)
    assert read(types.UpdateNewMessage(service, 1, 1), group) == Event(
        bot=BOT, kind=EventKind.MIGRATED, at=AT, chat=-CHAT, message=-1_000_000_006_000, title="Friends"
    )


@pytest.mark.parametrize(
    ("who", "username"),
    [
        (user(username=None), ""),
        (user(username=None, usernames=[types.Username("old", active=False), types.Username("bought", active=True)]), "bought"),
        (user(username=HOSTILE), HOSTILE.replace("\0", "").replace("\ud800", "")[: parse.USERNAME_LENGTH_MAX]),
        (types.UserEmpty(ANN), ""),
    ],
    ids=["none", "of a list", "hostile", "deleted"],
)
def test_user_names(who: Any, username: str) -> None:
    event = read(message("/start"), who)
    assert event is not None
    assert event.username == username


def test_a_key_is_of_what_happened_and_not_of_numbers_or_names() -> None:
    assert key(change("out", "member")) == key(change("none", "member", qts=0, via_chatlist=True))
    base = change("out", "member")
    others = [
        change("out", "member", by=ADMIN),
        change("out", "member", who=8, by=8),
        change("out", "member", at=AT + timedelta(seconds=1)),
        change("banned", "member"),
        change("member", "out"),
        message("/start"),
        message("/start", number=12),
        types.UpdateBotStopped(ANN, AT, True, 1),
        types.UpdateBotStopped(ANN, AT, False, 1),
        types.UpdateBotChatInviteRequester(types.PeerChannel(CHAT), AT, ANN, "", types.ChatInvitePublicJoinRequests(), 1),
    ]
    assert len({key(one) for one in [base, *others]}) == len(others) + 1


@pytest.mark.parametrize(
    ("update", "entity", "peer"),
    [
        (message("/start"), user(), (ANN, 99)),
        (message("/start"), types.User(ANN, access_hash=99, min=True), None),
        (message("/start"), None, None),
        (change("out", "member"), user(), None),
        (
            change("none", "admin", who=TG),
            types.Channel(CHAT, "News", types.ChatPhotoEmpty(), AT, access_hash=55, broadcast=True),
            (CHANNEL, 55),
        ),
        (group_change("out", "admin", who=TG), types.Chat(CHAT, "Friends", types.ChatPhotoEmpty(), 3, AT, 1), None),
    ],
    ids=["start", "min", "unknown", "join", "seat", "group"],
)
def test_whom_the_bot_may_want_to_address(update: Any, entity: Any, peer: tuple[int, int] | None) -> None:
    seen = parse.read(with_entities(update, *[entity] if entity else []), bot=BOT, tg_id=TG)
    assert seen is not None
    assert parse.peer_of(update, seen.event) == peer


def test_every_participant_that_telegram_knows_is_placed() -> None:
    known = {name for name, _ in inspect.getmembers(types, inspect.isclass) if name.startswith(("ChannelParticipant", "ChatParticipant"))}
    placed = {"", "Self", "Admin", "Creator", "Banned", "Left"}
    lists = {"sAdmins", "sBanned", "sBots", "sContacts", "sKicked", "sMentions", "sRecent", "sSearch", "s", "sForbidden"}
    assert {name.removeprefix("Channel").removeprefix("Chat").removeprefix("Participant") for name in known} == placed | lists
