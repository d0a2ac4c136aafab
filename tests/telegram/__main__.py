"""The server as a process: `python -m tests.telegram --port 0 --control-port 0`.

Its first line of output is one JSON object with its ports and the path of its public key. SIGTERM and SIGINT end it, and
with `--until-eof` also the end of its standard input, so that it does not outlive who started it.

It remembers nothing. With `--begin FILE` it first does what the file's lines ask for, before anybody can connect; with `--by-clock` its
counters begin above all that one before it has given out, so that clients of that one go on with this one as with one that never ended.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Final

from tests.telegram.control import LINE_BYTES_MAX, Control
from tests.telegram.core import HOME_DC, HOST, OTHER_DC, Core
from tests.telegram.keys import PUBLIC_KEY
from tests.telegram.server import serve
from tests.telegram.state import FIRST, World

#: Counters by the clock begin with so many for each second since then (the first of 2026). A number has 31 bits, which is enough for
#: eight years, and no counter of a demo grows faster.
CLOCK_FROM: Final = 1_767_225_600
CLOCK_PER_S: Final = 8


async def main(port: int, control_port: int, *, begin: Path | None, first: int, until_eof: bool) -> None:
    """Serve until a signal comes."""
    core = Core(world=World(first))
    control = Control(core)
    if begin:
        await control.begin(begin.read_bytes().splitlines())
    stopped = asyncio.Event()
    if until_eof:
        asyncio.get_running_loop().add_reader(sys.stdin, stopped.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serve(core, port=port):
        listening = await asyncio.start_server(control.talk, HOST, control_port, limit=LINE_BYTES_MAX)
        ports = {
            "host": HOST,
            "dc": HOME_DC,
            "port": core.ports[HOME_DC],
            "other_dc": OTHER_DC,
            "other_port": core.ports[OTHER_DC],
            "control_port": listening.sockets[0].getsockname()[1],
            "public_key": str(PUBLIC_KEY),
        }
        print(json.dumps(ports), flush=True)
        await stopped.wait()
        listening.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.telegram", description="A Telegram server for tests and the demo.")
    parser.add_argument("--port", type=int, default=0, help="of the first data centre; 0 chooses one")
    parser.add_argument("--control-port", type=int, default=0, help="of the control; 0 chooses one")
    parser.add_argument("--begin", type=Path, help="a file with lines as the control port takes them, to be done first")
    parser.add_argument("--by-clock", action="store_true", help="let counters begin above those of a server that ran before")
    parser.add_argument("--verbose", action="store_true", help="say what happens to connections")
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")
    options = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING)
    first = int((time.time() - CLOCK_FROM) * CLOCK_PER_S) if options.by_clock else FIRST
    asyncio.run(main(options.port, options.control_port, begin=options.begin, first=first, until_eof=options.until_eof))
