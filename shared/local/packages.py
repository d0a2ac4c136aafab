"""Where the servers' programs come from: what the machine has, else what its package manager can give.

In this order: installed already; installed now, when we are root; unpacked below the project's `.cache`, when not.
What can't be had raises ServiceMissing, whose one sentence tells a person what to do.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared.local import apt

POSTGRES_OLDEST = 14
VERSION_S = 10.0
SYSTEM = Path("/")
CACHE = Path(__file__).resolve().parents[2] / ".cache"

Say = Callable[[str], None]


class ServiceMissing(Exception):
    """A server can't be had; the message is one sentence that says what to install or which variable to set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """A server's programs and what must be in the environment for them to run."""

    bin: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    name: str
    package: str
    variable: str
    find: Callable[[Sequence[Path]], Programs | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where to look and whether to fetch. Tests describe a poorer machine than the one they run on."""

    system: Path = SYSTEM
    cache: Path = CACHE
    may_install: bool = field(default_factory=apt.is_root)
    has_apt: bool = field(default_factory=apt.available)

    @property
    def packages(self) -> Path:
        """Where packages are unpacked, each into a tree like a second root directory."""
        return self.cache / "packages"

    def roots(self) -> list[Path]:
        """Where to look, in this order."""
        return [self.system, *sorted(self.packages.glob("[!.]*"))]


def postgres(say: Say, *, major: int | None = None, machine: Machine | None = None) -> Programs:
    """PostgreSQL's programs: the newest there are, or those of one major version, which alone can read its old data."""

    def find(roots: Sequence[Path]) -> Programs | None:
        return _find_postgres(roots, major)

    name = f"PostgreSQL {major}" if major else f"PostgreSQL {POSTGRES_OLDEST} or newer"
    package = f"postgresql-{major}" if major else "postgresql"
    return _get(_Service(name=name, package=package, variable="GATEPOST_DATABASE_URL", find=find), say, machine or Machine())


def rabbitmq(say: Say, *, machine: Machine | None = None) -> Programs:
    """RabbitMQ's programs, with Erlang's on the PATH of their environment."""
    service = _Service(name="RabbitMQ", package="rabbitmq-server", variable="GATEPOST_AMQP_URL", find=_find_rabbitmq)
    return _get(service, say, machine or Machine())


def _get(service: _Service, say: Say, machine: Machine) -> Programs:
    found = service.find(machine.roots())
    if found is not None:
        return found
    with _one_at_a_time(machine.cache):
        found = service.find(machine.roots())
        if found is not None:
            return found
        try:
            _fetch(service, say, machine)
        except apt.Unobtainable as error:
            raise ServiceMissing(_advice(service, str(error))) from error
        found = service.find(machine.roots())
    if found is None:
        raise ServiceMissing(_advice(service, f"the package {service.package} holds no usable one"))
    return found


@contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    """Fetch alone: both services start at once, and so may a run and the tests beside it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(service: _Service, say: Say, machine: Machine) -> None:
    if not machine.has_apt:
        raise apt.Unobtainable("there is no apt-get on this machine")
    if machine.may_install:
        say(f"{service.name} is not installed: installing the package {service.package}")
        apt.install(service.package)
        return
    say(f"{service.name} is not installed: unpacking the package {service.package} below {machine.cache.name}/")
    _unpack(service.package, machine.packages / service.package)


def _unpack(package: str, tree: Path) -> None:
    """The tree appears only when it is complete; one that was there held nothing usable."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=tree.parent) as workshop:
        new_tree = Path(workshop) / "tree"
        apt.unpack(package, new_tree)
        _settle_erlang(new_tree, tree)
        shutil.rmtree(tree, ignore_errors=True)
        new_tree.rename(tree)


def _advice(service: _Service, reason: str) -> str:
    return (
        f"{service.name} was not found and could not be fetched ({reason}): install the package {service.package}, "
        f"or set {service.variable} to use an existing server."
    )


# PostgreSQL


def _find_postgres(roots: Sequence[Path], major: int | None) -> Programs | None:
    versions = [(version, programs) for programs in _postgres_candidates(roots) if (version := _postgres_version(programs))]
    usable = [(v, p) for v, p in versions if (v == major if major else v >= POSTGRES_OLDEST)]
    return max(usable, key=lambda found: found[0])[1] if usable else None


def _postgres_candidates(roots: Sequence[Path]) -> Iterable[Programs]:
    for root in roots:
        for folder in root.glob("usr/lib/postgresql/*/bin"):
            yield Programs(bin=folder, environment=_environment(root))
    on_path = shutil.which("postgres") if SYSTEM in roots else None
    if on_path is not None:
        yield Programs(bin=Path(on_path).resolve().parent, environment=_environment(SYSTEM))


def _postgres_version(programs: Programs) -> int | None:
    """The major version, or None where a program is missing or doesn't run."""
    if not all((programs.bin / name).is_file() for name in ("postgres", "initdb")):
        return None
    try:
        said = subprocess.run(
            [programs.bin / "postgres", "--version"],
            check=True,
            capture_output=True,
            text=True,
            timeout=VERSION_S,
            env=programs.environment,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    number = re.search(r"\d+", said)
    return int(number.group()) if number else None


# RabbitMQ


def _find_rabbitmq(roots: Sequence[Path]) -> Programs | None:
    servers = [server for root in roots for server in root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")]
    erlang_root = next((root for root in roots if (root / "usr/bin/erl").is_file()), None)
    if not servers or erlang_root is None:
        return None
    environment = _environment(erlang_root)
    plugins = servers[-1].parents[1] / "plugins"
    return Programs(bin=servers[-1].parent, environment={**environment, "RABBITMQ_PLUGINS_DIR": str(plugins)})


def _settle_erlang(tree: Path, final_tree: Path) -> None:
    """Tell an unpacked Erlang where it will be: its start scripts carry the folder it was built for.

    An `erl` of ours earlier on the PATH would not do: the machine starts its port mapper through the script's ROOTDIR.
    """
    inside = "usr/lib/erlang"
    root = f'ROOTDIR="{final_tree / inside}"'.replace("\\", r"\\")
    for script in (*tree.glob(f"{inside}/bin/erl"), *tree.glob(f"{inside}/erts-*/bin/erl")):
        script.write_text(re.sub(r"\bROOTDIR=/.*$", root, script.read_text(), flags=re.MULTILINE))


# The environment


def _environment(root: Path) -> dict[str, str]:
    """Our environment less what would steer the servers, with an unpacked tree's programs and libraries in front."""
    steering = ("PG", "RABBITMQ_", "ERL_", "LD_LIBRARY_PATH", "LC_", "LANG")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    inherited["LC_ALL"] = "C.UTF-8"
    if root == SYSTEM:
        return {**inherited, "PATH": _search_path(root)}
    libraries = [folder for pattern in ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*") for folder in root.glob(pattern)]
    return {**inherited, "PATH": _search_path(root), "LD_LIBRARY_PATH": ":".join(map(str, libraries))}


def _search_path(root: Path) -> str:
    own = [root / "usr/bin", root / "usr/sbin"] if root != SYSTEM else []
    return ":".join(map(str, [*own, *os.get_exec_path(), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]))
