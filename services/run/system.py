"""`run`: from nothing to a system that works and has shown it, and back."""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never

from services import addresses
from services.addresses import Addresses, Unusable
from services.run import demo, files, keys, show, telegram
from services.run.client import Client, Unanswered
from services.run.files import AccountFile
from services.run.servers import Servers
from services.run.signals import Signals, Stopped
from services.run.supervisor import Program, Supervisor
from services.run.tally import Tally
from services.run.telegram import Telegram
from shared import local
from shared.db.connect import AWAY
from shared.local import ServiceMissing, Services, StateInUse, ports
from shared.local.postgres import PostgresFailed
from shared.local.processes import NeverEnded
from shared.local.rabbitmq import RabbitMQFailed
from shared.sealing import BadKeys, Sealer, new_key

HOST: Final = "127.0.0.1"

#: Where a person looks first; the next free port is taken when somebody is there already, as far as this one.
PORT_FIRST: Final = 8_080
PORT_LAST: Final = 8_179

#: How long the gateway may take until it is ready, and how often it is asked.
READY_S: Final = 60.0
READY_POLL_S: Final = 0.05

#: How long is waited for the first events of the demo's people, before a bot of theirs is transferred.
EVENTS_S: Final = 15.0

#: How often the private servers are looked at.
SERVERS_LOOK_S: Final = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What can be chosen. No repr: the URLs hold passwords."""

    state: Path
    port: int | None
    demo: bool
    database_url: str | None
    amqp_url: str | None
    secret_keys: str | None = None
    api_id: int | None = None
    api_hash: str | None = None
    service_bot: str | None = None
    media: Path | None = None


class CannotRun(Exception):
    """It can't be had; the message says why in a sentence."""


def run(settings: Settings, write: Say) -> None:
    """Bring everything up, show a transfer, and stay until a signal says stop.

    1. Hold the state folder; what a killed predecessor said of itself there is no longer true.
    2. Choose the port and try the services that are somebody else's, before anything is started.
    3. Start the private services.
    4. Bring the schema up to date, make the demo if this database has none, find out what there is of Telegram.
    5. Start our processes, transfer a bot, write run.json, say where to go.
    6. Watch, and say what happens, until asked to stop. Then our processes stop, then the services, by the way out of the blocks.

    Raises:
        CannotRun, with a sentence.
    """
    say = _robust(write)
    with Signals() as signals:
        try:
            with _alone_in(settings.state):
                files.remove_run_file(settings.state)
                _check(settings)
                port = _choose_port(settings.port)
                _try_given_services(settings)
                _start_and_stay(settings, port, signals, say)
        except Stopped:
            say("Everything is stopped.")
        except AWAY:
            raise CannotRun("PostgreSQL went away while the demo was made or shown.") from None
        except (StateInUse, Unusable, ServiceMissing, PostgresFailed, RabbitMQFailed, NeverEnded, ports.NoFreePort, OSError) as error:
            raise CannotRun(str(error)) from None


def _start_and_stay(settings: Settings, port: int, signals: Signals, say: Say) -> None:
    started = time.monotonic()
    private = [name for name, url in (("PostgreSQL", settings.database_url), ("RabbitMQ", settings.amqp_url)) if not url]
    if private:
        say(f"Starting a private {' and a private '.join(private)}")
    given = {"database_url": settings.database_url, "amqp_url": settings.amqp_url}
    with local.services(settings.state, say, **given) as services:
        signals.check()
        both = Addresses(services.database_url, services.amqp_url)
        where = f"{addresses.database_place(both.database_url)} and {addresses.broker_place(both.amqp_url)}"
        say(f"PostgreSQL and RabbitMQ are up, at {where} ({_since(started)})")
        environment = {"GATEPOST_DATABASE_URL": both.database_url, "GATEPOST_AMQP_URL": both.amqp_url}
        supervisor = Supervisor(settings.state / "log", environment, signals=signals, say=lambda line: say(both.hide(line)))
        try:
            _work(settings, services, Client(f"http://{HOST}:{port}"), supervisor, signals, say)
        except Stopped as asked:
            say(f"Stopping ({asked})")
            raise
        finally:
            try:
                files.remove_run_file(settings.state)
            finally:
                supervisor.stop()


