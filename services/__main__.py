"""Gatepost's command line: everything at once (`run`), each process alone, and what an operator needs.

Each setting is an option; most can also come from the environment, under the name its help shows.
"""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import structlog
import typer

from services import operate
from shared.sealing import BadKeys, Sealer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None)

DatabaseUrl = Annotated[str, typer.Option(envvar="GATEPOST_DATABASE_URL", help="PostgreSQL, as postgresql://user:password@host:port/name.")]
AmqpUrl = Annotated[str, typer.Option(envvar="GATEPOST_AMQP_URL", help="RabbitMQ, as amqp://user:password@host:port/vhost.")]

SecretKeys = Annotated[
    str, typer.Option(envvar="GATEPOST_SECRET_KEYS", help="Keys for secrets at rest, 32 bytes each in base64, newest first, with commas.")
]


@app.command()
def run(
    database_url: Annotated[
        str | None, typer.Option(envvar="GATEPOST_DATABASE_URL", help="A PostgreSQL to use instead of a private one.")
    ] = None,
    amqp_url: Annotated[str | None, typer.Option(envvar="GATEPOST_AMQP_URL", help="A RabbitMQ to use instead of a private one.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="GATEPOST_PORT", help="Port of the API; 0 is any free one. Default: 8080, or the next free one.", min=0, max=65535
        ),
    ] = None,
    state: Annotated[Path, typer.Option(envvar="GATEPOST_STATE", help="Folder for data, logs and run.json.")] = Path(".gatepost"),
    demo: Annotated[bool, typer.Option(envvar="GATEPOST_DEMO", help="Make demo accounts and show a transfer.")] = True,
    *,
    secret_keys: Annotated[
        str | None, typer.Option(envvar="GATEPOST_SECRET_KEYS", help="Keys for secrets at rest; without them one is made and kept.")
    ] = None,
    api_id: Annotated[
        int | None, typer.Option(envvar="GATEPOST_TELEGRAM_API_ID", help="From my.telegram.org; without it the demo plays Telegram.", min=1)
    ] = None,
    api_hash: Annotated[str | None, typer.Option(envvar="GATEPOST_TELEGRAM_API_HASH", help="Goes with the id.")] = None,
    service_bot: Annotated[
        str | None, typer.Option(envvar="GATEPOST_SERVICE_BOT_TOKEN", help="The bot that delivers notices to accounts' owners.")
    ] = None,
    media: Annotated[Path | None, typer.Option(envvar="GATEPOST_MEDIA", help="Folder for photos and videos of welcome messages.")] = None,
) -> None:
    """Start everything, show a transfer, stay up until Ctrl-C."""
    from services.run import system

    settings = system.Settings(
        state=state,
        port=port,
        demo=demo,
        database_url=database_url,
        amqp_url=amqp_url,
        secret_keys=secret_keys,
        api_id=api_id,
        api_hash=api_hash,
        service_bot=service_bot,
        media=media,
    )
    try:
        system.run(settings, typer.echo)
    except system.CannotRun as error:
        typer.echo(f"Gatepost can't run: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def gateway(
    database_url: DatabaseUrl,
    amqp_url: AmqpUrl,
    secret_keys: SecretKeys,
    host: Annotated[str, typer.Option(envvar="GATEPOST_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="GATEPOST_PORT", help="Port to listen on.", min=1, max=65535)] = 8000,
    deadline: Annotated[float, typer.Option(help="Seconds after which a transfer that nobody has taken is withdrawn.", min=0.1)] = 10.0,
) -> None:
    """Serve the HTTP API."""
    from services.gateway import server

    _log_as("gateway")
    server.run(database_url, amqp_url, _sealer(secret_keys), host=host, port=port, deadline_s=deadline)


@app.command()
def relay(
    database_url: DatabaseUrl,
    amqp_url: AmqpUrl,
    sweep: Annotated[float, typer.Option(help="Seconds between two looks for work that no message announced.", min=0.1)] = 5.0,
) -> None:
    """Publish the outbox to RabbitMQ, and sweep for what got lost."""
    from shared.broker import relay as process

    _log_as("relay")
    process.run(database_url, amqp_url, sweep_s=sweep, stop=_stop_on_signals())


@app.command()
def ledger(database_url: DatabaseUrl, amqp_url: AmqpUrl) -> None:
    """Decide transfers, and purge the leads that transfers dropped."""
    from services.ledger import worker

    _log_as("ledger")
    worker.run(database_url, amqp_url, stop=_stop_on_signals())


@app.command()
def listener(
    database_url: DatabaseUrl,
    secret_keys: SecretKeys,
    *,
    mode: Annotated[
        Literal["production", "demo", "test"], typer.Option(envvar="GATEPOST_MODE", help="What Telegram's servers may be replaced in.")
    ] = "production",
    api_id: Annotated[int | None, typer.Option(envvar="GATEPOST_TELEGRAM_API_ID", help="From my.telegram.org.", min=1)] = None,
    api_hash: Annotated[str | None, typer.Option(envvar="GATEPOST_TELEGRAM_API_HASH", help="Goes with the id.")] = None,
    telegram_server: Annotated[
        str | None, typer.Option(envvar="GATEPOST_TELEGRAM_SERVER", help="In Telegram's place in a demo or a test, as dc@host:port.")
    ] = None,
    telegram_server_key: Annotated[
        Path | None, typer.Option(envvar="GATEPOST_TELEGRAM_SERVER_KEY", help="Its public RSA key, in PEM.")
    ] = None,
    service_bot: Annotated[
        str | None, typer.Option(envvar="GATEPOST_SERVICE_BOT_TOKEN", help="The bot that delivers notices to accounts' owners.")
    ] = None,
    media: Annotated[Path | None, typer.Option(envvar="GATEPOST_MEDIA", help="Folder for photos and videos of welcome messages.")] = None,
    capacity: Annotated[int, typer.Option(help="Bots that this process may have.", min=1)] = 2_000,
    lease: Annotated[float, typer.Option(help="Seconds for which its bots stay its own when it says nothing.", min=1)] = 30.0,
    renew: Annotated[float, typer.Option(help="Seconds between two renewals of the lease.", min=0.1)] = 5.0,
    take_over: Annotated[float, typer.Option(help="Seconds after another's lease before its bots are taken.", min=0.1)] = 5.0,
    catch_up: Annotated[float, typer.Option(help="Seconds between two questions to Telegram for what a bot has missed.", min=0.1)] = 300.0,
) -> None:
    """Hold bots' connections to Telegram: take in what they see, and send what they have to say."""
    from services.ingest import listener as process
    from services.ingest.leases import Terms
    from services.ingest.telegram import NoTelegram, configure

    _log_as("listener")
    try:
        telegram = configure(api_id=api_id, api_hash=api_hash, server=telegram_server, server_key=telegram_server_key, mode=mode)
    except NoTelegram as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    process.run(
        process.Settings(
            database_url=database_url,
            telegram=telegram,
            sealer=_sealer(secret_keys),
            service_bot_token=service_bot,
            media=media,
            catch_up_s=catch_up,
            terms=Terms(lease_s=lease, renew_s=renew, take_over_s=take_over, capacity=capacity),
        )
    )


@app.command()
def ingest(database_url: DatabaseUrl, amqp_url: AmqpUrl) -> None:
    """Turn what listeners take in into leads, journal, statistics and postbacks."""
    from services.ingest import worker

    _log_as("ingest")
    worker.run(database_url, amqp_url, stop=_stop_on_signals())


@app.command()
def healthy(
    role: Annotated[Literal["relay", "ledger", "ingest", "listener"], typer.Argument(help="What the process is.")],
    database_url: DatabaseUrl,
    amqp_url: AmqpUrl,
    pid: Annotated[int, typer.Option(help="The process; in a container, 1.", min=1)] = 1,
) -> None:
    """Exit with 0 if a process on this machine holds the connections it works with, a listener its lease too; else say what is missing."""
    from services import health

    if missing := health.missing(role, pid, database_url=database_url, amqp_url=amqp_url):
        typer.echo("\n".join(missing), err=True)
        raise typer.Exit(1)


@app.command()
def migrate(database_url: DatabaseUrl) -> None:
    """Bring the database's schema up to date."""
    from services.addresses import Unusable, try_database
    from shared.db import migrate as migrations

    try:
        try_database(database_url)
    except Unusable as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    migrations.migrate(database_url)
    typer.echo("The schema is up to date.")


app.command()(operate.queues)
app.add_typer(operate.account, name="account")
app.add_typer(operate.commands, name="commands")
app.add_typer(operate.events, name="events")


def _sealer(secret_keys: str) -> Sealer:
    try:
        return Sealer.read(secret_keys)
    except BadKeys as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


def _stop_on_signals() -> threading.Event:
    """Set by SIGTERM and SIGINT."""
    stop = threading.Event()

    def note(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    return stop


def _log_as(process: str) -> None:
    """One line of JSON for each finished piece of work, on standard error."""

    def name_process(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"process": process, **event}

    structlog.configure(
        processors=[
            name_process,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


if __name__ == "__main__":
    app()
