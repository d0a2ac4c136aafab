"""Transfers through HTTP, gateway, relay, RabbitMQ and ledger, against the same transaction inside a bare handler."""

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks import world
from benchmarks.ground import Ground
from benchmarks.load import Found, Load, Order
from benchmarks.processes import Processes, processes
from benchmarks.rounds import Effort, take_turns
from benchmarks.table import Required, Row, against
from shared.db.connect import connect
from shared.local.ports import choose

#: Bots, each moved between two accounts of its own.
PAIRS: Final = 4_096
CLIENTS: Final = (1, 16, 64)
WARM_UP_S: Final = 1.5
GATEPOST: Final = "bench_http_gatepost"
BARE: Final = "bench_http_bare"


def measure(ground: Ground, effort: Effort) -> list[Row]:
    """Two databases, so that the gateway does not hear of the handler's outcomes while that is measured."""
    ground.say(f"http: {PAIRS:,} bots; gateway, relay and ledger, one process each, and the handler")
    with processes(ground) as running:
        urls = {name: _database(ground, name) for name in (GATEPOST, BARE)}
        ports = {"gatepost": running.gatepost(urls[GATEPOST]), "handler": _bare(running, urls[BARE])}
        load = Load(running, PAIRS)
        for port in ports.values():
            load.run(Order(port=port, clients=16, seconds=WARM_UP_S))

        def turn(port: int, clients: int) -> Callable[[], Found]:
            return partial(load.run, Order(port=port, clients=clients, seconds=effort.seconds))

        turns = {f"{name} {clients}": turn(port, clients) for clients in CLIENTS for name, port in ports.items()}
        found = take_turns(effort.rounds, turns, ground.say)
        for url in urls.values():
            _check(url)
    for name in (GATEPOST, BARE):
        ground.drop(name)
    return _rows(found)


def _rows(found: dict[str, list[Found]]) -> list[Row]:
    def row(clients: int, what: str, figure: Callable[[Found], float], unit: str, required: Required | None) -> Row:
        mine, best = ([figure(f) for f in found[f"{name} {clients}"]] for name in ("gatepost", "handler"))
        return against(f"http, {clients} clients: {what}; bare handler", mine, best, unit, required)

    required = {(64, "rate"): Required("≥", 0.8), (1, "p50"): Required("≤", 5), (64, "p99"): Required("≤", 1.5)}
    return [
        row(clients, name, figure, unit, required.get((clients, name)))
        for clients in CLIENTS
        for name, figure, unit in (
            ("rate", lambda f: f.rate, "transfers/s"),
            ("p50", lambda f: f.p50, "ms"),
            ("p99", lambda f: f.p99, "ms"),
        )
    ]


def _database(ground: Ground, name: str) -> str:
    url = ground.create(name)
    with connect(url, name="bench", limits={}) as db:
        world.add_pairs(db, PAIRS)
    return url


def _bare(running: Processes, database_url: str) -> int:
    port = choose(1)[0]
    running.start("benchmarks.bare", str(port), database_url)
    running.await_answer(port, "/api/transfer/bot.json")
    return port


def _check(database_url: str) -> None:
    """Every command was carried out, once."""
    with connect(database_url, name="bench", limits={}) as db:
        commands, done, moves = db.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'done'), (SELECT count(*) FROM transfer) FROM command"
        ).fetchall()[0]
    assert commands == done == moves, f"{commands} commands, {done} done, {moves} transfers"