def _work(settings: Settings, services: Services, client: Client, supervisor: Supervisor, signals: Signals, say: Say) -> None:
    both = Addresses(services.database_url, services.amqp_url)
    _migrate(supervisor, both, say)
    known = _demo(settings, both, say) if settings.demo else None
    given = _given(settings, keys.recall_or_make(settings.state))
    there = _telegram(settings, both, known, given)
    say(there.says)
    signals.check()
    tally = Tally(both.database_url, say)
    _start_processes(_programs(client, there, given), there, supervisor, client, signals, say)
    if known:
        if there.server:
            _await_events(tally, supervisor, signals)
        _show(client, both, known, say)
    accounts = demo.describe(both.database_url, known) if known else []

    def publish() -> None:
        pids = supervisor.pids()
        files.write_run_file(
            settings.state, base_url=client.base_url, addresses=both, accounts=accounts, pids=pids, control_port=there.control_port
        )

    publish()
    _say_where_to_go(settings, client, there, accounts, say)
    _watch(supervisor, Servers(services, both.hide, say), tally, signals, publish, say)


def _watch(supervisor: Supervisor, servers: Servers, tally: Tally, signals: Signals, publish: Callable[[], None], say: Say) -> Never:
    """Look after the processes, at once when one ends, and after the private servers, which are nobody's children, now and then.

    Raises:
        Stopped: always, in the end.
    """
    while True:
        if supervisor.look():
            try:
                publish()
            except OSError as error:
                say(f"run.json can't be written: {error.strerror}")
        servers.look()
        tally.look()
        due_s = supervisor.next_look_s()
        signals.wait(SERVERS_LOOK_S if due_s is None else min(due_s, SERVERS_LOOK_S))


# Before anything is started


