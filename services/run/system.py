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
from services.run import demo, files, show
from services.run.client import Client, Unanswered
from services.run.files import AccountFile
from services.run.servers import Servers
from services.run.signals import Signals, Stopped
from services.run.supervisor import PROCESSES, Supervisor
from shared import local
from shared.db.connect import AWAY
from shared.local import ServiceMissing, Services, StateInUse, ports
from shared.local.postgres import PostgresFailed
from shared.local.processes import NeverEnded
from shared.local.rabbitmq import RabbitMQFailed

HOST: Final = "127.0.0.1"

#: Where a person looks first; the next free port is taken when somebody is there already, as far as this one.
PORT_FIRST: Final = 8_080
PORT_LAST: Final = 8_179

#: How long the gateway may take until it is ready, and how often it is asked.
READY_S: Final = 60.0
READY_POLL_S: Final = 0.05

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


class CannotRun(Exception):
    """It can't be had; the message says why in a sentence."""


def run(settings: Settings, write: Say) -> None:
    """Bring everything up, show a transfer, and stay until a signal says stop.

    1. Hold the state folder; what a killed predecessor said of itself there is no longer true.
    2. Choose the port and try the services that are somebody else's, before anything is started.
    3. Start the private services.
    4. Bring the schema up to date, make the demo if this database has none, start our processes.
    5. Transfer a bot, write run.json, say where to go.
    6. Watch until asked to stop. Then our processes stop, then the services, by the way out of the blocks.

    Raises:
        CannotRun, with a sentence.
    """
    say = _robust(write)
    with Signals() as signals:
        try:
            with _alone_in(settings.state):
                files.remove_run_file(settings.state)
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
        environment = {
            "GATEPOST_DATABASE_URL": both.database_url,
            "GATEPOST_AMQP_URL": both.amqp_url,
            "GATEPOST_HOST": HOST,
            "GATEPOST_PORT": str(port),
        }
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
    signals.check()
    _start_processes(supervisor, client, signals, say)
    if known:
        _show(client, both, known, say)
    accounts = demo.describe(both.database_url, known) if known else []

    def publish() -> None:
        files.write_run_file(settings.state, base_url=client.base_url, addresses=both, accounts=accounts, pids=supervisor.pids())

    publish()
    _say_where_to_go(settings, client, accounts, say)
    _watch(supervisor, Servers(services, both.hide, say), signals, publish, say)


def _watch(supervisor: Supervisor, servers: Servers, signals: Signals, publish: Callable[[], None], say: Say) -> Never:
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


def _try_given_services(settings: Settings) -> None:
    if settings.database_url:
        addresses.try_database(settings.database_url)
    if settings.amqp_url:
        addresses.try_broker(settings.amqp_url)


# The steps of a start


def _migrate(supervisor: Supervisor, both: Addresses, say: Say) -> None:
    started = time.monotonic()
    trouble = supervisor.run("migrate")
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


def _start_processes(supervisor: Supervisor, client: Client, signals: Signals, say: Say) -> None:
    started = time.monotonic()
    supervisor.start()
    missing = "it did not answer"
    while time.monotonic() - started < READY_S:
        supervisor.look()
        try:
            answer = client.get("/readyz")
        except Unanswered:
            pass
        else:
            if answer.body.get("status") == "ok" and supervisor.pids().keys() == set(PROCESSES):
                running = ", ".join(f"{name} {pid}" for name, pid in supervisor.pids().items())
                say(f"Our processes are up: {running} ({_since(started)})")
                return
            missing = "; ".join(map(str, answer.body.get("missing", [])))
        signals.wait(READY_POLL_S)
    raise CannotRun(f"The gateway was not ready within {READY_S:.0f} s: {missing}")


def _show(client: Client, both: Addresses, known: demo.Demo, say: Say) -> None:
    pair = demo.describe(both.database_url, known)[:2]
    say("")
    try:
        lines = show.transfer(client, both.database_url, pair, known.shown)
    except Unanswered as error:
        lines = [f"The transfer could not be shown: {error}."]
    for line in lines:
        say(line)


def _say_where_to_go(settings: Settings, client: Client, accounts: list[AccountFile], say: Say) -> None:
    say("")
    say(f"Gatepost is ready at {client.base_url}. Ctrl-C stops it.")
    say(f"  Keys, tokens and addresses are in {settings.state / 'run.json'}, logs in {settings.state / 'log'}.")
    if accounts:
        say(f"  The bots of {accounts[0].name}:")
        say(f"    curl -sS -H 'Authorization: Bearer {accounts[0].key}' {client.base_url}{show.BOTS_LIST}")
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
