"""`python -m benchmarks [PART …]`: measure, and hold each figure against a ceiling of this machine."""

import argparse
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import campaign, http, ledger, purge, scaling, table, telegram_ingest, telegram_listener, telegram_resting
from benchmarks.ground import Ground, ground
from benchmarks.rounds import FULL, QUICK, Effort
from shared.local import ServiceMissing

PARTS: Final[Mapping[str, Callable[[Ground, Effort], list[table.Row]]]] = {
    "ledger": ledger.measure,
    "http": http.measure,
    "campaign": campaign.measure,
    "purge": purge.measure,
    "scaling": scaling.measure,
    "listener": telegram_listener.measure,
    "ingest": telegram_ingest.measure,
    "resting": telegram_resting.measure,
}
STATE: Final = Path(__file__).parent.parent / ".cache" / "bench"


def main() -> None:
    wanted = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    effort = QUICK if wanted.quick else FULL
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {what}", flush=True)

    try:
        with ground(wanted.state, say) as here:
            settings = here.durability()
            say("durability: " + ", ".join(f"{name} {value}" for name, value in settings.items()))
            rows = [row for part in wanted.parts or PARTS for row in PARTS[part](here, effort)]
    except ServiceMissing as missing:
        sys.exit(str(missing))
    about = {"machine": platform.platform(), "rounds": effort.rounds, "durability": settings, "seconds": round(time.monotonic() - started)}
    table.write(wanted.state / "result.json", rows, about)
    durability = ", ".join(f"{name} {value}" for name, value in settings.items())
    print(f"\nMedians (least-greatest) of {effort.rounds} interleaved rounds; {durability}.\n\n{table.show(rows)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them when none is named")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: shows that it works, proves nothing")
    parser.add_argument("--state", type=Path, default=STATE, help="folder of the private servers and of result.json (%(default)s)")
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    return wanted


if __name__ == "__main__":
    main()
