"""`python -m services run`: a first start, a second one, crashes, and every way of stopping."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from services.__main__ import app
from shared.db import overview
from shared.db.connect import connect
from shared.local import Services, processes
from shared.local.ports import choose
from tests.api import Api
from tests.conftest import STATE
from tests.stack import eventually

ROOT: Final = Path(__file__).resolve().parents[2]

#: A first start on a machine that others use as well, and a stop.
UP_S: Final = 90.0
DOWN_S: Final = 60.0

#: The limit of a whole test, where the machine is somebody else's as well.
pytestmark = pytest.mark.timeout(300)

OURS: Final = {"gateway", "relay", "ledger", "ingest", "listener", "telegram"}

#: Bots of the demo, and the service bot.
SESSIONS: Final = 6


@dataclass(slots=True)
class Run:
    """Starts `run` on one state folder, again and again."""

    state: Path
    settings: dict[str, str]
    popens: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, **more: str) -> subprocess.Popen[bytes]:
        """Start it, with a session of its own, so that a test can press Ctrl-C in it."""
        environment = {**os.environ, "GATEPOST_STATE": str(self.state), "GATEPOST_PORT": "0", **self.settings, **more}
        self.state.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            output.truncate(0)
            popen = subprocess.Popen(
                [sys.executable, "-m", "services", "run"], cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        self.popens.append(popen)
        return popen

    def up(self, **more: str) -> subprocess.Popen[bytes]:
        """Start it and wait until it is ready."""
        popen = self.start(**more)
        eventually(lambda: self.file.exists() or popen.poll() is not None, "run.json is there", wait_s=UP_S)
        assert popen.poll() is None, self.said()
        return popen

    @property
    def output(self) -> Path:
        return self.state / "said"

    @property
    def file(self) -> Path:
        return self.state / "run.json"

    def said(self) -> str:
        return self.output.read_text()

    def read(self) -> Any:
        return json.loads(self.file.read_text())

    def pids(self) -> dict[str, int]:
        return {process["name"]: process["pid"] for process in self.read()["processes"]}

    def servers(self) -> list[int]:
        """The private PostgreSQL and RabbitMQ with all their helpers."""
        return [pid for name in ("postgres", "rabbitmq") for pid in processes.marked((self.state / name).resolve())]

    def end(self) -> None:
        """Leave nothing behind, whatever a test did."""
        for popen in self.popens:
            if popen.poll() is None:
                popen.terminate()
                popen.wait(DOWN_S)
        processes.end(self.servers(), signal.SIGKILL, patience_s=DOWN_S)


@pytest.fixture
def given(database_url: str, amqp_url: str, tmp_path: Path) -> Iterator[Run]:
    """Uses the tests' services."""
    run = Run(tmp_path / "state", {"GATEPOST_DATABASE_URL": database_url, "GATEPOST_AMQP_URL": amqp_url})
    yield run
    run.end()


@pytest.fixture
def private() -> Iterator[Run]:
    """Brings its own services, in a folder that PostgreSQL's user can reach."""
    run = Run(STATE.resolve() / f"run-{os.getpid()}", {})
    yield run
    run.end()
    shutil.rmtree((run.state / "postgres").resolve(), ignore_errors=True)
    shutil.rmtree(run.state)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's business."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as popen:
        yield popen
        popen.kill()


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def refused(state: Path, **settings: str) -> str:
    """The one line said by a start that can't be."""
    nothing = {"GATEPOST_DATABASE_URL": "", "GATEPOST_AMQP_URL": "", "GATEPOST_PORT": "0"}
    result = CliRunner().invoke(app, ["run", "--state", str(state)], env={**nothing, **settings})
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def bots_of(api: Api, account: dict[str, Any]) -> list[int]:
    return [row["id"] for row in api.get("bots/list", account["key"]).data]


def shown(said: str, word: str) -> list[str]:
    """The command with this word that is shown for trying."""
    return shlex.split(next(line for line in said.splitlines() if word in line and line.startswith("    ")))


def somebody_starts(run: Run, click: str) -> None:
    """Try the command that makes somebody follow a deep link, with a click of our own, and wait for the lead."""
    *command, payload = shown(run.said(), "tests.telegram.poke")
    subprocess.run([*command, payload.replace("my-click", click)], check=True, cwd=ROOT, capture_output=True)
    api, accounts = Api(run.read()["base_url"]), run.read()["accounts"]

    def clicks() -> set[str]:
        return {lead["click"] for account in accounts[:2] for lead in api.get("leads/list", account["key"], limit=200).data}

    eventually(lambda: click in clicks(), f"there is a lead with click {click}")


