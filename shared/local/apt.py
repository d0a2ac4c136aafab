"""Debian's and Ubuntu's package manager: installing as root, unpacking beside the project as anybody else."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOCK_WAIT_S = 120
INSTALL_S = 900
POLICY = Path("/usr/sbin/policy-rc.d")
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/gatepost.conf")

# What the packages would start at the next boot. It is switched off again, unless it was there before us.
BOOT_SCRIPTS = ("postgresql", "rabbitmq-server")
BOOT_UNITS = ("epmd.socket", "epmd.service")


class Unobtainable(Exception):
    """The package can't be had from here; the text says why, in a clause."""


def available() -> bool:
    """Whether this machine has the package manager at all."""
    return all(shutil.which(program) for program in ("apt-get", "dpkg", "dpkg-deb"))


def is_root() -> bool:
    """Whether we may install."""
    return os.geteuid() == 0


# Installing, as root


def install(package: str) -> None:
    """Install a package and what it needs, and leave the machine otherwise as it was: nothing started, no cluster made.

    The machine's package lists are tried as they are, for they usually serve; only when they don't are they refreshed.
    """
    scripts = [script for script in BOOT_SCRIPTS if not Path(f"/etc/init.d/{script}").exists()]
    units = [unit for unit in BOOT_UNITS if not _enabled(unit)]
    with _no_service_starts(), _no_cluster_is_made():
        try:
            _install(package)
        except Unobtainable:
            _run(["apt-get", "-qq", "update"])
            _install(package)
    for script in scripts:
        _try(["update-rc.d", script, "disable"])
    for link in (link for unit in units for link in _enabled(unit)):
        link.unlink()


def _enabled(unit: str) -> list[Path]:
    """The links by which systemd starts a unit at boot. Disabling it is removing them, also where systemd itself isn't."""
    return list(Path("/etc/systemd/system").glob(f"*.wants/{unit}"))


def _install(package: str) -> None:
    options = ["-qq", "-y", "--no-install-recommends", "-o", f"DPkg::Lock::Timeout={LOCK_WAIT_S}"]
    _run(["apt-get", *options, "install", package])


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's switch against starting services while packages are installed. An administrator's own switch stays."""
    if POLICY.exists():
        yield
        return
    with _temporary(POLICY, "#!/bin/sh\nexit 101\n", mode=0o755):
        yield


@contextmanager
def _no_cluster_is_made() -> Iterator[None]:
    """PostgreSQL's package makes and runs a cluster of its own unless it is told not to."""
    made = [folder for folder in (NO_CLUSTER.parent, *NO_CLUSTER.parent.parents) if not folder.exists()]
    NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _temporary(NO_CLUSTER, "create_main_cluster = false\n", mode=0o644):
            yield
    finally:
        _remove_if_empty(made)


@contextmanager
def _temporary(file: Path, text: str, *, mode: int) -> Iterator[None]:
    file.write_text(text)
    file.chmod(mode)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _remove_if_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


# Unpacking, as anybody


def unpack(package: str, tree: Path) -> None:
    """Put a package and whatever it needs that the machine hasn't got below `tree`, like a second root directory.

    What is installed in an older version is left alone: a second libc beside the machine's own would break more than it
    mends.
    """
    with tempfile.TemporaryDirectory(prefix="apt-", dir=tree.parent) as scratch:
        downloads = Path(scratch) / "downloads"
        downloads.mkdir()
        _download(package, downloads, private=Path(scratch))
        for archive in sorted(downloads.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(archive), str(tree)])


def _download(package: str, downloads: Path, *, private: Path) -> None:
    """Fetch with the machine's package lists, or, where they are missing or stale, with fresh ones of our own."""
    try:
        _download_missing(package, downloads, options=[])
    except Unobtainable:
        options = _private_lists(private)
        _run(["apt-get", "-qq", *options, "update"])
        _download_missing(package, downloads, options=options)


def _download_missing(package: str, downloads: Path, *, options: Sequence[str]) -> None:
    names = _not_installed(package, options)
    if not names:
        raise Unobtainable(f"{package} is installed already, but what it holds was not found")
    _run(["apt-get", "-qq", *options, "download", *names], folder=downloads)


def _not_installed(package: str, options: Sequence[str]) -> list[str]:
    """What installing a package would bring that isn't there in any version.

    A line of the simulation reads `Inst name (version …)`, and `Inst name [old version] (version …)` for an upgrade.
    """
    plan = _run(["apt-get", "-s", *options, "--no-install-recommends", "install", package])
    lines = [line.split() for line in plan.splitlines() if line.startswith("Inst ")]
    return [words[1] for words in lines if not words[2].startswith("[")]


def _private_lists(folder: Path) -> list[str]:
    for needed in ("lists/partial", "cache/archives/partial"):
        (folder / needed).mkdir(parents=True, exist_ok=True)
    paths: Mapping[str, Path] = {"Dir::State::lists": folder / "lists", "Dir::Cache": folder / "cache"}
    return [word for name, path in paths.items() for word in ("-o", f"{name}={path}")]


# Running


def _run(command: Sequence[str], *, folder: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            check=True,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
    except subprocess.CalledProcessError as error:
        raise Unobtainable(_reason(command, error.stderr)) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unobtainable(f"{command[0]} failed: {error}") from error
    return done.stdout


def _try(command: Sequence[str]) -> None:
    try:
        _run(command)
    except Unobtainable:
        return  # what isn't there needs no switching off


def _reason(command: Sequence[str], errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.startswith(("E:", "dpkg"))]
    return f"{command[0]} said {lines[-1].removeprefix('E:').strip()!r}" if lines else f"{command[0]} failed"
