"""The compose file without an engine: the same commands, environments and health checks, as plain processes.

What stands for a container is a process in a folder with only what the Dockerfile copies, with only the environment the file gives. Three
things are mapped: the names of the two services to where they run here, the port inside a container to a free one of this machine, and
process 1 to the process.
"""

import compileall
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
import yaml

from shared.db.connect import engine
from shared.local import Services
from shared.local.ports import choose
from tests.api import Api
from tests.conftest import on_database
from tests.stack import SECRET_KEY, Process, eventually
from tests.world import World

ROOT: Final = Path(__file__).parent.parent.parent
COMPOSE: Final = ROOT / "compose.yaml"
SECRETS: Final = {
    "POSTGRES_PASSWORD": "the-database-secret",
    "RABBITMQ_PASSWORD": "the-broker-secret",
    "GATEPOST_SECRET_KEYS": SECRET_KEY,
    "GATEPOST_TELEGRAM_API_ID": "1234567",
    "GATEPOST_TELEGRAM_API_HASH": "the-application-secret",
}
UPSTREAM: Final = {"postgres": "postgres:18", "rabbitmq": "rabbitmq:4-management"}
WORKERS: Final = ("gateway", "relay", "listener", "ingest", "ledger")
PORT_INSIDE: Final = "8000"
MEDIA_INSIDE: Final = "/var/lib/gatepost/media"
HEALTH_S: Final = 90.0
CHECKS_AT_ONCE: Final = 3  # each starts a Python, as do the processes it asks about
CHECK_PAUSE_S: Final = 1.0
CHECK_S: Final = 10.0  # a check that takes longer has failed, as in the file

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?:(:\?|:-)([^}]*))?\}")


def interpolate(value: Any, variables: dict[str, str]) -> Any:
    """The file's own `${NAME:?message}` and `${NAME:-default}`, everywhere in it."""

    def replace(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if operator == ":-":
            return str(rest)
        raise KeyError(f"{name}: {rest}")

    match value:
        case str():
            return _VARIABLE.sub(replace, value)
        case list():
            return [interpolate(item, variables) for item in value]
        case dict():
            return {key: interpolate(item, variables) for key, item in value.items()}
        case _:
            return value


def read(variables: dict[str, str] = SECRETS) -> Any:
    return interpolate(yaml.safe_load(COMPOSE.read_text()), variables)


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Against the schema of the Compose specification."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@dataclass(frozen=True, slots=True)
class Image:
    """What the Dockerfile makes: the files in the last stage that come from here, and what it starts."""

    sources: list[str]
    first_stage_sources: list[str]
    entrypoint: list[str]
    user: str

    def unpack(self, folder: Path) -> None:
        """Copy and compile, as the image's last stage does."""
        for source in self.sources:
            shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(folder / source, quiet=2)


def read_dockerfile() -> Image:
    first: list[str] = []
    sources: list[str] = []
    entrypoint: list[str] = []
    user = "root"
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        instruction, _, rest = line.partition(" ")
        match instruction:
            case "FROM":
                first, sources, user = [*first, *sources], [], "root"
            case "COPY" if not rest.startswith("--from="):
                *copied, _target = shlex.split(rest)
                sources += copied
            case "ENTRYPOINT":
                entrypoint = json.loads(rest)
            case "USER":
                user = rest
            case _:
                pass
    return Image(sources, first, entrypoint, user)


IMAGE: Final = read_dockerfile()


@dataclass(slots=True)
class Containers:
    """Starts services of the file as processes."""

    services: dict[str, Any]
    folder: Path
    local: dict[str, str]
    started: list[Process] = field(default_factory=list)

    def start(self, service: str) -> Process:
        port = choose(1)[0]
        argv = [*self._program(IMAGE.entrypoint), *self.services[service]["command"]]
        log = self.folder / f"{service}-{len(self.started)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(argv, cwd=self.folder, env=self._environment(service, port), stdout=output, stderr=output)
        process = Process(service, popen, log, base_url=f"http://127.0.0.1:{port}")
        self.started.append(process)
        return process

    def check(self, process: Process) -> subprocess.CompletedProcess[str]:
        """The service's health check, once, as an engine would run it."""
        shell, *test = self.services[process.name]["healthcheck"]["test"]
        assert shell == "CMD"
        port = process.base_url.rpartition(":")[2]
        argv = [part.replace(f"127.0.0.1:{PORT_INSIDE}/", f"127.0.0.1:{port}/") for part in self._program(test)]
        if "--pid" in argv:
            assert argv[argv.index("--pid") + 1] == "1"
            argv[argv.index("--pid") + 1] = str(process.pid)
        environment = self._environment(process.name, int(port))
        try:
            return subprocess.run(argv, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=CHECK_S)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 1, "", f"it took longer than {CHECK_S} s")

    def await_health(self, process: Process) -> None:
        last: list[subprocess.CompletedProcess[str]] = []

        def is_healthy() -> bool:
            if last:
                time.sleep(CHECK_PAUSE_S)
            last[:] = [self.check(process)]
            return last[0].returncode == 0

        try:
            eventually(lambda: not process.alive or is_healthy(), f"{process.name} is healthy", wait_s=HEALTH_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{last[0].stderr}\n{process.log.read_text()}") from None
        assert process.alive, process.log.read_text()

    def end(self) -> None:
        for process in self.started:
            process.kill()

    def _environment(self, service: str, port: int) -> dict[str, str]:
        given: dict[str, str] = self.services[service]["environment"]
        here = {PORT_INSIDE: str(port), MEDIA_INSIDE: str(self.folder / "media")}
        mapped = {name: here.get(value) or self._mapped(value) for name, value in given.items()}
        return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **mapped}

    def _mapped(self, value: str) -> str:
        """A URL of one of the two services becomes the local one, provided that it agrees with how the service is set up."""
        url = urlsplit(value)
        made = {name: service.get("environment", {}) for name, service in self.services.items()}
        login = (url.username, unquote(url.password or ""))
        match url.hostname:
            case "postgres":
                server = made["postgres"]
                assert (url.port, *login) == (5432, server["POSTGRES_USER"], server["POSTGRES_PASSWORD"])
                assert url.path == "/" + server["POSTGRES_DB"]
                return self.local["postgres"]
            case "rabbitmq":
                server = made["rabbitmq"]
                assert (url.port, *login) == (5672, server["RABBITMQ_DEFAULT_USER"], server["RABBITMQ_DEFAULT_PASS"])
                return self.local["rabbitmq"]
            case _:
                return value

    @staticmethod
    def _program(argv: list[str]) -> list[str]:
        """`python` in the image is the environment of the lock, as here."""
        assert argv[0] == "python"
        return [sys.executable, *argv[1:]]


