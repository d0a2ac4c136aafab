"""The addresses of PostgreSQL and RabbitMQ: read, tried, and spoken of without their passwords."""

import logging
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from shared.broker.rabbitmq import BROKER_AWAY, count_messages
from shared.db.connect import connect

DATABASE_FORM: Final = "postgresql://user:password@host:port/name"
BROKER_FORM: Final = "amqp://user:password@host:port/vhost"

#: A password shorter than this is too likely to be part of an ordinary word to be taken out of a text.
PASSWORD_CHARS_MIN: Final = 4

#: What pika tells by the type of its error.
_BROKER_CAUSES: Final = {
    "ProbableAuthenticationError": "it refuses the user or the password",
    "AuthenticationError": "it refuses the user or the password",
    "ProbableAccessDeniedError": "it has no such virtual host, or the user may not use it",
    "ConnectionClosedByBroker": "it has no such virtual host, or the user may not use it",
    "IncompatibleProtocolError": "whoever answers there is no RabbitMQ",
}


class Unusable(Exception):
    """A service can't be used; the message is one sentence, without any password."""


@dataclass(frozen=True, slots=True, repr=False)
class Addresses:
    """Both URLs, with passwords: no repr, so that they reach no log by accident."""

    database_url: str
    amqp_url: str

    def hide(self, text: str) -> str:
        """The text without the passwords, should it hold one."""
        for password in (str(conninfo_to_dict(self.database_url).get("password") or ""), urlsplit(self.amqp_url).password or ""):
            for form in (password, unquote(password)):
                if len(form) >= PASSWORD_CHARS_MIN:
                    text = text.replace(form, "***")
        return text


def try_database(url: str) -> None:
    """Connect once.

    Raises:
        Unusable: it is no such URL, or nobody answers there, or whoever does won't let us in.
    """
    place = database_place(url)
    try:
        connect(url, name="try").close()
    except psycopg.OperationalError as error:
        raise Unusable(f"PostgreSQL at {place} can't be used: {_database_cause(error)}. GATEPOST_DATABASE_URL names it.") from None


def try_broker(url: str) -> None:
    """Connect once.

    Raises:
        Unusable: it is no such URL, or nobody answers there, or whoever does won't let us in.
    """
    place = broker_place(url)
    quiet_pika()
    try:
        count_messages(url)
    except BROKER_AWAY as error:
        cause = _BROKER_CAUSES.get(type(error).__name__, "nobody answers there")
        raise Unusable(f"RabbitMQ at {place} can't be used: {cause}. GATEPOST_AMQP_URL names it.") from None


def database_place(url: str) -> str:
    """Host, port and name.

    Raises:
        Unusable: it is no address of a PostgreSQL.
    """
    try:
        known = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise Unusable(f"GATEPOST_DATABASE_URL must look like {DATABASE_FORM}.") from None
    return f"{known.get('host') or 'localhost'}:{known.get('port') or 5432}/{known.get('dbname') or ''}"


def broker_place(url: str) -> str:
    """Host and port.

    Raises:
        Unusable: it is no address of a RabbitMQ.
    """
    try:
        parts = urlsplit(url)
        known = f"{parts.hostname}:{parts.port or 5672}" if parts.scheme in {"amqp", "amqps"} and parts.hostname else ""
    except ValueError:
        known = ""
    if not known:
        raise Unusable(f"GATEPOST_AMQP_URL must look like {BROKER_FORM}.")
    return known


def quiet_pika() -> None:
    """Keep pika's own account of a failed connection to itself: what failed is said in our words."""
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)


def _database_cause(error: Exception) -> str:
    """The end of libpq's chain of "this failed: that failed: why"."""
    first = str(error).strip().partition("\n")[0]
    return first.rpartition("failed: ")[2].removeprefix("FATAL:").strip(" .") or type(error).__name__