@contextmanager
def _alone_in(state: Path) -> Iterator[None]:
    """Hold the folder itself, from before its run.json is touched. The lock is the kernel's: it goes when the process goes."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CannotRun(f"The state folder {state} can't be used: {error.strerror}. GATEPOST_STATE names another.") from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUse(f"Another Gatepost is running from {state}: stop it, or set GATEPOST_STATE.") from None
        yield
    finally:
        os.close(folder)


def _choose_port(wanted: int | None) -> int:
    """The port asked for; any free one for 0; without a wish the first free one from where a person looks."""
    if wanted == 0:
        return ports.choose(1)[0]
    if wanted is not None:
        if not ports.is_free(wanted):
            raise CannotRun(f"Port {wanted} is taken: stop who listens there, or set GATEPOST_PORT to another port or to 0 for any.")
        return wanted
    free = next(filter(ports.is_free, range(PORT_FIRST, PORT_LAST + 1)), None)
    return free or ports.choose(1)[0]


def _check(settings: Settings) -> None:
    if bool(settings.api_id) != bool(settings.api_hash):
        raise CannotRun("GATEPOST_TELEGRAM_API_ID and GATEPOST_TELEGRAM_API_HASH go together: set both, or neither.")
    try:
        Sealer.read(settings.secret_keys or new_key())
    except BadKeys as error:
        raise CannotRun(f"GATEPOST_SECRET_KEYS can't be used: {error}") from None


def _try_given_services(settings: Settings) -> None:
    if settings.database_url:
        addresses.try_database(settings.database_url)
    if settings.amqp_url:
        addresses.try_broker(settings.amqp_url)


# The steps of a start


def _migrate(supervisor: Supervisor, both: Addresses, say: Say) -> None:
    started = time.monotonic()
    trouble = supervisor.run(Program("migrate", ("services", "migrate")))
    if trouble is not None:
        raise CannotRun(f"The schema could not be brought up to date: {both.hide(trouble)}")
    say(f"The schema is up to date ({_since(started)})")


def _demo(settings: Settings, both: Addresses, say: Say) -> demo.Demo:
    known = demo.find(both.database_url, settings.state)
    if known:
        say("The demo is there already")
        return known
    say(f"Making the demo: {demo.summary()}")
    started = time.monotonic()
    made = demo.make(both.database_url, settings.state)
    say(f"The demo is made ({_since(started)})")
    return made


def _given(settings: Settings, own: keys.Keys) -> telegram.Settings:
    media = (settings.media or settings.state / "media").resolve()
    media.mkdir(parents=True, exist_ok=True)
    service_bot = settings.service_bot or "" if settings.api_id else own.service_bot
    return telegram.Settings(secret_keys=settings.secret_keys or own.sealing, service_bot=service_bot, media=media)


def _telegram(settings: Settings, both: Addresses, known: demo.Demo | None, given: telegram.Settings) -> Telegram:
    """Telegram itself where its two settings are given; in the demo a server in its place; else nothing."""
    if settings.api_id and settings.api_hash:
        return telegram.itself(both.database_url, given, settings.api_id, settings.api_hash)
    if known:
        return telegram.simulated(both.database_url, given, settings.state, [key.account for key in known.keys])
    return telegram.nothing()


def _programs(client: Client, there: Telegram, given: telegram.Settings) -> list[Program]:
    """Our processes in the order of their start. They are stopped in the reverse one: first nobody accepts, then nobody works."""
    workers = [Program(name, ("services", name)) for name in ("relay", "ledger", "ingest")]
    listeners = [there.listener] if there.listener else []
    where = {"GATEPOST_HOST": HOST, "GATEPOST_PORT": client.base_url.rpartition(":")[2]}
    return [*workers, *listeners, Program("gateway", ("services", "gateway"), {**where, **given.shared()})]


def _start_processes(programs: list[Program], there: Telegram, supervisor: Supervisor, client: Client, signals: Signals, say: Say) -> None:
    """The gateway comes last: when it answers, whom it needs has been started."""
    started = time.monotonic()
    if there.server:
        supervisor.start(there.server)
        _wait(lambda: None if ports.answers(there.port) else "The server in Telegram's place did not answer", supervisor, signals)
    for program in programs:
        supervisor.start(program)
    _wait(lambda: _missing(client, supervisor), supervisor, signals)
    running = ", ".join(f"{name} {pid}" for name, pid in supervisor.pids().items())
    say(f"Our processes are up: {running} ({_since(started)})")


def _missing(client: Client, supervisor: Supervisor) -> str | None:
    """What keeps the gateway from being ready, in words."""
    try:
        answer = client.get("/readyz")
    except Unanswered:
        return "The gateway did not answer"
    if answer.body.get("status") != "ok":
        return f"The gateway was not ready: {'; '.join(map(str, answer.body.get('missing', [])))}"
    return None if supervisor.is_complete() else "Not all processes kept running"


def _wait(missing: Callable[[], str | None], supervisor: Supervisor, signals: Signals) -> None:
    """Until nothing is missing any more.

    Raises:
        CannotRun: it took too long.
    """
    deadline = time.monotonic() + READY_S
    while lacking := missing():
        if time.monotonic() > deadline:
            raise CannotRun(f"{lacking} within {READY_S:.0f} s.")
        signals.wait(READY_POLL_S)
        supervisor.look()


def _await_events(tally: Tally, supervisor: Supervisor, signals: Signals) -> None:
    """Let something happen at Telegram before a bot is transferred. If nothing does, the lines that follow show it."""
    deadline = time.monotonic() + EVENTS_S
    while not tally.has_news() and time.monotonic() < deadline:
        signals.wait(READY_POLL_S)
        supervisor.look()


def _show(client: Client, both: Addresses, known: demo.Demo, say: Say) -> None:
    pair = demo.describe(both.database_url, known)[:2]
    say("")
    try:
        lines = show.transfer(client, both.database_url, pair, known.shown)
    except Unanswered as error:
        lines = [f"The transfer could not be shown: {error}."]
    for line in lines:
        say(line)


def _say_where_to_go(settings: Settings, client: Client, there: Telegram, accounts: list[AccountFile], say: Say) -> None:
    say("")
    say(f"Gatepost is ready at {client.base_url}. Ctrl-C stops it.")
    say(f"  Keys, tokens and addresses are in {settings.state / 'run.json'}, logs in {settings.state / 'log'}.")
    if accounts:
        say(f"  The bots of {accounts[0].name}:")
        say(f"    curl -sS -H 'Authorization: Bearer {accounts[0].key}' {client.base_url}{show.BOTS_LIST}")
        if there.example:
            say("  Somebody follows a deep link, and more can be asked for (tests/telegram/control.py):")
            say(f"    {sys.executable} -m tests.telegram.poke {there.control_port} {there.example}")
    else:
        say("  No demo was wanted; this makes an account, and prints its key:")
        say(f"    {sys.executable} -m services account add --name Anna --state {settings.state}")


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"


def _robust(write: Say) -> Say:
    """Nobody listening any more, as after `| head`, must not keep us from stopping in order."""

    def say(line: str) -> None:
        try:
            write(line)
        except OSError:
            return

    return say