@pytest.fixture
def empty_database_url(local: Services) -> Iterator[str]:
    """A database as a fresh volume has it: no tables."""
    name = f"compose_{os.getpid()}"
    with psycopg.connect(local.database_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {name}")
        yield on_database(local.database_url, name)
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def containers(empty_database_url: str, amqp_url: str, tmp_path: Path) -> Iterator[Containers]:
    IMAGE.unpack(tmp_path)
    (tmp_path / "media").mkdir()
    running = Containers(read()["services"], tmp_path, {"postgres": empty_database_url, "rabbitmq": amqp_url})
    yield running
    running.end()


def test_the_file_follows_the_compose_specification() -> None:
    outcome = validate(COMPOSE)
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.update(servces={}),
        lambda file: file["services"]["ledger"].update(replica=4),
        lambda file: file["services"]["ledger"]["healthcheck"].update(tests=["CMD", "true"]),
        lambda file: file["services"]["gateway"]["depends_on"]["migrate"].update(condition="service_done"),
    ],
    ids=["top level", "service", "health check", "condition"],
)
def test_what_the_specification_does_not_know_is_refused(spoil: Callable[[Any], None], tmp_path: Path) -> None:
    file = yaml.safe_load(COMPOSE.read_text())
    spoil(file)
    spoiled = tmp_path / "compose.yaml"
    spoiled.write_text(yaml.safe_dump(file))

    outcome = validate(spoiled)

    assert outcome.returncode == 1
    assert "Schema validation errors" in outcome.stdout


