"""The server as a process: everything a test needs, over its control port, with the record to compare with."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from telethon import errors
from telethon.sessions import MemorySession
from telethon.tl import functions, types

from tests.stack import eventually
from tests.telegram.client import Address, connect, new_client
from tests.telegram.remote import ROOT, Refused, Remote, started
from tests.telegram.tl import now
from tests.telegram.watching import Watching

BOT, TOKEN, CHAT, OWNER, ANN = 100, "100:secret", 5_000, 1, 7


@pytest.fixture(scope="module")
def process() -> Iterator[Remote]:
    with started() as remote:
        yield remote


@pytest.fixture
def remote(process: Remote) -> Remote:
    """The same process, with our bot and chat as if nothing had happened yet."""
    process.add_bot(token=TOKEN)
    process.open_chat(chat=CHAT, owner=OWNER, kind="channel")
    process.promote(who=BOT, chat=CHAT, by=OWNER)
    return process


async def watcher_at(remote: Remote, session: Any = None, **options: Any) -> Watching:
    watcher = Watching(new_client(session, **options))
    await connect(watcher.client, Address(remote.ports["port"]), token=TOKEN)
    return watcher


def keys_since(remote: Remote, since: int) -> list[str]:
    return [owed["key"] for owed in remote.everything("owed", since)]


async def test_what_is_asked_for_reaches_the_client_and_the_record(remote: Remote) -> None:
    watcher, before = await watcher_at(remote), remote.counts()["owed"]
    link = remote.make_link(chat=CHAT, admin=BOT, secret="own", request_needed=True)
    remote.start(person=ANN, bot=BOT, payload="code-1", at=1_700_000_000)
    remote.ask("ask", person=ANN, chat=CHAT, link=link)
    remote.together(deeds=[{"do": "approve", "person": ANN, "chat": CHAT, "by": OWNER}, {"do": "leave", "person": ANN, "chat": CHAT}])
    owed = remote.everything("owed", before)
    await watcher.has([one["key"] for one in owed])
    assert [one["kind"] for one in owed] == ["start", "request", "approve", "leave"]
    assert (owed[0]["date"], owed[0]["facts"]["payload"], owed[1]["facts"]["link"]) == (1_700_000_000, "code-1", link)
    await watcher.client.send_message(ANN, "welcome")
    assert remote.everything("sent")[-1]["text"] == "welcome"
    assert remote.everything("calls")[-1]["method"] == "SendMessage"
    assert remote.counts()["listening"] == [BOT]
    await watcher.client.disconnect()


async def test_any_update_can_be_pushed(remote: Remote) -> None:
    watcher, before = await watcher_at(remote), remote.counts()["owed"]
    update = types.UpdateChannelParticipant(CHAT, now(), 8, 8, 0, new_participant=types.ChannelParticipant(8, now()))
    remote.push(bot=BOT, update=bytes(update).hex(), kind="hand-made")
    await watcher.has(keys_since(remote, before))
    assert remote.everything("owed", before)[0]["kind"] == "hand-made"
    await watcher.client.disconnect()


async def test_pushes_can_be_kept_ready_and_let_go_at_once(remote: Remote) -> None:
    watcher, before = await watcher_at(remote), remote.counts()["owed"]
    remote.dam()
    remote.start(person=ANN, bot=BOT, payload="code")
    remote.start(person=ANN, bot=BOT, payload="another")
    await watcher.client.get_me()
    assert watcher.keys == []
    assert remote.open_dam() == 2
    await watcher.has(keys_since(remote, before))
    await watcher.client.disconnect()


async def test_a_crowd_is_seen_by_a_client_that_is_cut_off_and_catches_up(remote: Remote) -> None:
    session: Any = MemorySession()
    watcher, before = await watcher_at(remote, session), remote.counts()["owed"]
    stage = {"bot": BOT, "chat": CHAT, "admin": OWNER, "codes": ["abcdef", "ghijkl"]}
    remote.nasty(withhold_percent=2, seed=7)
    remote.crowd(stages=[stage], events=600, people=40, seed=3, wait=False)
    await watcher.until(lambda: len(watcher.keys) > 100)
    remote.drop(bot_id=BOT)
    await asyncio.to_thread(eventually, lambda: remote.counts()["crowd"] == 600, "the crowd is done")
    remote.nasty(withhold_percent=0)
    await watcher.client.get_me()
    await watcher.client.catch_up()
    await watcher.has(keys_since(remote, before))
    owed = keys_since(remote, before)
    assert len(owed) == len(set(owed)) == len(set(watcher.keys) & set(owed))
    kinds = {owed["kind"] for owed in remote.everything("owed", before)}
    assert kinds > {"start", "request", "approve", "join", "leave", "kick", "ban", "unban", "block"}
    assert remote.counts()["crowd_running"] is False
    await watcher.client.disconnect()


def test_an_endless_crowd_goes_at_its_pace_until_it_is_stopped(remote: Remote) -> None:
    stage = {"bot": BOT, "chat": CHAT, "admin": OWNER, "codes": ["abcdef"]}
    before = time.monotonic()
    assert remote.crowd(stages=[stage], per_s=200, wait=False) == 0
    eventually(lambda: remote.counts()["crowd"] >= 20, "the crowd does something")
    remote.stop_crowd()
    eventually(lambda: not remote.counts()["crowd_running"], "the crowd has stopped")
    assert remote.counts()["crowd"] <= (time.monotonic() - before) * 200 + 1


def test_a_crowd_of_one_seed_does_the_same_again(remote: Remote) -> None:
    stage = {"bot": BOT, "chat": CHAT, "admin": OWNER, "codes": ["abcdef"]}
    stories = []
    for first_id in (20_000_000, 30_000_000):
        before = remote.counts()["owed"]
        remote.crowd(stages=[stage], events=100, people=10, seed=5, first_id=first_id)
        stories.append([owed["kind"] for owed in remote.everything("owed", before)])
    assert stories[0] == stories[1]


async def test_a_key_that_is_known_without_a_login_is_at_once_in(remote: Remote) -> None:
    watcher = await watcher_at(remote)
    session, key = watcher.client.session, bytes(reversed(range(256)))
    await watcher.client.disconnect()
    remote.log_in(bot_id=BOT, key=key.hex())
    session.auth_key.key = key
    client = await connect(new_client(session), Address(remote.ports["port"]))
    assert (await client.get_me()).id == BOT
    await client.disconnect()


async def test_tricks_are_played_by_their_names(remote: Remote) -> None:
    remote.revoke(bot_id=BOT)
    client = await connect(new_client(), Address(remote.ports["port"]))
    with pytest.raises(errors.AccessTokenExpiredError):
        await client.sign_in(bot_token=TOKEN)
    await client.disconnect()
    assert [remote.ask(trick, bot_id=BOT) for trick in ("drop", "silence", "kill_keys", "forget_keys", "expire_media")][:2] == [0, 0]
    remote.renew_salt()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"do": "gibberish"}, "gibberish"),
        ({"do": "start", "person": 7}, "bot"),
        ({"do": "nasty", "gapps": 1}, "there is no switch gapps"),
        ({"do": "start", "person": 7, "bot": 999}, "999"),
    ],
)
def test_what_cannot_be_done_is_said(remote: Remote, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        remote.ask(**asked)
    assert remote.counts()["owed"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_its_ports_in_one_line_and_ends_when_asked_to(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.telegram", "--port", "0", "--control-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        assert {"port", "control_port", "public_key"} <= set(ports)
        process.send_signal(number)
        assert process.wait(10) == 0


async def test_one_that_begins_anew_with_the_same_lines_goes_on_by_the_clock(tmp_path: Path) -> None:
    lines = [
        {"do": "add_bot", "token": TOKEN},
        {"do": "open_chat", "chat": CHAT, "owner": OWNER},
        {"do": "promote", "who": BOT, "chat": CHAT, "by": OWNER},
    ]
    begin = tmp_path / "begin"
    begin.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with started("--begin", str(begin), "--by-clock") as before:
        before.start(person=ANN, bot=BOT, payload="old")
        client = (await watcher_at(before)).client
        state = await client(functions.updates.GetStateRequest())
        (old,) = (await client(functions.updates.GetDifferenceRequest(pts=state.pts - 1, date=state.date, qts=state.qts))).new_messages
        await client.disconnect()
    with started("--begin", str(begin), "--by-clock") as after:
        after.start(person=ANN, bot=BOT, payload="new")
        client = (await watcher_at(after)).client
        missed = await client(functions.updates.GetDifferenceRequest(pts=state.pts, date=state.date, qts=state.qts))
        await client.disconnect()
    (new,) = missed.new_messages
    assert (old.message, new.message, new.id > old.id) == ("/start old", "/start new", True)
    assert [type(update).__name__ for update in missed.other_updates] == ["UpdateChannelParticipant"]
    assert (missed.state.pts > state.pts, missed.state.qts > state.qts) == (True, True)


def test_lines_that_cannot_be_done_are_said_before_anybody_connects(tmp_path: Path) -> None:
    begin = tmp_path / "begin"
    begin.write_text('{"do": "add_bot", "token": "100:a"}\n{"do": "start", "person": 7, "bot": 999}\n')
    done = subprocess.run(
        [sys.executable, "-m", "tests.telegram", "--begin", str(begin)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "line 2: KeyError: 999" in done.stderr


def test_a_crowd_goes_on_at_another_pace_until_it_is_stopped(remote: Remote) -> None:
    stage = {"bot": BOT, "chat": CHAT, "admin": OWNER, "codes": ["abcdef"]}
    remote.crowd(stages=[stage], events=20, people=10, then_per_s=200, wait=False)
    eventually(lambda: remote.counts()["crowd"] > 20, "it goes on")
    remote.stop_crowd()
    eventually(lambda: not remote.counts()["crowd_running"], "it stops")


def test_one_thing_can_be_asked_for_by_hand(remote: Remote) -> None:
    before = remote.counts()["owed"]
    poke = [sys.executable, "-m", "tests.telegram.poke", str(remote.ports["control_port"])]
    subprocess.run([*poke, "start", f"person={ANN}", f"bot={BOT}", "payload=abcdef-by-hand"], cwd=ROOT, check=True, capture_output=True)
    assert remote.everything("owed", before)[0]["facts"]["payload"] == "abcdef-by-hand"
    refused = subprocess.run([*poke, "start", "person=1", "bot=999"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (1, "KeyError: 999\n")


def test_it_does_not_outlive_who_started_it() -> None:
    command = [sys.executable, "-m", "tests.telegram", "--until-eof"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdin.close()
        assert process.wait(10) == 0