def kill(run: Run, name: str) -> None:
    """kill -9 a process, and wait until run.json names the next one."""
    old = run.pids()[name]
    os.kill(old, signal.SIGKILL)
    eventually(lambda: run.pids().get(name) not in {None, old}, f"run.json names the new {name}")
    assert f"The {name} (process {old}) was ended by SIGKILL" in run.said()


def leads_of(api: Api, accounts: list[dict[str, Any]]) -> int:
    return sum(api.get("leads/list", account["key"]).json["total"] for account in accounts)


def test_a_first_start_shows_a_transfer_and_a_second_one_moves_the_bot_back(
    given: Run, database_url: str, bystander: subprocess.Popen[bytes]
) -> None:
    first = given.up()

    told = given.read()
    assert set(told) == {"base_url", "database_url", "amqp_url", "accounts", "processes", "telegram"}
    assert {stat.S_IMODE((given.state / name).stat().st_mode) for name in ("run.json", "demo.json", "keys.json", "telegram.jsonl")} == {
        0o600
    }
    assert (told["database_url"], told["amqp_url"]) == (database_url, given.settings["GATEPOST_AMQP_URL"])
    assert all(set(account) == {"name", "id", "key", "transfer_token", "bots", "campaigns"} for account in told["accounts"])
    assert set(given.pids()) == OURS
    assert all(processes.alive(pid) for pid in given.pids().values())

    api, (anna, boris, *_) = Api(told["base_url"]), told["accounts"]
    assert api.send("GET", "/healthz").status == 200
    assert all(bots_of(api, account) == account["bots"] for account in told["accounts"])
    assert all([c["id"] for c in api.get("camp/list", a["key"]).data] == a["campaigns"] for a in told["accounts"])
    eventually(lambda: leads_of(api, told["accounts"]) > 100_000, "people come by")
    assert [api.get("profile/info", a["key"]).data["tariff"] for a in (anna, boris)] == ["cat", "tiger"]
    assert api.get("transfer/resolve", boris["key"], token=anna["transfer_token"]).data["name"] == anna["name"]

    (moved,) = api.get("transfer/list", boris["key"]).data
    assert (moved["outcome"], moved["direction"], moved["object"]) == ("done", "in", boris["bots"][0])
    assert moved["transfer"] in given.said()
    assert f":{given.pids()['ledger']}" in given.said()
    if shutil.which("curl"):
        assert b'"status":"ok"' in subprocess.run(shown(given.said(), "curl "), check=True, capture_output=True).stdout
    eventually(lambda: re.search(r"^Telegram, \d+ s: \d+ new leads? \(.*→ .*\d+ postbacks owed", given.said(), re.MULTILINE), "it is said")
    somebody_starts(given, "first-click")
    with connect(database_url, name="test") as db:
        assert overview.get_sessions(db).held == SESSIONS

    os.killpg(first.pid, signal.SIGINT)
    assert first.wait(DOWN_S) == 0
    assert not given.file.exists()
    assert "was ended by" not in given.said()

    given.up()
    again = given.read()
    api = Api(again["base_url"])
    assert [(a["id"], a["key"], a["transfer_token"]) for a in again["accounts"]] == [
        (a["id"], a["key"], a["transfer_token"]) for a in told["accounts"]
    ]
    assert again["accounts"][0]["bots"] == sorted([*anna["bots"], moved["object"]])
    assert bots_of(api, anna) == again["accounts"][0]["bots"]
    somebody_starts(given, "second-click")
    assert api.get("transfer/list", boris["key"]).json["total"] == 2
    assert bystander.poll() is None


def test_a_killed_process_is_seen_and_said_without_a_secret_and_started_again(given: Run) -> None:
    given.up()
    for name in ("telegram", "listener", "ingest"):
        kill(given, name)
    somebody_starts(given, "after-all")
    old = given.pids()

    os.kill(old["ledger"], signal.SIGKILL)
    eventually(lambda: given.pids().get("ledger") not in {None, old["ledger"]}, "run.json names the new ledger")

    new = given.pids()
    assert {name: new[name] for name in ("gateway", "relay")} == {name: old[name] for name in ("gateway", "relay")}
    (line,) = [line for line in given.said().splitlines() if line.startswith("The ledger")]
    assert f"The ledger (process {old['ledger']}) was ended by SIGKILL" in line
    assert "commands_finished" in line
    api, (anna, boris, *_) = Api(given.read()["base_url"]), given.read()["accounts"]
    assert api.post("transfer/bot", boris["key"], bot=boris["bots"][0], token=anna["transfer_token"], leads=1).error is None

    os.kill(new["ledger"], signal.SIGKILL)
    eventually(lambda: given.pids().get("ledger") not in {None, new["ledger"]}, "run.json names the newest ledger")
    assert "Starting it again in 0.4 s" in given.said()

    tokens = [line["token"] for line in map(json.loads, (given.state / "telegram.jsonl").read_text().splitlines()) if "token" in line]
    assert len(tokens) == SESSIONS
    keys = json.loads((given.state / "keys.json").read_text()).values()
    secrets = [*(str(urlsplit(url).password) for url in given.settings.values()), *tokens, *keys]
    texts = [given.said(), *(log.read_text() for log in (given.state / "log").iterdir()), *map(command_line, given.pids().values())]
    assert not [secret for secret in secrets for text in texts if secret in text]


