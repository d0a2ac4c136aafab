"""The gateway process: the application behind an HTTP server."""

from typing import Final

import uvicorn

from services.gateway.app import create_app

#: Requests under way when the process is told to stop may still end within this.
GRACE_S: Final = 15

#: Connections waiting for the process to accept them.
BACKLOG: Final = 2_048


def run(database_url: str, amqp_url: str, *, host: str, port: int, deadline_s: float) -> None:
    """Serve until SIGTERM or SIGINT.

    The access log is off: it would hold the query, and so the key.
    """
    uvicorn.run(
        create_app(database_url, amqp_url, deadline_s=deadline_s),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        date_header=True,
    )
