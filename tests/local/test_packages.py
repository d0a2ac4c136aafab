"""Finding and fetching the servers' programs, on machines poorer than the one the tests run on."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.local import ServiceMissing, StateInUse, apt, packages, services
from shared.local.packages import Machine, Programs


def quiet(_: str) -> None:
    """Nobody reads a test's progress."""


def bare(folder: Path) -> Machine:
    """A machine with nothing installed and no package manager."""
    return Machine(system=folder / "root", cache=folder / "cache", may_install=False, has_apt=False)


def test_the_programs_of_this_machine_run() -> None:
    programs = packages.postgres(quiet)
    version = subprocess.run([programs.bin / "psql", "--version"], check=True, capture_output=True, env=programs.environment)
    assert b"PostgreSQL" in version.stdout
    assert (packages.rabbitmq(quiet).bin / "rabbitmq-server").exists()


@pytest.mark.parametrize(
    ("find", "package", "variable"),
    [
        (packages.postgres, "postgresql", "GATEPOST_DATABASE_URL"),
        (packages.rabbitmq, "rabbitmq-server", "GATEPOST_AMQP_URL"),
    ],
)
def test_one_sentence_says_what_to_do_where_nothing_can_be_had(
    find: Callable[..., Programs], package: str, variable: str, tmp_path: Path
) -> None:
    with pytest.raises(ServiceMissing) as raised:
        find(quiet, machine=bare(tmp_path))
    sentence = str(raised.value)
    assert f"install the package {package}" in sentence
    assert f"set {variable}" in sentence
    assert sentence.count(".") == 1
    assert "\n" not in sentence


def test_data_of_another_major_version_names_that_version(tmp_path: Path) -> None:
    with pytest.raises(ServiceMissing, match=r"PostgreSQL 14 was not found .* install the package postgresql-14"):
        packages.postgres(quiet, major=14, machine=bare(tmp_path))


def test_an_unpacked_erlang_is_told_where_it_is(tmp_path: Path) -> None:
    script = tmp_path / "tree/usr/lib/erlang/bin/erl"
    script.parent.mkdir(parents=True)
    script.write_text("if x\n    ROOTDIR=/usr/lib/erlang\nelse\n    ROOTDIR=/usr/lib/erlang\nfi\n")
    packages._settle_erlang(tmp_path / "tree", Path("/final place"))
    assert script.read_text().count('    ROOTDIR="/final place/usr/lib/erlang"\n') == 2


@pytest.mark.skipif(not apt.available(), reason="there is no apt-get here")
def test_a_package_nobody_has_is_a_reason_and_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(apt.Unobtainable, match="no-such-package-anywhere"):
        apt._not_installed("no-such-package-anywhere", [])
    assert list(tmp_path.iterdir()) == []


def test_existing_services_are_used_as_they_are_and_a_state_folder_serves_one_at_a_time(tmp_path: Path) -> None:
    given = {"database_url": "postgresql://there/x", "amqp_url": "amqp://there"}
    with services(tmp_path, quiet, **given) as used:
        assert (used.database_url, used.amqp_url, used.postgres, used.rabbitmq) == ("postgresql://there/x", "amqp://there", None, None)
        with pytest.raises(StateInUse, match="GATEPOST_STATE"), services(tmp_path, quiet, **given):
            pass
