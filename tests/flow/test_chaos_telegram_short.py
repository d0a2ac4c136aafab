"""Telegram under fire, in short; `make chaos` has it at length."""

from pathlib import Path
from random import SystemRandom

import pytest

from shared.local import Services
from tests.chaos.telegram import fire, show


@pytest.mark.timeout(300)
def test_no_event_is_lost_or_counted_twice_whatever_happens_to_listeners(local: Services, tmp_path: Path) -> None:
    seed = SystemRandom().randrange(1_000_000)
    report = show.run(show.short_script(seed), local, tmp_path / "telegram")

    print(f"repeat with: python -m tests.chaos telegram --short --seed {seed}")
    show.show(report)
    assert report.passed


@pytest.mark.timeout(300)
def test_whatever_changes_hands_while_events_come_everything_is_whose_the_commits_say(local: Services, tmp_path: Path) -> None:
    seed = SystemRandom().randrange(1_000_000)
    report = fire.run(fire.short_script(seed), local, tmp_path / "fire")

    print(f"repeat with: python -m tests.chaos fire --short --seed {seed}")
    fire.show(report)
    assert report.passed
