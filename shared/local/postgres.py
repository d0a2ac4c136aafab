"""A private PostgreSQL: its own folder, port and password, durable like a real one.

Everything is below `<state>/postgres`: `data` (the cluster), `log`, `password` and `port`.
"""

import os
import pwd
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from shared.local import packages, ports, processes
from shared.local.packages import Say, ServiceMissing
from shared.local.processes import Account

USER = "gatepost"
DATABASE = "gatepost"
READY_S = 60.0  # the end of crash recovery is waited for, too
STOP_S = 30.0
INITDB_S = 60.0
LOOK_S = 10.0
STARTS_MAX = 3
LOG_TAIL_CHARS = 400
ELSEWHERE = Path("/var/lib/gatepost")

# Why each differs from PostgreSQL's default. Durability (fsync, synchronous_commit, full_page_writes) is the default's,
# said aloud, because every promise of the project rests on it.
SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": ports.LOOPBACK,  # nobody else's business
    "unix_socket_directories": "",  # one way in; a socket's path has a length limit that deep folders exceed
    "password_encryption": "scram-sha-256",
    "max_connections": "200",  # several processes, each with a pool, and the tests beside them
    "shared_buffers": "256MB",  # the hot part of tens of millions of rows, on a small machine
    "effective_cache_size": "1GB",  # what such a machine's page cache holds besides
    "work_mem": "8MB",  # sorts of one page or batch; 200 connections must fit
    "maintenance_work_mem": "128MB",  # building the indexes of the demo's and the benchmarks' leads
    "wal_compression": "on",  # full-page images are most of the WAL right after a checkpoint
    "max_wal_size": "2GB",  # fewer checkpoints under load, hence fewer full-page images
    "min_wal_size": "128MB",
    "random_page_cost": "1.1",  # there are no spinning disks left
    "jit": "off",  # compiling costs more than any of our queries
    "max_worker_processes": "8",
    "max_parallel_workers_per_gather": "0",  # two cores: a parallel query would only take them from the others
    "autovacuum_naptime": "10s",  # queue tables turn over in seconds
    "idle_session_timeout": "0",
    "log_min_duration_statement": "1s",
    "log_lock_waits": "on",
    "log_line_prefix": "%m [%p] %a ",
    "timezone": "UTC" if Path("/usr/share/zoneinfo/UTC").exists() else "GMT",  # GMT needs no file
    "log_timezone": "UTC" if Path("/usr/share/zoneinfo/UTC").exists() else "GMT",
}


class PostgresFailed(RuntimeError):
    """The server did not start; the message ends with the end of its log."""


