"""What has come of Telegram's events, said in a line now and then, as the database has it."""

import time
from collections.abc import Callable
from typing import Final

from shared.db import overview
from shared.db.connect import AWAY, Raw, connect
from shared.db.overview import Happened, Mark
from shared.domain.leads import Action

#: A line so often at first, and so often after that.
OFTEN_S: Final = 5.0
OFTEN_LINES: Final = 12
SELDOM_S: Final = 60.0

WORDS: Final = {Action.JOIN: "joined", Action.LEAVE: "left", Action.KICK: "put out", Action.REQUEST: "asked to join"}


class Tally:
    """Looks, and says what is new; nothing where nothing is."""

    def __init__(self, database_url: str, say: Callable[[str], None]) -> None:
        self._url = database_url
        self._say = say
        self._db: Raw | None = None
        self._mark: Mark | None = None
        self._lines = 0
        self._looked = time.monotonic()

    def has_news(self) -> bool:
        """Whether anything has come since the last line. It begins to count when it is first asked."""
        try:
            return bool(self._happened())
        except AWAY:
            return False

    def look(self) -> None:
        """Say a line if it is time. A database that is away or too slow is asked again at the next time, of what is new from then on."""
        now = time.monotonic()
        if now < self._looked + (OFTEN_S if self._lines < OFTEN_LINES else SELDOM_S):
            return
        try:
            happened = self._happened()
        except AWAY:
            self._looked, self._mark = now, None
            return
        if happened:
            self._say(line(happened, now - self._looked))
            self._lines += 1
        self._looked, self._mark = now, happened.until

    def _happened(self) -> Happened:
        """What is new since the last line."""
        if self._db is None or self._db.closed:
            self._db = connect(self._url, name="run")
        until = overview.get_mark(self._db)
        self._mark = self._mark or until
        return overview.get_happened(self._db, self._mark, until)


def line(happened: Happened, seconds: float) -> str:
    """What happened, in a line."""
    leads = sum(happened.leads.values())
    whose = ", ".join(f"{name} {number}" for name, number in happened.leads.items())
    new = [f"{leads} new {'lead' if leads == 1 else 'leads'} ({whose})"] if leads else []
    seen = new + [f"{number} {WORDS[action]}" for action, number in happened.actions.items()]
    numbers = {"approved": happened.approved, "postbacks owed": happened.owed, "held back": happened.held}
    came = [f"{number} {what}" for what, number in numbers.items() if number]
    return f"Telegram, {seconds:.0f} s: {', '.join(seen) or 'nobody new'} → {', '.join(came) or 'nothing to do'}"
