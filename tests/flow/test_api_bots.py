"""bots/*: a bot from its token to its first lead's chat and back, through the gateway, a listener and a Telegram."""

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from shared.db.bot_requests import UNFINISHED_MAX
from shared.domain.campaigns import CampaignStatus
from shared.local import Services
from shared.messages import LISTENER_CHANNEL
from tests.api import Answer, Api
from tests.db.support import wait_for_blocked
from tests.flow.test_api_envelope import House, check, error, house
from tests.stack import Process, Stack, eventually
from tests.telegram.remote import Remote, started
from tests.world import Account

_numbers = count(100)


@dataclass(frozen=True, slots=True)
class Home:
    """A house with a Telegram and a listener on it."""

    house: House
    telegram: Remote
    listener: Process

    @property
    def api(self) -> Api:
        return self.house.api

    def token(self, tg: int = 0) -> tuple[int, str]:
        """A fresh bot at BotFather's, or a new token of one."""
        tg = tg or next(_numbers)
        token = f"{tg}:secret{next(_numbers)}"
        self.telegram.add_bot(token=token)
        return tg, token

    def add(self, account: Account, token: str) -> Answer:
        return check(self.api.post("bots/add", account.key, token=token))

    def added(self, account: Account) -> tuple[int, int]:
        """A bot that is connected and listens: its id, and Telegram's."""
        tg, token = self.token()
        bot = self.add(account, token).data["id"]
        eventually(lambda: tg in self.telegram.counts()["listening"], "the listener has it")
        return bot, tg

    def logins(self, tg: int) -> int:
        """How many keys the bot is logged in with."""
        return int(self.telegram.logins(bot_id=tg))


def telegram_of(stack: Stack, telegram: Remote) -> None:
    ports = telegram.ports
    stack.environment |= {
        "GATEPOST_TELEGRAM_SERVER": f"{ports['dc']}@{ports['host']}:{ports['port']}",
        "GATEPOST_TELEGRAM_SERVER_KEY": ports["public_key"],
    }


