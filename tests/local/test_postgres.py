"""The private PostgreSQL, really started, stopped, crashed and abandoned."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shared.local import ports, postgres, processes
from shared.local.postgres import Postgres, PostgresFailed
from tests.local.supervisor import start_and_die


def quiet(_: str) -> None:
    """Nobody reads a test's progress."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a state folder with spaces")


@pytest.fixture(scope="module")
def made(state: Path) -> Iterator[Postgres]:
    server = postgres.start(state, say=quiet)
    yield server
    server.remove()


@pytest.fixture
def server(made: Postgres, state: Path) -> Postgres:
    return postgres.start(state, say=quiet)


def ask(server: Postgres, question: str) -> str:
    with psycopg.connect(server.url, autocommit=True) as connection:
        answer = connection.execute(question).fetchone()
    assert answer is not None
    return str(answer[0])


def tell(server: Postgres, statement: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(statement)


def postmaster(server: Postgres) -> int:
    (pid,) = processes.marked(server.folder)
    return pid


def test_it_is_durable_and_keeps_to_itself(server: Postgres) -> None:
    assert [ask(server, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")] == ["on"] * 3
    assert ask(server, "SHOW listen_addresses") == "127.0.0.1"
    assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600
    assert server.port < 32_768
    assert Path(f"/proc/{postmaster(server)}").stat().st_uid != 0


def test_a_wrong_password_is_refused(server: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://gatepost:wrong@127.0.0.1:{server.port}/gatepost")


def test_a_restart_keeps_the_port_and_the_data(server: Postgres, state: Path) -> None:
    tell(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert not server.running()
    server.stop()
    again = postgres.start(state, say=quiet)
    assert again.url == server.url
    assert ask(again, "SELECT answer FROM kept") == "42"


def test_a_crash_loses_nothing_that_was_committed(server: Postgres) -> None:
    tell(server, "CREATE TABLE survived AS SELECT 43 AS answer")
    server.crash()
    assert not server.running()
    server.start_again()
    assert ask(server, "SELECT answer FROM survived") == "43"
    assert "automatic recovery in progress" in server.log.read_text()


def test_settings_of_the_caller_hold_for_that_start(server: Postgres, state: Path) -> None:
    assert ask(postgres.start(state, say=quiet, settings={"lock_timeout": "7s"}), "SHOW lock_timeout") == "7s"
    assert ask(postgres.start(state, say=quiet), "SHOW lock_timeout") == "0"


def test_what_a_killed_supervisor_left_is_found_and_replaced(server: Postgres, state: Path) -> None:
    server.stop()
    start_and_die("postgres", state)
    left = postmaster(server)
    again = postgres.start(state, say=quiet)
    assert not processes.alive(left)
    assert again.url == server.url
    again.stop()
    assert processes.marked(server.folder) == []


def test_a_process_id_that_became_somebody_elses_is_left_alone(server: Postgres, state: Path) -> None:
    server.stop()
    (server.data / "postmaster.pid").write_text(f"{os.getppid()}\n{server.data}\n")
    server.stop()
    server.crash()
    (server.data / "postmaster.pid").unlink()
    assert processes.alive(os.getppid())


def test_a_taken_port_is_given_up_at_a_new_start_and_named_at_an_old_one(server: Postgres, state: Path) -> None:
    server.stop()
    with socket.create_server((ports.LOOPBACK, server.port)):
        with pytest.raises(PostgresFailed, match="taken by somebody else"):
            server.start_again()
        elsewhere = postgres.start(state, say=quiet)
        assert elsewhere.port != server.port
        assert ask(elsewhere, "SELECT 1") == "1"


def test_a_server_that_can_not_start_says_why(server: Postgres, state: Path) -> None:
    with pytest.raises(PostgresFailed, match="no_such_setting"):
        postgres.start(state, say=quiet, settings={"no_such_setting": "1"})
    postgres.start(state, say=quiet)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own a folder the server can't reach")
def test_a_closed_home_stays_closed_and_the_data_goes_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    server = postgres.start(home / "state", say=quiet)
    assert ask(server, "SELECT 1") == "1"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "state" / "postgres").resolve() == server.folder
    assert not server.folder.is_relative_to(home)
    server.remove()