def test_every_service_is_an_upstream_server_or_one_of_our_commands() -> None:
    ours = subprocess.run([sys.executable, "-m", "services", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    services = read()["services"]

    assert set(services) == {*UPSTREAM, *WORKERS, "migrate"}
    for name, service in services.items():
        if name in UPSTREAM:
            assert service["image"] == UPSTREAM[name]
            assert "command" not in service
            continue
        assert (service["image"], service["build"]) == ("gatepost", ".")
        assert re.search(rf"^  {service['command'][0]}\b", ours, re.MULTILINE)


def test_passwords_come_from_outside_and_are_asked_for_by_name() -> None:
    for name in SECRETS:
        with pytest.raises(KeyError, match=f"{name}: set it"):
            read({other: value for other, value in SECRETS.items() if other != name})

    services = read(dict.fromkeys(SECRETS, "SECRET"))["services"].values()
    values = [(name, value) for service in services for name, value in service.get("environment", {}).items()]
    assert {value for name, value in values if "PASS" in name} == {"SECRET"}
    assert {urlsplit(value).password for name, value in values if name.endswith("_URL")} == {"SECRET"}


def test_every_long_running_service_can_be_scaled_restarted_watched_and_stopped() -> None:
    services = read()["services"]
    for name, service in services.items():
        assert "container_name" not in service
        if name == "migrate":
            continue
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]
        assert service["stop_grace_period"]
    assert all(f"media:{MEDIA_INSIDE}" in services[name]["volumes"][0] for name in ("gateway", "listener"))
    assert f" {MEDIA_INSIDE}\n" in (ROOT / "Dockerfile").read_text()
    for name in WORKERS:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert [name for name in WORKERS if "ports" in services[name]] == ["gateway"]
    assert read({**SECRETS, "GATEPOST_PUBLISH": "127.0.0.1:8000-8003"})["services"]["gateway"]["ports"] == ["127.0.0.1:8000-8003:8000"]


def test_the_image_has_what_it_copies_and_starts_without_being_root(tmp_path: Path) -> None:
    allowed = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = IMAGE.first_stage_sources + IMAGE.sources
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / source).exists() for source in copied)
    assert IMAGE.user.split(":")[0] not in {"root", "0"}

    IMAGE.unpack(tmp_path)
    program, *arguments = IMAGE.entrypoint
    assert program == "python"
    outcome = subprocess.run([sys.executable, *arguments, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20)
    assert "gateway" in outcome.stdout


def test_two_of_each_worker_carry_a_transfer_out_once_and_one_that_dies_or_stands_still_is_not_healthy(
    containers: Containers, empty_database_url: str
) -> None:
    migrate = containers.start("migrate")
    assert migrate.popen.wait(20) == 0, migrate.log.read_text()
    workers = [containers.start(service) for service in WORKERS for _ in range(2)]
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as at_once:
        list(at_once.map(containers.await_health, workers))
    one, other = (Api(process.base_url) for process in workers[:2])
    tables = engine(empty_database_url, name="test")
    world = World(tables)
    ann, ben = world.account("Ann"), world.account("Ben")
    bot, campaigns = world.bot_with_campaigns(ann, 2, leads=10)
    tables.dispose()

    answers = [api.post("transfer/bot", ann.key, idempotency_key="once", bot=bot, token=ben.token, leads=1) for api in (one, other)]

    assert [answer.body for answer in answers] == [b'{"status":"ok"}'] * 2
    assert [row["id"] for row in other.get("bots/list", ben.key).data] == [bot]
    assert [row["id"] for row in other.get("camp/list", ben.key).data] == campaigns
    with psycopg.connect(empty_database_url) as db:
        assert db.execute("SELECT count(*) FROM transfer").fetchone() == (1,)
        listener = next(process for process in workers if process.name == "listener")
        listener.send(signal.SIGSTOP)
        db.execute("UPDATE listener SET expires_at = now() WHERE name LIKE %s", [f"%:{listener.pid}"])
    assert containers.check(listener).stderr == f"lease: process {listener.pid} does not renew it\n"
    *others, ledger = workers
    ledger.kill()
    check = containers.check(ledger)
    assert (check.returncode, check.stderr) == (1, f"broker: process {ledger.pid} holds 0 of its 2 connections\n")
    for process in others:
        process.send(signal.SIGTERM)
    assert {process.stop() for process in others} <= {0, -signal.SIGTERM}


def test_a_relay_that_does_not_find_rabbitmq_is_not_healthy(containers: Containers) -> None:
    containers.local["rabbitmq"] = f"amqp://gatepost:x@127.0.0.1:{choose(1)[0]}/%2F"
    relay = containers.start("relay")
    eventually(lambda: "relay_waits" in relay.log.read_text(), "the relay has tried to connect")

    check = containers.check(relay)

    assert check.returncode == 1
    assert f"broker: process {relay.pid} holds 0 of its 1 connections\n" in check.stderr