@pytest.fixture(scope="module")
def home(local: Services, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with house(local, template, tmp_path_factory.mktemp("bots")) as home, started() as telegram:
        telegram_of(home.processes, telegram)
        yield Home(home, telegram, home.processes.listener())


@pytest.fixture(scope="module")
def hasty(home: Home) -> Api:
    """A gateway that waits no longer than it must."""
    return Api(home.house.processes.gateway("--deadline", "0.3").base_url)


@pytest.fixture
def ann(home: Home) -> Account:
    return home.house.world.account()


@pytest.fixture
def ben(home: Home) -> Account:
    return home.house.world.account()


@pytest.fixture
def resting(home: Home) -> Iterator[None]:
    """The listener is stopped for a while; before its lease is over it comes back."""
    home.listener.send(signal.SIGSTOP)
    yield
    home.listener.send(signal.SIGCONT)


def test_a_bot_is_added_listens_and_is_listed(home: Home, ann: Account) -> None:
    tg, token = home.token()

    answer = home.add(ann, token)

    assert set(answer.data) == {"id", "username", "name"}
    assert answer.data["username"] == f"bot{tg}_bot"
    (listed,) = home.api.get("bots/list", ann.key).data
    assert listed["id"] == answer.data["id"]
    assert (listed["tg"], listed["status"], listed["reason"]) == (tg, 0, "")
    eventually(lambda: tg in home.telegram.counts()["listening"], "a listener has its session")
    assert home.logins(tg) == 1, "the session goes on with the login of the request"


def test_a_form_does_as_well(home: Home, ann: Account) -> None:
    _, token = home.token()
    assert error(check(home.api.post("bots/add", ann.key, form=True, token=token))) is None


@pytest.mark.parametrize("token", ["x", "700", "700:", ":secret", "0:secret", "700:with space", "700:é", " 700:secret"])
def test_what_is_no_token_is_refused_without_asking_anybody(home: Home, ann: Account, token: str) -> None:
    before = home.house.one("SELECT count(*) FROM bot_request")
    assert error(home.add(ann, token)) == ("token", "token")
    assert home.house.one("SELECT count(*) FROM bot_request") == before


def test_a_token_that_telegram_does_not_know_is_refused_in_the_same_words(home: Home, ann: Account) -> None:
    tg, _ = home.token()
    assert home.add(ann, f"{tg}:wrong").body == home.add(ann, "x").body


def test_a_bot_of_another_account_exists_and_is_told_from_nothing_else(home: Home, ann: Account, ben: Account) -> None:
    _, token = home.token()
    assert error(home.add(ann, token)) is None
    answer = home.add(ben, token)
    assert error(answer) == ("exists", "token")
    assert home.api.get("bots/list", ben.key).data == []
    assert all(word not in answer.body for word in (ann.name.encode(), ann.key.encode(), b'"id"'))


def test_telegram_that_refuses_is_told(home: Home, ann: Account) -> None:
    _, token = home.token()
    home.telegram.nasty(flood_s={"ImportBotAuthorization": 77})
    try:
        answer = home.add(ann, token)
    finally:
        home.telegram.nasty(flood_s={})
    assert error(answer) == ("webhook", "token")
    assert "77 seconds" in answer.json["message"]


def test_a_token_that_was_revoked_is_renewed_under_the_same_id(home: Home, ann: Account) -> None:
    tg, token = home.token()
    bot = home.add(ann, token).data["id"]
    eventually(lambda: tg in home.telegram.counts()["listening"], "the listener has it")
    home.telegram.revoke(bot_id=tg)
    home.telegram.drop(bot_id=tg)
    eventually(lambda: home.api.get("bots/list", ann.key).data[0]["reason"] == "token", "the listener has noticed")

    _, new = home.token(tg)
    assert home.add(ann, new).data["id"] == bot

    assert home.api.get("bots/list", ann.key).data[0]["status"] == 0
    eventually(lambda: tg in home.telegram.counts()["listening"], "it listens again")


def test_adding_what_is_there_changes_nothing(home: Home, ann: Account) -> None:
    tg, token = home.token()
    first = home.add(ann, token)
    eventually(lambda: tg in home.telegram.counts()["listening"], "the listener has it")
    assert home.add(ann, token).body == first.body
    eventually(lambda: home.logins(tg) == 1, "one session remains")
    assert tg in home.telegram.counts()["listening"]


def test_neither_the_row_nor_any_log_shows_the_token(home: Home, ann: Account) -> None:
    tg, token = home.token()
    home.add(ann, token)
    tables = home.house.db.execute("SELECT string_agg(t::text, '') FROM bot_session t").fetchone()
    requests = home.house.db.execute("SELECT count(*), count(token) FROM bot_request").fetchone()
    assert requests is not None
    assert requests[0] > 0
    assert requests[1] == 0
    secret = token.partition(":")[2]
    hexed = secret.encode().hex()
    logs = "".join(process.log.read_text() for process in home.house.processes.processes)
    assert all(word not in text for word in (secret, hexed) for text in (str(tables), logs))
    assert tg


def test_an_account_with_too_many_unanswered_requests_is_told_to_wait(home: Home, ann: Account, ben: Account) -> None:
    home.house.db.execute(
        "INSERT INTO bot_request (id, account_id, taken_until) SELECT gen_random_uuid(), %s, 'infinity' FROM generate_series(1, %s)",
        [ann.id, UNFINISHED_MAX],
    )
    (_, token), (_, other) = home.token(), home.token()
    assert error(home.add(ann, token)) == ("busy", "")
    assert error(home.add(ben, other)) is None, "others are not held up"
    home.house.db.execute("DELETE FROM bot_request WHERE account_id = %s", [ann.id])
    assert error(home.add(ann, token)) is None


@pytest.mark.usefixtures("resting")
def test_when_no_listener_takes_it_the_request_is_withdrawn(home: Home, hasty: Api, ann: Account) -> None:
    tg, token = home.token()

    answer = check(hasty.post("bots/add", ann.key, token=token))

    assert error(answer) == ("busy", "")
    assert home.house.one("SELECT count(*) FROM bot_request WHERE state = 'withdrawn' AND token IS NULL AND account_id = %s", ann.id) == 1
    home.listener.send(signal.SIGCONT)
    _, other = home.token()
    assert error(home.add(ann, other)) is None, "a later request is taken, the withdrawn one never"
    assert [bot["tg"] for bot in home.api.get("bots/list", ann.key).data] == [home.house.one("SELECT max(tg_id) FROM bot")]
    assert home.logins(tg) == 0


def test_one_that_was_taken_is_waited_for_beyond_the_deadline(home: Home, hasty: Api, ann: Account) -> None:
    _, token = home.token()
    home.telegram.nasty(slow_s={"GetState": 1.0})
    try:
        assert error(check(hasty.post("bots/add", ann.key, token=token))) is None
    finally:
        home.telegram.nasty(slow_s={})


def test_a_listener_killed_in_the_middle_leaves_the_request_to_another(home: Home, ann: Account) -> None:
    """The lease is let run out by hand: it lasts longer than a test should."""
    processes = home.house.processes
    tg, token = home.token()
    processes.arm("listener.logged_in")
    with ThreadPoolExecutor(1) as beside:
        answer: Future[Answer] = beside.submit(home.add, ann, token)
        pid = processes.reached("listener.logged_in")
        assert pid == home.listener.pid
        second = processes.listener("--lease", "2", "--renew", "0.5", "--take-over", "1")
        home.listener.kill()
        processes.let_go("listener.logged_in")
        home.house.db.execute("UPDATE bot_request SET taken_until = now() WHERE state = 'pending'")
        home.house.db.execute("UPDATE listener SET expires_at = now() - interval '1 minute' WHERE name LIKE %s", [f"%:{pid}"])
        assert error(answer.result()) is None
    assert home.house.one("SELECT attempts FROM bot_request WHERE account_id = %s", ann.id) == 2
    eventually(lambda: tg in home.telegram.counts()["listening"], "the other listener has it")
    object.__setattr__(home, "listener", second)


def test_a_deleted_bot_is_logged_out_and_comes_back_with_its_campaigns(home: Home, ann: Account) -> None:
    tg, token = home.token()
    bot = home.add(ann, token).data["id"]
    eventually(lambda: tg in home.telegram.counts()["listening"], "the listener has it")
    campaign = home.house.world.campaign(ann, bot, home.house.world.chat())

    assert check(home.api.post("bots/del", ann.key, id=bot)).body == b'{"status":"ok"}'

    assert [(row["id"], row["status"], row["reason"]) for row in home.api.get("bots/list", ann.key).data] == [(bot, 3, "")]
    (listed,) = home.api.get("camp/list", ann.key).data
    assert (listed["id"], listed["status"], listed["warning"]) == (campaign, CampaignStatus.ACTIVE, 1)
    eventually(lambda: home.logins(tg) == 0, "it is logged out")
    eventually(lambda: home.house.one("SELECT count(*) FROM bot_session WHERE bot_id = %s", bot) == 0, "its session is forgotten")
    assert error(home.api.post("bots/del", ann.key, bot=bot)) is None, "the same once more"

    assert home.add(ann, token).data["id"] == bot
    assert home.api.get("bots/list", ann.key).data[0]["status"] == 1, "of its campaign's chat it is no administrator"
    assert home.api.get("camp/list", ann.key).data[0]["id"] == campaign


def test_a_bot_deleted_here_is_new_elsewhere(home: Home, ann: Account, ben: Account) -> None:
    _, token = home.token()
    bot = home.add(ann, token).data["id"]
    home.api.post("bots/del", ann.key, id=bot)
    assert home.add(ben, token).data["id"] != bot
    assert error(home.add(ann, token)) == ("exists", "token")


def test_the_chats_of_a_bot_are_those_it_administers_and_does_not_track(home: Home, ann: Account) -> None:
    world = home.house.world
    free, tracked, once, lost = (world.chat(f"Chat {n}") for n in range(4))
    bot = world.bot(ann, free, tracked, once, lost)
    other = world.bot(ann, free)
    world.campaign(ann, bot, tracked, status=CampaignStatus.PAUSED)
    world.campaign(ann, bot, once, status=CampaignStatus.DELETED)
    world.campaign(ann, other, free)
    home.house.db.execute("UPDATE bot_chat SET admin = false WHERE bot_id = %s AND chat_id = %s", [bot, lost])

    answer = check(home.api.get("bots/chats", ann.key, id=bot))

    numbers: dict[int, int] = {row[0]: row[1] for row in home.house.db.execute("SELECT id, tg_id FROM chat")}
    assert answer.data == [
        {"id": numbers[free], "title": "Chat 0", "type": "channel"},
        {"id": numbers[once], "title": "Chat 2", "type": "channel"},
    ]
    assert answer.json["total"] == 2
    assert check(home.api.get("bots/chats", ann.key, bot=bot)).body == answer.body
    home.api.post("bots/del", ann.key, id=bot)
    assert error(home.api.get("bots/chats", ann.key, id=bot)) == ("notfound", "id")


@pytest.mark.parametrize("answer", [0, 1, "0"])
def test_the_answer_to_moved_codes_can_be_switched(home: Home, ann: Account, answer: Any) -> None:
    bot = home.house.world.bot(ann)
    assert error(home.api.post("bots/moved", ann.key, id=bot, answer=answer)) is None
    assert home.house.one("SELECT answers_moved::int FROM bot WHERE id = %s", bot) == int(answer)


def test_del_tells_the_listeners_with_its_commit(home: Home, ann: Account) -> None:
    bot = home.house.world.bot(ann)
    home.house.db.execute(f"LISTEN {LISTENER_CHANNEL}")
    home.api.post("bots/del", ann.key, id=bot)
    assert str(bot) in [note.payload for note in home.house.db.notifies(timeout=5, stop_after=1)]
    home.house.db.execute(f"UNLISTEN {LISTENER_CHANNEL}")


def test_a_lock_held_on_the_account_holds_up_a_del_until_it_sees_who_the_owner_is(home: Home, ann: Account, ben: Account) -> None:
    """As a transfer of the bot would hold it: the one that comes second finds no bot of its own."""
    bot = home.house.world.bot(ann)
    with ThreadPoolExecutor(1) as beside:
        with home.house.tables.begin() as tx:
            tx.exec_driver_sql("SELECT 1 FROM account WHERE id = %(a)s FOR NO KEY UPDATE", {"a": ann.id})
            deleted = beside.submit(home.api.post, "bots/del", ann.key, id=bot)
            wait_for_blocked(home.house.db, 1)
            tx.exec_driver_sql("UPDATE bot SET account_id = %(b)s WHERE id = %(bot)s", {"b": ben.id, "bot": bot})
        assert error(deleted.result()) == ("notfound", "id")
    assert home.api.get("bots/list", ben.key).data[0]["status"] == 0
