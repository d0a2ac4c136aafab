"""What an operator does: accounts and plans, a look at the queues, and transfers that are stuck.

Where no URL is given, the commands work on the system that `run` keeps up from the state folder. Imports that take time stand inside the
functions, so that --help answers at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn
from uuid import UUID

import typer

from services.tables import table
from shared.domain.plans import PLANS, PlanCode

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shared.db.inbox import Backlog
    from shared.db.overview import Sends, Sessions, Troubled
    from shared.messages import State

#: Transfers shown at most.
SHOWN_MAX: Final = 200

#: Sessions in trouble that are shown.
TROUBLED_MAX: Final = 20

#: Accounts read at once.
ACCOUNTS_PAGE: Final = 500

NAME_CHARS_MAX: Final = 200
DAYS_MAX: Final = 36_500
ID_MAX: Final = 2**63 - 1

#: What a payment would give.
DAYS_USUAL: Final = 30

HERE: Final = Path(".gatepost")

account = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Create accounts, put them on plans, list them.")
commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show transfers that wait or were set aside, and release one.")
events = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show events of Telegram that were set aside, and release them.")

DatabaseUrl = Annotated[
    str | None, typer.Option(envvar="GATEPOST_DATABASE_URL", help="PostgreSQL; without it that of the system `run` keeps up here.")
]
AmqpUrl = Annotated[
    str | None, typer.Option(envvar="GATEPOST_AMQP_URL", help="RabbitMQ; without it that of the system `run` keeps up here.")
]
StateFolder = Annotated[Path, typer.Option(envvar="GATEPOST_STATE", help="State folder of `run`.")]
AccountId = Annotated[int, typer.Argument(metavar="ID", help="The account's id.", min=1, max=ID_MAX)]


@account.command("add")
def add_account(
    name: Annotated[str, typer.Option(help="Display name.")],
    login: Annotated[str, typer.Option(help="Telegram user name of the owner.")] = "",
    database_url: DatabaseUrl = None,
    state: StateFolder = HERE,
) -> None:
    """Create an account on the free plan, and print its key, this once."""
    import secrets

    from shared.db import accounts
    from shared.domain import keys

    for option, text in (("--name", name), ("--login", login)):
        if len(text) > NAME_CHARS_MAX or not text.isprintable():
            _fail(f"{option} must be at most {NAME_CHARS_MAX} printable characters.")
    if not name.strip():
        _fail("--name must not be empty.")
    key, token = keys.new_key(secrets.choice), keys.new_transfer_token(secrets.choice)
    with _transaction(database_url, state) as tx:
        made = accounts.add(tx, name=name.strip(), login=login.removeprefix("@"), key_hash=keys.hash_key(key), transfer_token=token)
    typer.echo(f"Account {made}, {name.strip()}, is made, on the free plan.")
    typer.echo(f"  id              {made}")
    typer.echo(f"  key             {made}-{key}")
    typer.echo(f"  transfer token  {token}")
    typer.echo("Keep the key now: it can't be shown again, only its hash is stored.")


@account.command("plan")
def set_plan(
    account_id: AccountId,
    plan: Annotated[PlanCode, typer.Argument(help="The plan.")],
    days: Annotated[int | None, typer.Option(help=f"Paid days from now; {DAYS_USUAL} unless told.", min=1, max=DAYS_MAX)] = None,
    database_url: DatabaseUrl = None,
    state: StateFolder = HERE,
) -> None:
    """Put an account on a plan. Kitten is free and never ends; campaigns are neither paused nor resumed."""
    from shared.db import accounts

    free = plan is PlanCode.KITTEN
    if free and days is not None:
        _fail("Kitten never ends: leave --days out.")
    lasts = None if free else timedelta(days=days or DAYS_USUAL)
    with _transaction(database_url, state) as tx:
        if not accounts.set_plan(tx, account_id, plan, lasts):
            _fail(f"There is no account {account_id}; `account list` shows those there are.")
    until = "" if lasts is None else f" for {lasts.days} {'day' if lasts.days == 1 else 'days'} from now"
    typer.echo(f"Account {account_id} is on {PLANS[plan].name}{until}.")


@account.command("link")
def link_account(account_id: AccountId, database_url: DatabaseUrl = None, state: StateFolder = HERE) -> None:
    """Print a link for an account's owner: whoever opens it first gets the account's notices from the service bot."""
    import secrets

    from shared.db import notices
    from shared.domain import deeplinks, keys

    code = keys.new_link_code(secrets.choice)
    with _transaction(database_url, state) as tx:
        username = notices.get_service_username(tx)
        if not username:
            _fail("The service bot has not logged in yet: give a listener its token (GATEPOST_SERVICE_BOT_TOKEN).")
        if not notices.set_link_code(tx, account_id, code):
            _fail(f"There is no account {account_id}; `account list` shows those there are.")
    typer.echo(deeplinks.build_link(username, code))
    typer.echo("It works once; a link printed before it works no longer.")


@account.command("list")
def list_accounts(database_url: DatabaseUrl = None, state: StateFolder = HERE) -> None:
    """List all accounts."""
    from shared.db import accounts

    rows = [("id", "name", "login", "plan", "paid until", "bots", "active campaigns", "")]
    with _transaction(database_url, state) as tx:
        last = 0
        while page := accounts.get_all(tx, after=last, limit=ACCOUNTS_PAGE):
            last = page[-1].id
            rows += [
                (
                    str(a.id),
                    a.name,
                    a.login,
                    a.plan.value,
                    _date(a.paid_until) if a.paid_until else "-",
                    str(a.bots),
                    str(a.active),
                    "suspended" if a.suspended else "",
                )
                for a in page
            ]
    _echo_table(rows, "There is no account yet; `account add` makes one.")


def queues(database_url: DatabaseUrl = None, amqp_url: AmqpUrl = None, state: StateFolder = HERE) -> None:
    """Show what waits: messages, wake-ups, transfers, events of Telegram, bots and what they have to say, leads to remove."""
    from services.addresses import Unusable, try_broker
    from shared.broker.rabbitmq import count_messages
    from shared.db import commands as stored
    from shared.db import inbox, outbox, overview, purge
    from shared.db.connect import raw

    with _transaction(database_url, state) as tx:
        unpublished, load = outbox.count(raw(tx)), stored.get_load(raw(tx))
        backlog = purge.get_backlog(raw(tx))
        inbound, sessions, sends = inbox.get_backlog(raw(tx)), overview.get_sessions(raw(tx)), overview.get_sends(raw(tx))
        troubled = overview.get_troubled(raw(tx), limit=TROUBLED_MAX)
    typer.echo("PostgreSQL")
    typer.echo(
        f"  {_number(load.pending, 'transfer waits', 'transfers wait')}"
        + (f", the oldest for {_span(load.oldest_s)}" if load.pending else "")
    )
    typer.echo(
        f"  {_number(load.parked, 'transfer is', 'transfers are')} parked" + ("; `commands parked` shows why" if load.parked else "")
    )
    typer.echo(f"  {_number(unpublished, 'wake-up is', 'wake-ups are')} not yet published (outbox)")
    since = f", asked for since {_date(backlog.oldest)}" if backlog.oldest else ""
    typer.echo(
        f"  {_number(backlog.leads, 'lead', 'leads')} of {_number(backlog.epochs, 'campaign', 'campaigns')} left to remove (purge){since}"
    )
    typer.echo("Telegram")
    _echo_telegram(inbound, sessions, sends, troubled)
    url = _url(amqp_url, state, "amqp_url", "GATEPOST_AMQP_URL")
    try:
        try_broker(url)
        counts = count_messages(url)
    except Unusable as error:
        _fail(str(error))
    typer.echo("RabbitMQ")
    for queue, count in counts.items():
        if count is None:
            typer.echo(f"  {queue}: not there yet; the first relay or ledger that connects makes it")
        else:
            typer.echo(f"  {queue}: {_number(count[0], 'message waits', 'messages wait')}, {count[1]:,} dead")


def _echo_telegram(inbound: "Backlog", sessions: "Sessions", sends: "Sends", troubled: "Sequence[Troubled]") -> None:
    waiting = _number(inbound.events, "event waits", "events wait")
    if inbound.oldest:
        waiting += f" for {_number(inbound.bots, 'bot', 'bots')}, the oldest since {_date(inbound.oldest)}"
    typer.echo(f"  {waiting}")
    typer.echo(f"  {_number(inbound.parked, 'event is', 'events are')} parked" + ("; `events parked` shows why" if inbound.parked else ""))
    held = _number(sessions.held, "session is held by a listener", "sessions are held by listeners")
    typer.echo(f"  {held}, {sessions.free:,} free, {sessions.troubled:,} in trouble")
    for one in troubled:
        whose = "the service bot" if one.account is None else f"bot {one.bot} of account {one.account}"
        typer.echo(f"    {whose} (@{one.username}): {_one_line(one.trouble)}")
    overdue = f", the oldest due for {_span(sends.overdue_s)}" if sends.waiting else ""
    typer.echo(f"  {_number(sends.waiting, 'message waits', 'messages wait')} to be sent{overdue}")


@commands.command("waiting")
def show_waiting(database_url: DatabaseUrl = None, state: StateFolder = HERE) -> None:
    """Show the transfers that wait for a ledger, oldest first."""
    from shared.messages import State

    _show_commands(database_url, state, State.PENDING, "No transfer waits.")


@commands.command("parked")
def show_parked(database_url: DatabaseUrl = None, state: StateFolder = HERE) -> None:
    """Show the transfers set aside after too many failures, and why."""
    from shared.messages import State

    _show_commands(database_url, state, State.PARKED, "No transfer is parked.")


@commands.command("release")
def release(
    command: Annotated[UUID, typer.Argument(metavar="ID", help="The transfer's id, as `commands parked` shows it.")],
    database_url: DatabaseUrl = None,
    state: StateFolder = HERE,
) -> None:
    """Let a parked transfer be tried again from the start."""
    from shared.db import commands as stored
    from shared.db.connect import raw

    with _transaction(database_url, state) as tx:
        released = stored.release(raw(tx), command)
    if not released:
        _fail(f"No transfer {command} is parked; `commands parked` shows those that are.")
    typer.echo(f"Transfer {command} waits for a ledger again.")


@events.command("parked")
def show_parked_events(database_url: DatabaseUrl = None, state: StateFolder = HERE) -> None:
    """Show the events set aside after too many failures, and why."""
    from shared.db import parked
    from shared.db.connect import raw

    with _transaction(database_url, state) as tx:
        found = parked.get_parked(raw(tx), limit=SHOWN_MAX)
    rows = [("id", "bot", "what", "since", "tries", "trouble")]
    rows += [(str(e.id), str(e.bot), e.kind, _date(e.arrived), str(e.attempts), _one_line(e.trouble)) for e in found]
    _echo_table(rows, "No event is parked.")
    if len(found) == SHOWN_MAX:
        typer.echo(f"These are the oldest {SHOWN_MAX}; there may be more.")


@events.command("release")
def release_events(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Events' ids, as `events parked` shows them.")] = None,
    database_url: DatabaseUrl = None,
    state: StateFolder = HERE,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Release all that are parked.")] = False,
) -> None:
    """Let parked events be tried again from the start."""
    from shared.db import parked
    from shared.db.connect import raw

    if bool(ids) is everything:
        _fail("Name the events to release, or say --all.")
    with _transaction(database_url, state) as tx:
        released = parked.release(raw(tx), ids or None)
    if not released:
        _fail("No such event is parked; `events parked` shows those that are.")
    typer.echo(f"{_number(released, 'event waits', 'events wait')} for an ingest worker again.")


def _show_commands(database_url: str | None, state: Path, wanted: "State", nothing: str) -> None:
    from shared.db import commands as stored
    from shared.db.connect import raw

    with _transaction(database_url, state) as tx:
        found = stored.get_unfinished(raw(tx), state=wanted, limit=SHOWN_MAX)
    rows = [("id", "from account", "what", "since", "tries", "trouble")]
    rows += [(str(c.id), str(c.account), f"{c.kind} {c.object_id}", _date(c.created), str(c.attempts), _one_line(c.trouble)) for c in found]
    _echo_table(rows, nothing)
    if len(found) == SHOWN_MAX:
        typer.echo(f"These are the oldest {SHOWN_MAX}; there may be more.")


# The system that is worked on


@contextmanager
def _transaction(database_url: str | None, state: Path) -> "Iterator[Connection]":
    """A transaction on a database that is there and has our schema; anything else is a sentence and exit code 1."""
    from services.addresses import Unusable, try_database
    from shared.db.connect import AWAY, engine
    from shared.db.migrate import is_current

    url = _url(database_url, state, "database_url", "GATEPOST_DATABASE_URL")
    db = engine(url, name="operator", connections=1)
    try:
        try_database(url)
        if not is_current(url):
            _fail("The database's schema is not that of this version; `python -m services migrate` brings it up to date.")
        with db.begin() as tx:
            yield tx
    except Unusable as error:
        _fail(str(error))
    except AWAY:
        _fail("PostgreSQL went away, or something held it up for too long; what was asked may not have happened.")
    finally:
        db.dispose()


def _url(given: str | None, state: Path, name: str, variable: str) -> str:
    """The URL given, else that of the system which `run` keeps up."""
    from services.run.files import read_run_file

    if given:
        return given
    running = read_run_file(state)
    if running is None:
        _fail(f"No Gatepost is running from {state}: start it with `make run`, or set {variable}.")
    return str(running[name])


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)


# Words


def _echo_table(rows: Sequence[tuple[str, ...]], nothing: str) -> None:
    typer.echo("\n".join(table(rows)) if len(rows) > 1 else nothing)


def _date(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _span(seconds: float) -> str:
    """A duration in the largest unit that fits."""
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit:
            return _number(int(seconds // unit), name, f"{name}s")
    return _number(int(seconds), "second", "seconds")


def _one_line(text: str) -> str:
    return " ".join(text.split())