def test_an_empty_system_has_no_accounts_until_an_operator_makes_one(given: Run) -> None:
    given.up(GATEPOST_DEMO="0")
    assert (given.read()["accounts"], given.read()["telegram"]) == ([], None)
    assert set(given.pids()) == OURS - {"listener", "telegram"}
    assert "Telegram needs GATEPOST_TELEGRAM_API_ID and GATEPOST_TELEGRAM_API_HASH" in given.said()
    with connect(given.settings["GATEPOST_DATABASE_URL"], name="test") as db:
        assert db.execute("SELECT count(*) FROM account").fetchone() == (0,)

    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEPOST_")}
    added = subprocess.run(
        [sys.executable, "-m", "services", "account", "add", "--name", "Dora", "--state", str(given.state)],
        check=True,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    (key,) = [line.split()[1] for line in added.splitlines() if line.strip().startswith("key")]
    assert Api(given.read()["base_url"]).get("profile/info", key).data["name"] == "Dora"


def test_private_services_outlive_a_killed_supervisor_only_until_the_next_start(private: Run, bystander: subprocess.Popen[bytes]) -> None:
    first = private.up()
    ours = list(private.pids().values())
    assert {processes.program(pid) for pid in private.servers()} >= {"postgres", "beam.smp"}

    assert "Another Gatepost is running" in refused(private.state)
    assert private.file.exists()

    first.kill()
    first.wait()
    eventually(lambda: not any(map(processes.alive, ours)), "our processes are gone with their supervisor")
    left = private.servers()

    second = private.start()
    eventually(lambda: not private.file.exists() or private.pids()["ledger"] not in ours, "what was said of the old ones is taken back")
    eventually(lambda: private.file.exists() or second.poll() is not None, "it is up again", wait_s=UP_S)
    assert "The demo is there already" in private.said()
    assert leads_of(Api(private.read()["base_url"]), private.read()["accounts"]) >= 100_000
    everything = [*left, *private.servers(), *private.pids().values()]

    second.terminate()
    assert second.wait(DOWN_S) == 0
    assert not [pid for pid in everything if processes.alive(pid)]
    assert not private.servers()
    assert bystander.poll() is None


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "GATEPOST_DATABASE_URL",
            "postgresql://ann:hush-hush@127.0.0.1:1/x",
            "PostgreSQL at 127.0.0.1:1/x can't be used: Connection refused",
        ),
        ("GATEPOST_DATABASE_URL", "http://ann:hush-hush@127.0.0.1/", "GATEPOST_DATABASE_URL must look like postgresql://"),
        ("GATEPOST_AMQP_URL", "amqp://ann:hush-hush@127.0.0.1:1/", "RabbitMQ at 127.0.0.1:1 can't be used: nobody answers there"),
        ("GATEPOST_AMQP_URL", "amqp://ann:hush-hush@127.0.0.1:port/", "GATEPOST_AMQP_URL must look like amqp://"),
        ("GATEPOST_SECRET_KEYS", "hush-hush", "GATEPOST_SECRET_KEYS can't be used: Each secret key is 32 bytes in base64"),
        ("GATEPOST_TELEGRAM_API_HASH", "hush-hush", "GATEPOST_TELEGRAM_API_ID and GATEPOST_TELEGRAM_API_HASH go together"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, variable: str, value: str, says: str) -> None:
    line = refused(tmp_path, **{variable: value})
    assert says in line
    assert "hush" not in line


def test_wrong_passwords_are_one_sentence(local: Services, tmp_path: Path) -> None:
    right = {"GATEPOST_DATABASE_URL": local.database_url, "GATEPOST_AMQP_URL": local.amqp_url}
    wrong = {name: url.replace(f":{urlsplit(url).password}@", ":hush-hush@") for name, url in right.items()}
    lines = [refused(tmp_path, **{**right, name: url}) for name, url in wrong.items()]
    assert "password authentication failed" in lines[0]
    assert "it refuses the user or the password" in lines[1]
    assert not [line for line in lines if "hush" in line]


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    (port,) = choose(1)
    with contextlib.closing(socket.create_server(("127.0.0.1", port))):
        assert f"Port {port} is taken" in refused(tmp_path, GATEPOST_PORT=str(port))
