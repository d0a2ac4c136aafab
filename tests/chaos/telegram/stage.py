"""Where it happens: a database behind a slow line, a Telegram server that withholds, our processes, and whoever restarts the dead."""

import contextlib
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from shared.db import seeds
from shared.db.connect import Raw, connect, engine
from shared.db.migrate import migrate
from shared.local import Services
from shared.local.ports import LOOPBACK, choose
from shared.sealing import Sealer
from tests.chaos.stage import empty_queues
from tests.chaos.telegram import audit
from tests.chaos.telegram.evidence import CHANNEL_MARK, Watch
from tests.conftest import on_database
from tests.stack import SECRET_KEY, Process, Stack, eventually
from tests.telegram.remote import ROOT, Remote, started
from tests.world import World

DATABASE: Final = "chaos_telegram"
LISTENERS: Final = 2
SWEEP_S: Final = 2.0

#: Half a minute, five seconds and five minutes in earnest: a lease, its renewal, the wait after another's, and the questions for what no
#: push has told.
LEASE_S, RENEW_S, TAKE_OVER_S, CATCH_UP_S = 2.0, 0.4, 0.5, 2.0
LISTENER: Final = (
    "listener",
    *("--lease", str(LEASE_S)),
    *("--renew", str(RENEW_S)),
    *("--take-over", str(TAKE_OVER_S)),
    *("--catch-up", str(CATCH_UP_S)),
)

#: How far away the database is.
DELAY_MS: Final = 2.0

#: One campaign never closes its window, one closes it at once, one after a month.
WINDOWS_S: Final = (0, 4, 2_592_000)

WATCH_S: Final = 0.02
READY_S: Final = 60.0
OWNER: Final = 1
TEMPLATES: Final = {f"pb_{status}": f"http://tracker.example/{status}?click={{click}}" for status in audit.STATUSES}


@dataclass(slots=True)
class Slot:
    """A place for a process: what is started there again when it dies, with a folder of fail points and a role of its own."""

    name: str
    stack: Stack
    command: tuple[str, ...]
    process: Process = field(init=False)
    asked_to_end: bool = False

    def start(self) -> None:
        self.asked_to_end = False
        self.process = self.stack.start(*self.command)


@dataclass(slots=True)
class Stage:
    """Everything that runs. `deaths` are the processes that nobody killed."""

    database_url: str
    server: Remote
    folder: Path
    slots: list[Slot]
    watches: Sequence[Watch]
    control_bots: Sequence[int]
    proxy: subprocess.Popen[bytes]
    control: Callable[[], subprocess.Popen[bytes]]
    deaths: list[str] = field(default_factory=list)
    _stock: subprocess.Popen[bytes] | None = None
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Start every process and wait until all bots listen: what happens before a first login is nobody's."""
        for slot in self.slots:
            slot.start()
        self._stock = self.control()
        everybody = sorted([*(watch.tg for watch in self.watches), *self.control_bots])
        eventually(lambda: self.server.counts()["listening"] == everybody, "all bots are listening", wait_s=READY_S)

    def watch(self) -> None:
        """Restart what dies, until closed; runs in a thread of its own."""
        while not self._closed.wait(WATCH_S):
            for slot in self.slots:
                if not slot.process.alive:
                    if slot.process.popen.returncode != (0 if slot.asked_to_end else -signal.SIGKILL):
                        self.deaths.append(f"{slot.name} ended by itself with {slot.process.popen.returncode}; {slot.process.log}")
                    slot.start()
            if self._stock is not None and self._stock.poll() is not None:
                self._stock = self.control()

    def close(self) -> None:
        """Restart nothing any more, and end what runs."""
        self._closed.set()

    def end_control(self) -> None:
        if self._stock is not None:
            self._stock.kill()
            self._stock.wait()

    def kill_control(self) -> None:
        """The control is treated as our listeners are."""
        if self._stock is not None:
            self._stock.kill()

    def of(self, role: str) -> list[Slot]:
        """The slots of a kind of process."""
        return [slot for slot in self.slots if slot.name.startswith(role)]

    def database(self) -> Raw:
        """A connection of the harness's own, past the slow line."""
        return connect(self.database_url, name="harness", limits={})

    def holders(self, db: Raw) -> dict[str, set[int]]:
        """Which listeners have which bots, by their slots."""
        held: dict[str, set[int]] = {}
        for slot, bot in db.execute(
            "SELECT (SELECT min(slot) FROM audit_lease WHERE listener = listener_id), bot_id FROM bot_session WHERE listener_id IS NOT NULL"
        ):
            held.setdefault(slot, set()).add(bot)
        return held


