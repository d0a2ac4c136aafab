"""What a run leaves in the state folder for others to read: run.json, and what is remembered of the demo."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.addresses import Addresses


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AccountFile:
    """An account in run.json. `key` is the whole `id-key`; no repr, for its sake."""

    name: str
    id: int
    key: str
    transfer_token: str
    bots: list[int]
    campaigns: list[int]


def write_run_file(
    state: Path, *, base_url: str, addresses: Addresses, accounts: list[AccountFile], pids: Mapping[str, int], control_port: int | None
) -> None:
    """run.json: that a system is up, where it is, and how to get in.

    `control_port` is of the server in Telegram's place, where there is one: there people can be made to do things.
    """
    content = {
        "base_url": base_url,
        "database_url": addresses.database_url,
        "amqp_url": addresses.amqp_url,
        "accounts": [asdict(account) for account in accounts],
        "processes": [{"name": name, "pid": pid} for name, pid in pids.items()],
        "telegram": None if control_port is None else {"control_port": control_port},
    }
    write_private(_run_file(state), content)


def remove_run_file(state: Path) -> None:
    """Nothing is up any more."""
    _run_file(state).unlink(missing_ok=True)


def read_run_file(state: Path) -> dict[str, Any] | None:
    """What is up; None when nothing is."""
    try:
        content = json.loads(_run_file(state).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_private(file: Path, content: object) -> None:
    """Write JSON for its owner's eyes only."""
    write_private_text(file, json.dumps(content, indent=2) + "\n")


def write_private_text(file: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all: a reader finds the old one or the new one, also after a crash."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    new.replace(file)


def _run_file(state: Path) -> Path:
    return state / "run.json"
