"""Whether a process of ours works, told from outside it: by the connections it holds, and a listener by its lease.

None of these listens on a port that could be asked. But one that can work holds its connections to RabbitMQ for as long as it lives, and
RabbitMQ closes the connection of one that is stopped, because its heartbeats stay away: a connection that stands says that both ends live.
That is read from /proc, which needs Linux and the process's own user. A listener has nothing to do with RabbitMQ, but renews its lease.
"""

import re
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import psycopg

from shared.db.alive import is_alive

#: A connection that is refused after the greeting stands for a moment too: one that counts is still the same one after this.
STANDS_S: Final = 1.0

#: A service that does not let us in within this is not reachable.
CONNECT_S: Final = 5

ESTABLISHED: Final = "01"
DATABASE_PORT: Final = 5432
BROKER_PORT: Final = 5672

_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


#: Processes that are told by their connections. A gateway is asked for its /healthz instead.
Role = Literal["relay", "ledger", "ingest", "listener"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """How many connections a process that can work holds, whether or not there is work."""

    database: int
    broker: int


#: A ledger consumes two queues, an ingest worker one; they open their connections to PostgreSQL when there is work.
HOLDS: Final[dict[Role, Holds]] = {
    "relay": Holds(database=1, broker=1),
    "ledger": Holds(database=0, broker=2),
    "ingest": Holds(database=0, broker=1),
    "listener": Holds(database=1, broker=0),
}


def missing(role: Role, pid: int, *, database_url: str, amqp_url: str) -> list[str]:
    """What this process lacks to do its work; nothing if it is healthy.

    1. The database answers here, where the process runs.
    2. The process holds as many connections to each service as its role needs,
    3. and a moment later the same ones.
    4. A listener holds its lease.
    """
    found = [] if _lets_in(database_url) else ["database: not reachable"]
    first = _sockets(pid)
    time.sleep(STANDS_S)
    standing = first & _sockets(pid)
    needs = HOLDS[role]
    for service, url, port, number in (
        ("database", database_url, DATABASE_PORT, needs.database),
        ("broker", amqp_url, BROKER_PORT, needs.broker),
    ):
        held = len(standing & _established(pid, url, port))
        if held < number:
            found.append(f"{service}: process {pid} holds {held} of its {number} connections")
    if role == "listener" and not is_alive(database_url, f"{socket.gethostname()}:{pid}", within_s=CONNECT_S):
        found.append(f"lease: process {pid} does not renew it")
    return found


def _lets_in(database_url: str) -> bool:
    """Whether one can log in. This is asked every few seconds beside each process, so it does without SQLAlchemy's half second of start."""
    try:
        psycopg.connect(database_url, application_name="gatepost health", connect_timeout=CONNECT_S).close()
    except psycopg.OperationalError:
        return False
    return True


def _sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets; none if it is gone, or somebody else's."""
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
            except FileNotFoundError:
                continue
            if match := _SOCKET.fullmatch(target):
                found.add(match[1])
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return set()
    return found


def _established(pid: int, url: str, default_port: int) -> set[str]:
    """The inodes of established connections to a URL's host and port, whichever of its addresses they go to."""
    parts = urlsplit(url)
    try:
        remotes = set(_as_the_kernel_writes(parts.hostname or "localhost", parts.port or default_port))
    except OSError:
        return set()
    found = set()
    for table in ("tcp", "tcp6"):
        for line in _lines(Path(f"/proc/{pid}/net/{table}")):
            _, _, remote, state, _, _, _, _, _, inode, *_ = line.split()
            if state == ESTABLISHED and remote in remotes:
                found.add(inode)
    return found


def _as_the_kernel_writes(host: str, port: int) -> Iterable[str]:
    """Each address of a host in the form of /proc/net/tcp: words of four bytes in the machine's own order, then the port."""
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        packed = socket.inet_pton(family, str(address[0]))
        words = struct.unpack(f"={len(packed) // 4}I", packed)
        yield f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text().splitlines()[1:]
    except OSError:
        return []
