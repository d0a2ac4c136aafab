"""The gateway process: the application behind an HTTP server."""

import sys
from typing import Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.answers import ApiError, encode_error, invalid
from services.gateway.app import create_app
from services.gateway.endpoints import too_large, unknown_function
from shared.sealing import Sealer

#: Requests under way when the process is told to stop may still end within this.
GRACE_S: Final = 15

#: Connections waiting for the process to accept them.
BACKLOG: Final = 2_048


#: The parser reads no longer URL.
URL_BYTES_MAX: Final = 65_535


class Protocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, but what the parser cannot read is answered in the API's form too."""

    url = b""

    def send_400_response(self, msg: str) -> None:
        """Called when the request is no HTTP, such as a Content-Length that is no number; the connection cannot go on."""
        status, body = encode_error(self._judge(sys.exception(), msg))
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _judge(self, error: BaseException | None, message: str) -> ApiError:
        match error:
            case httptools.HttpParserInvalidMethodError():
                return unknown_function()
            case _ if len(self.url) > URL_BYTES_MAX:
                return too_large()
            case httptools.HttpParserInvalidURLError():
                return invalid("url", "The URL has a character that must be percent-encoded.")
            case _:
                return invalid("body", message)


def run(database_url: str, amqp_url: str, sealer: Sealer, *, host: str, port: int, deadline_s: float) -> None:
    """Serve until SIGTERM or SIGINT.

    The access log is off: it would hold the query, and so the key.
    """
    uvicorn.run(
        create_app(database_url, amqp_url, sealer, deadline_s=deadline_s),
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
