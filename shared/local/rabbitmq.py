"""A private RabbitMQ node: its own folder, ports, user, cookie and port mapper.

Everything is below `<state>/rabbitmq`: `data` (what a wipe removes), `log`, `home` (the cookie), `rabbitmq.conf` (with
the password) and `ports`. No plugins: without them it stops in a second, and nothing of ours needs them.
"""

import secrets
import shutil
import signal
import time
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import pika
import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from shared.local import packages, ports, processes
from shared.local.packages import Say

USER = "gatepost"
NODE = "gatepost@localhost"
READY_S = 90.0
READY_POLL_S = 0.05
STOP_S = 15.0
MAPPER_STOP_S = 1.0
STARTS_MAX = 3
LOG_TAIL_CHARS = 400
CONNECT_S = 2.0

# Two schedulers are enough for us, however many cores there are; RabbitMQ itself already forbids idle ones to spin. The
# distribution port answers on loopback only: Erlang, left alone, opens it to the whole network.
ERLANG_ARGUMENTS = "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"

CONFIGURATION = """\
# Written anew at every start.
default_user = {user}
default_pass = {password}
default_vhost = /
log.console = false
log.file.level = info
# A small or nearly full disk must not stop publishers: the alarm is for servers that have the machine to themselves.
disk_free_limit.absolute = 20MB
vm_memory_high_watermark.relative = 0.6
# The log of all quorum queues is held in memory as well until it is written out; half a gigabyte is the default.
raft.wal_max_size_bytes = 64000000
"""

# Erlang resolves the node's own name itself: not every container has /etc/hosts.
NAMES = """\
{host, {127,0,0,1}, ["localhost"]}.
{lookup, [file, native]}.
"""


class RabbitMQFailed(RuntimeError):
    """The node did not start; the message ends with the end of its log."""


class PortTaken(RabbitMQFailed):
    """Somebody else listens on one of the node's ports."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the node listens: for clients, for Erlang's distribution, and its port mapper."""

    amqp: int
    distribution: int
    mapper: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitMQ:
    """A running private node, or one that can be started again at the same address."""

    url: str = field(repr=False)
    folder: Path
    programs: packages.Programs
    ports: Ports

    def stop(self) -> None:
        """Shut down in order, the port mapper last. Nothing happens if it isn't running."""
        _stop(self.folder)

    def kill(self) -> None:
        """Die without a word, as after SIGKILL; the port mapper stays, as it would.

        A quorum queue declared less than a second ago does not survive this: RabbitMQ (3.8 to 3.12 at least) writes down
        who leads it a moment later, and a queue that doesn't know its leader answers nobody, for ever. [Measured on
        3.10.8: killed within 0.5 s of the declaration stuck each time, after 1 s never; the upstream issue is
        rabbitmq-server#10070.]
        """
        processes.end(_node_processes(self.folder), signal.SIGKILL, patience_s=STOP_S)

    def wipe(self) -> None:
        """Die and lose everything: queues, messages, users. The next start is an empty node at the same address."""
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def start_again(self) -> None:
        """Run again at the same address; returns when clients can work."""
        if not self.running():
            self._launch()
        self._await_ready()

    def restart(self) -> None:
        """Stop and start again."""
        self.stop()
        self.start_again()

    def running(self) -> bool:
        """Whether the Erlang machine of the node lives."""
        return bool(_node_processes(self.folder))

    def _launch(self) -> None:
        processes.end(processes.marked(self.folder), signal.SIGTERM, patience_s=MAPPER_STOP_S)
        self._check_ports()  # the node would take seconds to find out
        processes.launch(
            [self.programs.bin / "rabbitmq-server"],
            folder=self.folder,
            log=self.folder / "log" / "console",
            environment={**self.programs.environment, **self._environment()},
        )

    def _environment(self) -> dict[str, str]:
        """What RabbitMQ would otherwise look for in /etc, /var and the user's home, or share with another node."""
        folder = self.folder
        return {
            **processes.mark_variable(folder),
            "HOME": str(folder / "home"),
            "ERL_INETRC": str(folder / "names"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": ports.LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "ERL_EPMD_PORT": str(self.ports.mapper),
            "ERL_EPMD_ADDRESS": ports.LOOPBACK,
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
        }

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self._accepts():
            if processes.none_left(self._starting):
                raise self._failure()
            if time.monotonic() > deadline:
                raise RabbitMQFailed(f"RabbitMQ was not ready within {READY_S:.0f} s: {self._log_tail()}")
            time.sleep(READY_POLL_S)

    def _accepts(self) -> bool:
        """Whether a client can log in. The port opens early, and asking through rabbitmqctl costs half a second."""
        if not ports.answers(self.ports.amqp):
            return False
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = CONNECT_S
        try:
            pika.BlockingConnection(parameters).close()
        except (pika.exceptions.AMQPError, AMQPConnectorException, OSError):
            return False
        return True

    def _starting(self) -> bool:
        """Whether anything but the port mapper lives: the start scripts first, then the node itself."""
        return any(processes.program(pid) != "epmd" for pid in processes.marked(self.folder))

    def _failure(self) -> RabbitMQFailed:
        processes.end(processes.marked(self.folder), signal.SIGTERM, patience_s=MAPPER_STOP_S)
        self._check_ports()
        return RabbitMQFailed(f"RabbitMQ did not start: {self._log_tail()}")

    def _check_ports(self) -> None:
        if not all(map(ports.is_free, astuple(self.ports))):
            raise PortTaken(f"one of RabbitMQ's ports {astuple(self.ports)} was taken by somebody else")

    def _log_tail(self) -> str:
        console = self.folder / "log" / "console"
        return console.read_text(errors="replace")[-LOG_TAIL_CHARS:] if console.exists() else ""


def start(state: Path, *, say: Say) -> RabbitMQ:
    """Start the private node of a state folder, in place of one that a killed predecessor left running."""
    folder = state.resolve() / "rabbitmq"
    programs = packages.rabbitmq(say)
    password = _prepare(folder)
    _stop(folder)
    for _ in range(STARTS_MAX):
        node = _node(folder, programs, password)
        try:
            node.start_again()
        except PortTaken:
            continue
        return node
    raise RabbitMQFailed(f"RabbitMQ found its ports taken {STARTS_MAX} times in a row")


def _node(folder: Path, programs: packages.Programs, password: str) -> RabbitMQ:
    chosen = Ports(*ports.keep_or_choose(folder / "ports", len(fields(Ports))))
    url = f"amqp://{USER}:{password}@{ports.LOOPBACK}:{chosen.amqp}/%2F"
    return RabbitMQ(url=url, folder=folder, programs=programs, ports=chosen)


def _stop(folder: Path) -> None:
    """The node first, then what it leaves behind: the port mapper, which would outlive it for ever."""
    processes.end(_node_processes(folder), signal.SIGTERM, patience_s=STOP_S)
    processes.end(processes.marked(folder), signal.SIGTERM, patience_s=MAPPER_STOP_S)


def _node_processes(folder: Path) -> list[int]:
    return [pid for pid in processes.marked(folder) if processes.program(pid) == "beam.smp"]


def _prepare(folder: Path) -> str:
    """Make the folders and the configuration; returns the password, which is made once."""
    for needed in (folder, folder / "data", folder / "log", folder / "home"):
        needed.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = folder / "password"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
    password = secret.read_text()
    configuration = folder / "rabbitmq.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(CONFIGURATION.format(user=USER, password=password))
    (folder / "names").write_text(NAMES)
    (folder / "enabled_plugins").write_text("[].\n")
    return password
