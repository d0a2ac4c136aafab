"""The gateway process: the application behind an HTTP server."""

import sys
from typing import Final
from urllib.parse import quote

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.answers import encode_error, invalid
from services.gateway.app import create_app
from services.gateway.endpoints import unknown_function

#: Requests under way when the process is told to stop may still end within this.
GRACE_S: Final = 15

#: Connections waiting for the process to accept them.
BACKLOG: Final = 2_048


#: What a URL keeps as it was sent.
_VISIBLE: Final = bytes(range(0x21, 0x7F))


class Protocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, but what the parser cannot read is answered in the API's form too."""

    def on_url(self, url: bytes) -> None:
        """Called with each part of the URL. Raw bytes, as a careless script sends them, count as percent-encoded."""
        super().on_url(url if url.isascii() else quote(url, safe=_VISIBLE).encode())

    def send_400_response(self, msg: str) -> None:
        """Called when the request is no HTTP, such as a Content-Length that is no number; the connection cannot go on."""
        unknown_method = isinstance(sys.exception(), httptools.HttpParserInvalidMethodError)
        status, body = encode_error(unknown_function() if unknown_method else invalid("body", msg))
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()


def run(database_url: str, amqp_url: str, *, host: str, port: int, deadline_s: float) -> None:
    """Serve until SIGTERM or SIGINT.

    The access log is off: it would hold the query, and so the key.
    """
    uvicorn.run(
        create_app(database_url, amqp_url, deadline_s=deadline_s),
        host=host,
        port=port,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        date_header=True,
    )
