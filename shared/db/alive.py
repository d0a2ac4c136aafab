"""Whether a listener is alive. By itself, for a health check, which has no time to load what statements are built with."""

import psycopg


def is_alive(database_url: str, name: str, *, within_s: int) -> bool:
    """Whether a listener of this name holds its lease. A database that is not reachable within so many seconds says no."""
    try:
        with psycopg.connect(database_url, application_name="gatepost health", connect_timeout=within_s) as db:
            return db.execute("SELECT FROM listener WHERE name = %s AND expires_at > now()", [name]).fetchone() is not None
    except psycopg.OperationalError:
        return False
