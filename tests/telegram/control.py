"""The control port: one JSON object a line asks for something, one a line answers it.

    {"do": "add_bot", "token": "100:a"}                                      -> {"ok": 100}
    {"do": "start", "person": 7, "bot": 100, "payload": "abc-1"}             -> {"ok": null}
    {"do": "nasty", "withhold_percent": 2}                                   -> {"ok": null}
    {"do": "record", "which": "owed", "since": 0}                            -> {"ok": [...]}
    {"do": "gibberish"}                                                      -> {"error": "KeyError: 'gibberish'"}

What people do (`people.py`) and the tricks (`core.py`) are asked for by their own names and arguments; dates are seconds.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from telethon.extensions import BinaryReader

from tests.telegram.core import Core
from tests.telegram.crowd import Crowd, Stage
from tests.telegram.people import People

LOG: Final = logging.getLogger(__name__)

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
RECORD_ROWS_MAX: Final = 10_000

DEEDS: Final = {name for name in vars(People) if not name.startswith("_")}
TRICKS: Final = frozenset(["drop", "silence", "kill_keys", "forget_keys", "revoke", "expire_media", "renew_salt"])


class Control:
    """Does what it is asked for, for any number of those who ask."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._crowd: Crowd | None = None
        self._running: asyncio.Task[int] | None = None
        self._commands: dict[str, Callable[..., Any]] = {
            "add_bot": self._add_bot,
            "log_in": self._log_in,
            "nasty": core.nasty.set,
            "push": self._push,
            "dam": core.courier.dam,
            "open_dam": core.courier.open_dam,
            "together": self._together,
            "record": self._record,
            "counts": self._counts,
            "logins": lambda bot_id: len(core.secrets.ring.of(bot_id)),
            "crowd": self._start_crowd,
            "stop_crowd": self._stop_crowd,
        }

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer line by line until the other side hangs up."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line), default=str).encode() + b"\n")
                await writer.drain()
        except ConnectionError as error:
            LOG.debug("control: %r", error)
        finally:
            writer.close()

    async def begin(self, lines: Iterable[bytes]) -> None:
        """Do what the lines ask for.

        Raises:
            ValueError: one could not be done.
        """
        for number, line in enumerate(lines, 1):
            answer = await self._answer(line)
            if "error" in answer:
                raise ValueError(f"line {number}: {answer['error']}")

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            done = self._do(**json.loads(line))
            return {"ok": await done if isinstance(done, Awaitable) else done}
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the asker is told
            return {"error": f"{type(error).__name__}: {error}"}

    def _do(self, do: str, **arguments: Any) -> Any:
        if do in DEEDS:
            return self._deed(do, arguments)
        if do in TRICKS:
            return getattr(self._core, do)(**arguments)
        return self._commands[do](**arguments)

    def _deed(self, do: str, arguments: dict[str, Any]) -> Any:
        if arguments.get("at") is not None:
            arguments["at"] = datetime.fromtimestamp(arguments["at"], UTC)
        made = getattr(self._core.people, do)(**arguments)
        return getattr(made, "url", None) or getattr(made, "id", None)

    def _add_bot(self, token: str, **details: Any) -> int:
        return self._core.add_bot(token, **details).id

    def _log_in(self, bot_id: int, key: str) -> None:
        self._core.log_in(bot_id, bytes.fromhex(key))

    def _push(self, bot: int, update: str, kind: str = "raw", **facts: Any) -> None:
        """Any TL update, serialized, in hex: numbered, owed and pushed like everything else."""
        with BinaryReader(bytes.fromhex(update)) as reader:
            self._core.courier.deliver(self._core.world.bots[bot], reader.tgread_object(), kind, **facts)

    def _together(self, deeds: list[dict[str, Any]]) -> None:
        """Several things, pushed in one container for each bot."""
        with self._core.courier.together():
            for deed in deeds:
                self._do(**deed)

    def _record(self, which: str, since: int = 0) -> list[dict[str, Any]]:
        return self._core.record.part(which, since, RECORD_ROWS_MAX)

    def _counts(self) -> dict[str, Any]:
        record = self._core.record
        return {
            "owed": len(record.owed),
            "calls": len(record.calls),
            "sent": len(record.sent),
            "connections": len(record.connections),
            "open": len(self._core.lines),
            "listening": sorted(bot.id for bot in self._core.world.bots.values() if bot.lines),
            "crowd": self._crowd.done if self._crowd else 0,
            "crowd_running": bool(self._crowd and self._crowd.running),
        }

    async def _start_crowd(
        self,
        stages: list[dict[str, Any]],
        events: int | None = None,
        per_s: float | None = None,
        *,
        wait: bool = True,
        then_per_s: float | None = None,
        **details: Any,
    ) -> int:
        """Answered when the crowd has done so many things or was stopped; at once if that is not to be waited for.

        With `then_per_s` it goes on after that, at another pace, until it is stopped.
        """
        self._crowd = Crowd(self._core, [Stage(**stage) for stage in stages], **details)
        self._running = asyncio.get_running_loop().create_task(self._run_crowd(self._crowd, events, per_s, then_per_s))
        return await self._running if wait else 0

    @staticmethod
    async def _run_crowd(crowd: Crowd, events: int | None, per_s: float | None, then_per_s: float | None) -> int:
        done = await crowd.run(events, per_s)
        return done if then_per_s is None or crowd.stopped else done + await crowd.run(None, then_per_s)

    def _stop_crowd(self) -> None:
        if self._crowd:
            self._crowd.stop()
