"""Chaos in short: every point once, both services once, under load; `make chaos` has it at length."""

from random import SystemRandom

import pytest

from shared.local import services
from tests.chaos.__main__ import short_script
from tests.chaos.show import run, show
from tests.conftest import STATE


@pytest.mark.timeout(300)
def test_nothing_accepted_is_lost_or_doubled_whatever_dies() -> None:
    """With services of its own, since it crashes them. The seed is in the output of a failure."""
    seed = SystemRandom().randrange(1_000_000)
    state = STATE.parent / f"{STATE.name}-chaos"
    with services(state, print) as running:
        report = run(short_script(seed), running, state / "run")

    print(f"repeat with: python -m tests.chaos --short --seed {seed}")
    show(report)
    assert report.passed
