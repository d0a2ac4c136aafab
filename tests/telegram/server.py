"""The server's sockets: one port for each data centre."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.telegram.connection import Connection
from tests.telegram.core import HOME_DC, HOST, OTHER_DC, Core

BACKLOG: Final = 4_096


@asynccontextmanager
async def serve(core: Core | None = None, *, port: int = 0) -> AsyncIterator[Core]:
    """A running server; it ends with the block. The port is the first data centre's."""
    core = core or Core()
    tasks: set[asyncio.Task[None]] = set()
    servers = [await listen(core, dc, port if dc == HOME_DC else 0, tasks) for dc in (HOME_DC, OTHER_DC)]
    try:
        yield core
    finally:
        for server in servers:
            server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in servers:
            await server.wait_closed()


async def listen(core: Core, dc: int, port: int, tasks: set[asyncio.Task[None]]) -> asyncio.Server:
    """Take connections for this data centre."""

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(Connection(core, dc, reader, writer).run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, HOST, port, backlog=BACKLOG)
    core.ports[dc] = int(server.sockets[0].getsockname()[1])
    return server
