"""pgbench as a ceiling: the statements of one real transfer, recorded while it happens, as a script of its own.

The ids of the recorded transfer are replaced by variables that the script computes from the number of its command, so that each run
of it is another transfer. What the real one sends as JSON or as an array the script puts together in SQL, which costs next to nothing.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from benchmarks import world
from benchmarks.ground import Ground
from shared.db.connect import Raw

Recorded: TypeAlias = list[tuple[str, Any]]

#: What the recorded transfer, which is of pair 0, has for an id, and what computes it for the others.
VARIABLES: Final = {
    world.SENDER: "sender",
    world.RECIPIENT: "recipient",
    world.BOT: "bot",
    world.CAMPAIGN: "campaign",
    world.CHAT: "chat",
    world.COMMAND: "command",
}
_NUMBER: Final = re.compile(r"\d+")
_ARRAY: Final = re.compile(r"\{[\d,]*\}")
_PARAMETER: Final = re.compile(r"%(?:\((\w+)\)s|(s)|(%))")
_TPS: Final = re.compile(r"tps = ([0-9.]+) \(without initial connection time\)")


def record(db: Raw) -> Recorded:
    """From now on, every statement that goes through the connection."""
    statements: Recorded = []

    class Recorder(psycopg.Cursor[tuple[Any, ...]]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> "Recorder":
            statements.append((str(query), params))
            super().execute(query, params, **options)
            return self

    db.cursor_factory = Recorder
    return statements


def script(statements: Recorded, *, commands: int) -> str:
    """One transfer for one run of the script; each client has its own share of the commands."""
    lines = [
        r"\set i :i + 1",
        rf"\set n :client_id * ({commands} / :clients) + :i",
        rf"\set pair (:n * {world.STEP}) % {commands}",
        rf"\set command {world.COMMAND} + :n",
        *(rf"\set {name} {base} + :pair" for base, name in VARIABLES.items() if name != "command"),
        *(f"{_fill(query, params)};" for query, params in statements),
    ]
    return "\n".join(lines) + "\n"


def run(ground: Ground, url: str, file: Path, *, clients: int, limit: Sequence[str]) -> float:
    """Transfers per second. `limit` is pgbench's own: `-T` seconds or `-t` runs."""
    program = ground.postgres.bin / "pgbench"
    options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-D", "i=-1", "-D", f"clients={clients}", *limit]
    done = subprocess.run([str(program), *options, "-f", str(file), url], capture_output=True, text=True, check=False)
    found = _TPS.search(done.stdout)
    if done.returncode or found is None:
        raise RuntimeError(f"pgbench failed: {done.stderr[-2000:]}")
    return float(found[1])


def _fill(query: str, params: Any) -> str:
    """The statement with its values written into it."""
    values = iter(params) if isinstance(params, (list, tuple)) else iter(())
    named: Mapping[str, Any] = params if isinstance(params, Mapping) else {}

    def value(match: re.Match[str]) -> str:
        if match[3]:
            return "%"
        return _literal(named[match[1]] if match[1] else next(values))

    return _PARAMETER.sub(value, query).strip()


def _literal(value: Any) -> str:  # noqa: PLR0911  # one answer for each type
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int():
            return f":{VARIABLES[value]}" if value in VARIABLES else str(value)
        case str() if _ARRAY.fullmatch(value):
            return _literal([int(number) for number in _NUMBER.findall(value)])
        case str():
            return _text(value)
        case UUID():
            return f"{_text(str(value))}::uuid"
        case Jsonb():
            # with a space after each colon: pgbench takes :true for a variable, in quotes too
            return f"{_text(json.dumps(msgspec.to_builtins(value.obj)))}::jsonb"
        case list():
            return f"ARRAY[{', '.join(map(_literal, value))}]::{_type(value)}[]"
        case _:
            raise TypeError(f"no way to write a {type(value).__name__} into a script")


def _text(text: str) -> str:
    """The text in which each id is computed."""
    parts: list[str] = []
    end = 0
    for number in _NUMBER.finditer(text):
        if int(number[0]) in VARIABLES:
            parts += [_quoted(text[end : number.start()]), f":{VARIABLES[int(number[0])]}"]
            end = number.end()
    parts.append(_quoted(text[end:]))
    return f"({' || '.join(parts)})" if len(parts) > 1 else parts[0]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _type(values: list[Any]) -> str:
    names = {bool: "boolean", int: "bigint", str: "text", UUID: "uuid"}
    return next((names[type(value)] for value in values if value is not None), "bigint" if not values else "text")