@contextlib.contextmanager
def stage(services: Services, folder: Path, *, control: bool = True) -> Iterator[Stage]:
    """An empty database, a cast of three bots of ours and three of the control's; nothing of ours runs after the block."""
    with contextlib.ExitStack() as stack:
        with psycopg.connect(services.database_url, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {DATABASE}")
        empty_queues(services.amqp_url)
        url = on_database(services.database_url, DATABASE)
        migrate(url)
        server = stack.enter_context(started(log=folder / "telegram.log"))
        watches = make_cast(url, server)
        names, password = [f"listener_{number}" for number in range(LISTENERS)], secrets.token_hex(8)
        with connect(url, name="harness") as db:
            audit.install(db, names, password)
        proxy, proxied = stack.enter_context(slow_line(url))
        slots = [
            Slot(name, make_stack(stack, as_role(proxied, name, password), services.amqp_url, folder / name, server), LISTENER)
            for name in names
        ]
        slots += [
            Slot(f"{role}_{number}", make_stack(stack, url, services.amqp_url, folder / f"{role}_{number}", server), (role, *options))
            for role, number, options in (("relay", 0, ("--sweep", str(SWEEP_S))), ("ingest", 0, ()), ("ingest", 1, ()))
        ]
        control_bots, tokens = make_control(server, len(watches)) if control else ([], [])
        made = Stage(url, server, folder, slots, watches, control_bots, proxy, lambda: start_control(server, folder, tokens))
        watcher = threading.Thread(target=made.watch, name="watcher")
        try:
            made.start()
            watcher.start()
            yield made
        finally:
            made.close()
            if watcher.is_alive():
                watcher.join()
            made.end_control()


def make_cast(database_url: str, server: Remote) -> list[Watch]:
    """An account with three bots, each with a campaign in a channel of its own, and their sessions."""
    pool = engine(database_url, name="chaos")
    world, sealer = World(pool), Sealer.read(SECRET_KEY)
    owner = world.account()
    with pool.begin() as tx:
        seeds.set_templates(tx, owner.id, **TEMPLATES)
    watches = []
    for window in WINDOWS_S:
        chat = world.chat()
        bot = world.bot(owner, chat)
        campaign = world.campaign(owner, bot, chat, unsub_window=window, welcome="Welcome")
        with connect(database_url, name="chaos") as db:
            row = db.execute(
                "SELECT b.tg_id, t.tg_id, c.code FROM bot b, chat t, campaign c WHERE (b.id, t.id, c.id) = (%s, %s, %s)",
                (bot, chat, campaign),
            ).fetchone()
            assert row is not None
            tg, marked, code = row
            token = f"{tg}:{secrets.token_hex(16)}"
            db.execute(
                "INSERT INTO bot_session (bot_id, token) VALUES (%s, %s)", (bot, sealer.seal(token.encode(), f"bot_session.token:{bot}"))
            )
        watch = Watch(tg=tg, bot=bot, chat_tg=CHANNEL_MARK - marked, chat=chat, campaign=campaign, code=code, window=window)
        put_in(server, token, watch.tg, watch.chat_tg)
        watches.append(watch)
    pool.dispose()
    return watches


def make_control(server: Remote, number: int) -> tuple[list[int], list[str]]:
    """Bots that nobody but the server and stock Telethon knows, each with a channel of its own, which has the bot's number."""
    bots = [8_000_000_000 + place for place in range(number)]
    tokens = [f"{bot}:control" for bot in bots]
    for bot, token in zip(bots, tokens, strict=True):
        put_in(server, token, bot, bot)
    return bots, tokens


def put_in(server: Remote, token: str, bot: int, chat: int) -> None:
    """The server knows the bot, and it is an administrator of the chat."""
    server.add_bot(token=token)
    server.open_chat(chat=chat, owner=OWNER)
    server.promote(who=bot, chat=chat, by=OWNER)


def start_control(server: Remote, folder: Path, tokens: Sequence[str]) -> subprocess.Popen[bytes]:
    with (folder / "stock.log").open("ab") as log:
        command = [sys.executable, "-m", "tests.chaos.telegram.stock", str(server.ports["port"]), str(folder), *tokens]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def make_stack(stack: contextlib.ExitStack, database_url: str, amqp_url: str, folder: Path, server: Remote) -> Stack:
    folder.mkdir(parents=True, exist_ok=True)
    made = Stack(database_url, amqp_url, folder, environment=telegram_settings(server))
    stack.callback(made.end)
    return made


def telegram_settings(server: Remote) -> dict[str, str]:
    """What leads our processes to the server."""
    ports = server.ports
    return {
        "GATEPOST_TELEGRAM_SERVER": f"{ports['dc']}@{ports['host']}:{ports['port']}",
        "GATEPOST_TELEGRAM_SERVER_KEY": ports["public_key"],
    }


def as_role(url: str, role: str, password: str) -> str:
    info = psycopg.conninfo.conninfo_to_dict(url)
    return f"postgresql://{role}:{password}@{info['host']}:{info['port']}/{info['dbname']}"


@contextlib.contextmanager
def slow_line(url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A proxy before the database; the URL that leads through it. Stopped, it is a database that does not answer."""
    info = psycopg.conninfo.conninfo_to_dict(url)
    port = choose(1)[0]
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), str(info["port"]), str(DELAY_MS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as proxy:
        assert proxy.stdout is not None
        proxy.stdout.readline()
        try:
            yield proxy, f"postgresql://{info['user']}:{info['password']}@{LOOPBACK}:{port}/{info['dbname']}"
        finally:
            proxy.send_signal(signal.SIGCONT)
            proxy.kill()


def ports_to(pid: int, port: int) -> frozenset[int]:
    """The process's own ends of its connections to this port; none if it is gone."""
    try:
        inodes = {str(socket.readlink()) for socket in Path(f"/proc/{pid}/fd").iterdir()}
        lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return frozenset()
    ends = [(line[1], line[2]) for line in lines if f"socket:[{line[9]}]" in inodes]
    return frozenset(_port(ours) for ours, theirs in ends if _port(theirs) == port)


def _port(end: str) -> int:
    """Of an address as the kernel writes it."""
    return int(end.rpartition(":")[2], 16)
