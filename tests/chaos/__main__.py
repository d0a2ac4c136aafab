"""`python -m tests.chaos [PART]`: kill, stop and wipe things under load, and judge what the clients saw.

Parts: `transfers`; `telegram`, listeners and ingest workers; `fire`, transfers while events come. Without one, all. The seed gives the
schedule of faults and what clients and people do; the same seed is the same run, as far as processes let it be.
"""

import argparse
import secrets
import signal
import sys
from pathlib import Path
from typing import Final

from shared.local import services
from tests.chaos.faults import POINTS, Blow, Deed
from tests.chaos.prove import prove
from tests.chaos.show import Script, run, show
from tests.chaos.telegram import fire
from tests.chaos.telegram import show as telegram

STATE: Final = Path(__file__).parents[2] / ".cache" / "chaos"
RATE: Final = 60.0
LEDGERS: Final = 2
TIMES: Final = 8
SECONDS: Final = 280.0
SHORT_S: Final = 14.0
BLOWS: Final = {Blow.RABBITMQ_KILLED: 2, Blow.RABBITMQ_RESTARTED: 2, Blow.RABBITMQ_WIPED: 2, Blow.POSTGRESQL_CRASHED: 4}


def main() -> int:
    """Run what the command line asks for; 0 when the judge has nothing to say."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # the end of every block stops what it started
    options = _options()
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    print(f"seed {seed}: repeat with --seed {seed}", flush=True)
    verdicts = {name: part(options, seed) for name, part in PARTS.items() if options.part in {name, None}}
    passed = all(verdicts.values())
    print(f"\nseed {seed}: {'passed' if passed else 'FAILED'}", flush=True)
    return 0 if passed else 1


def _transfers(options: argparse.Namespace, seed: int) -> bool:
    passed = True
    if not options.prove:
        with services(options.state, print) as running:
            report = run(_script(options, seed), running, options.state / "run")
        show(report)
        passed = report.passed
    if options.prove or not (options.short or options.only):
        passed &= prove("transfers", seed, options.state)
    return passed


def _telegram(options: argparse.Namespace, seed: int) -> bool:
    passed = True
    if not options.prove:
        script = telegram.short_script(seed) if options.short else telegram.full_script(seed)
        with services(options.state, print) as running:
            report = telegram.run(script, running, options.state / "telegram")
        telegram.show(report)
        passed = report.passed
    if options.prove or not options.short:
        passed &= prove("telegram", seed, options.state)
    return passed


def _fire(options: argparse.Namespace, seed: int) -> bool:
    if options.prove:
        return True
    script = fire.short_script(seed) if options.short else fire.full_script(seed)
    with services(options.state, print) as running:
        report = fire.run(script, running, options.state / "fire")
    fire.show(report)
    return report.passed


PARTS: Final = {"transfers": _transfers, "telegram": _telegram, "fire": _fire}


def short_script(seed: int) -> Script:
    """Each point once by each deed and each service once, in 40 seconds of an idle machine."""
    return Script(
        seed=seed,
        rate=RATE,
        seconds=SHORT_S,
        points=POINTS,
        deeds=list(Deed),
        times=1,
        blows={Blow.POSTGRESQL_CRASHED: 1},
        wipes_at_end=True,
        ledgers=LEDGERS,
    )


def _script(options: argparse.Namespace, seed: int) -> Script:
    if options.short:
        return short_script(seed)
    points = [point for point in POINTS if options.only is None or point in options.only]
    blows = {blow: number for blow, number in BLOWS.items() if options.only is None or blow.name.lower() in options.only}
    return Script(
        seed=seed,
        rate=options.rate,
        seconds=options.seconds,
        points=points,
        deeds=list(Deed),
        times=options.times,
        blows=blows,
        wipes_at_end=options.only is None or "last_wipe" in options.only,
        ledgers=options.ledgers,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "part", nargs="?", choices=list(PARTS), help="only this; the options below but seed, short and state are transfers'"
    )
    names = [*POINTS, *(blow.name.lower() for blow in Blow), "last_wipe", "nothing"]
    parser.add_argument("--seed", type=int, help="of the schedule and the clients' choices; drawn and printed when not given")
    parser.add_argument("--short", action="store_true", help="each fault once, in less than a minute")
    parser.add_argument("--only", action="append", choices=names, metavar="POINT", help=f"only these: {', '.join(names)}")
    parser.add_argument("--prove", action="store_true", help="only prove the judge: take guards out, and see whether it notices")
    parser.add_argument("--times", type=int, default=TIMES, help="how often each point is killed and stopped")
    parser.add_argument("--ledgers", type=int, default=LEDGERS, help="how many of them")
    parser.add_argument("--rate", type=float, default=RATE, help="transfers a second")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="over which the faults are spread")
    parser.add_argument("--state", type=Path, default=STATE, help="folder of the private PostgreSQL and RabbitMQ")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