class PortTaken(PostgresFailed):
    """Somebody else listens on the server's port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running private server, or one that can be started again at the same address."""

    url: str = field(repr=False)
    bin: Path
    port: int
    folder: Path
    programs: packages.Programs
    account: Account | None

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "log"

    @property
    def data(self) -> Path:
        """The cluster."""
        return self.folder / "data"

    def stop(self) -> None:
        """Shut down in order; open connections are closed. Nothing happens if it isn't running."""
        postmaster = processes.marked(self.folder)
        processes.send(postmaster, signal.SIGINT)
        if not processes.ended(postmaster, within_s=STOP_S):
            self.crash()

    def crash(self) -> None:
        """Die as in a power cut (`pg_ctl -m immediate`): the next start recovers from the log."""
        processes.end(processes.marked(self.folder), signal.SIGQUIT, patience_s=STOP_S)

    def start_again(self) -> None:
        """Run again on the same port with the same data; returns when it accepts connections."""
        if not self.running():
            self._launch()
        self._await_ready()

    def restart(self) -> None:
        """Stop and start again."""
        self.stop()
        self.start_again()

    def remove(self) -> None:
        """Stop and remove everything there is of it. Only start() can make another."""
        self.stop()
        shutil.rmtree(self.folder)

    def running(self) -> bool:
        """Whether the server lives."""
        return bool(processes.marked(self.folder))

    def _launch(self) -> None:
        settings = ["-c", f"port={self.port}", "-c", processes.mark_setting(self.folder)]
        processes.launch(
            [self.bin / "postgres", "-D", self.data, *settings],
            folder=self.folder,
            log=self.log,
            environment=self.programs.environment,
            account=self.account,
        )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self._accepts():
            if processes.none_left(self.running):
                raise self._failure()
            if time.monotonic() > deadline:
                raise PostgresFailed(f"PostgreSQL was not ready within {READY_S:.0f} s: {self._log_tail()}")
            time.sleep(processes.POLL_S)

    def _accepts(self) -> bool:
        try:
            psycopg.connect(_url(self.port, self._password(), "postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _password(self) -> str:
        return (self.folder / "password").read_text()

    def _failure(self) -> Exception:
        if not ports.is_free(self.port):
            return PortTaken(f"port {self.port} of PostgreSQL was taken by somebody else")
        return PostgresFailed(f"PostgreSQL did not start: {self._log_tail()}")

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARS:] if self.log.exists() else ""


def start(state: Path, *, say: Say, settings: Mapping[str, str] | None = None) -> Postgres:
    """Start the private server of a state folder.

    1. The programs; those of the data's own version if there is data.
    2. The cluster, on the first start, where the server's user can reach it.
    3. The settings, written anew each time.
    4. The server, in place of one that a killed predecessor left running.
    5. The database.
    """
    wanted = state.resolve() / "postgres"
    major = _data_version(wanted / "data")
    programs = packages.postgres(say, major=major)  # installing them may make the user they run as
    if major is None:
        say("Making a PostgreSQL cluster")
        _make_cluster(wanted, programs)
    folder = wanted.resolve()
    account = _owner(folder / "data")
    _write_settings(folder / "data", {**SETTINGS, **(settings or {})}, account)
    server = _run(folder, programs, account)
    _make_database(server.url)
    return server


def _run(folder: Path, programs: packages.Programs, account: Account | None) -> Postgres:
    """What a predecessor left is stopped, not kept: it may be on its way out, or run with other settings.

    The port is looked at again when it was lost between the look and the server's start.
    """
    processes.end(processes.marked(folder), signal.SIGINT, patience_s=STOP_S)
    for _ in range(STARTS_MAX):
        server = _server(folder, programs, account)
        try:
            server.start_again()
        except PortTaken:
            continue
        return server
    raise PostgresFailed(f"PostgreSQL found its port taken {STARTS_MAX} times in a row")


def _server(folder: Path, programs: packages.Programs, account: Account | None) -> Postgres:
    (port,) = ports.keep_or_choose(folder / "port", 1)
    url = _url(port, (folder / "password").read_text(), DATABASE)
    return Postgres(url=url, bin=programs.bin, port=port, folder=folder, programs=programs, account=account)


def _url(port: int, password: str, database: str) -> str:
    return f"postgresql://{USER}:{password}@{ports.LOOPBACK}:{port}/{database}"


# Where it lives, and as whom


def _server_account() -> Account | None:
    """PostgreSQL refuses to run as root: the server, and only it, becomes another user then."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=user.pw_uid, gid=user.pw_gid)
    raise ServiceMissing("PostgreSQL refuses to run as root and there is no user postgres or nobody: create one.")


def _owner(data: Path) -> Account | None:
    """Whoever the data belongs to runs the server: by now there may be a user postgres that wasn't there at first."""
    if os.geteuid() != 0:
        return None
    return Account(uid=data.stat().st_uid, gid=data.stat().st_gid)


def _reachable_folder(wanted: Path, account: Account | None) -> Path:
    """The folder itself, or, where the server's user can't reach it, one under /var/lib that a link in its place names.

    A state folder below root's home is closed to other users, and it is not for us to open somebody's home.
    """
    if wanted.is_symlink():
        wanted.unlink()  # what it named is gone, or has no cluster in it
    wanted.mkdir(parents=True, exist_ok=True)
    if account is None:
        wanted.chmod(0o700)
        return wanted
    _give(wanted, account)
    if _can_write(wanted, account):
        return wanted
    return _folder_elsewhere(wanted, account)


def _folder_elsewhere(wanted: Path, account: Account) -> Path:
    ELSEWHERE.mkdir(mode=0o755, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{wanted.parent.parent.name}-", dir=ELSEWHERE))
    _give(folder, account)
    shutil.rmtree(wanted)  # there is no cluster in it
    wanted.symlink_to(folder)
    return folder


def _give(path: Path, account: Account | None) -> None:
    path.chmod(0o700 if path.is_dir() else 0o600)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _can_write(folder: Path, account: Account) -> bool:
    test = ["test", "-w", str(folder)]
    return processes.run(test, folder=Path("/"), environment={}, account=account, within_s=LOOK_S).returncode == 0


# The cluster


def _data_version(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _make_cluster(wanted: Path, programs: packages.Programs) -> None:
    """Run initdb aside and move the result into place, so that half a cluster is never taken for one."""
    account = _server_account()
    folder = _reachable_folder(wanted, account)
    half_made, password = folder / "data.new", folder / "password"
    shutil.rmtree(half_made, ignore_errors=True)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    _give(password, account)
    access = [f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256"]
    made = processes.run(
        [str(programs.bin / "initdb"), *access, "--encoding=UTF8", "--locale=C.UTF-8", "-D", str(half_made)],
        folder=folder,
        environment=programs.environment,
        account=account,
        within_s=INITDB_S,
    )
    if made.returncode != 0:
        raise PostgresFailed(f"initdb failed: {made.stderr[-LOG_TAIL_CHARS:]}")
    half_made.rename(folder / "data")


def _write_settings(data: Path, settings: Mapping[str, str], account: Account | None) -> None:
    file = data / "postgresql.conf"
    quoted = {name: value.replace("'", "''") for name, value in settings.items()}
    file.write_text("".join(f"{name} = '{value}'\n" for name, value in quoted.items()))
    _give(file, account)


def _make_database(url: str) -> None:
    admin_url = url.removesuffix(DATABASE) + "postgres"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
