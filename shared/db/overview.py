"""What an operator and `make run` see of Telegram: what waits, who is connected, and what has happened since the last look.

Counts only, over all accounts: nothing here is read for a tenant.
"""

from dataclasses import dataclass

from shared.db.connect import Raw
from shared.domain.leads import Action, LeadStatus


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions with Telegram: held by a living listener, free to be taken, and those of them that are in trouble."""

    held: int
    free: int
    troubled: int


@dataclass(frozen=True, slots=True)
class Sends:
    """Messages that bots have to send: all of them, and how long the oldest has been due, in seconds."""

    waiting: int
    overdue_s: float


@dataclass(frozen=True, slots=True)
class Troubled:
    """A session that is in trouble. `account` is None for the service bot."""

    account: int | None
    bot: int
    username: str
    trouble: str


def get_sessions(db: Raw) -> Sessions:
    """Of all connected bots, and the service bot's."""
    row = db.execute(
        """
        SELECT count(*) FILTER (WHERE l.expires_at > now()), count(*) FILTER (WHERE l.expires_at > now() IS NOT TRUE),
               count(*) FILTER (WHERE s.trouble <> '')
        FROM bot_session s LEFT JOIN listener l ON l.id = s.listener_id
        """
    ).fetchone()
    assert row is not None, "an aggregate always answers"
    return Sessions(*map(int, row))


def get_sends(db: Raw) -> Sends:
    """Of all bots."""
    row = db.execute("SELECT count(*), coalesce(extract(epoch FROM greatest(now() - min(due), interval '0')), 0) FROM send").fetchone()
    assert row is not None, "an aggregate always answers"
    return Sends(int(row[0]), float(row[1]))


def get_troubled(db: Raw, *, limit: int) -> list[Troubled]:
    """Sessions in trouble."""
    rows = db.execute(
        """
        SELECT b.account_id, s.bot_id, coalesce(b.username, s.username), s.trouble FROM bot_session s LEFT JOIN bot b ON b.id = s.bot_id
        WHERE s.trouble <> '' ORDER BY s.bot_id LIMIT %s
        """,
        [limit],
    )
    return [Troubled(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a look has seen: the last lead, journal entry and delivery."""

    lead: int
    journal: int
    delivery: int


@dataclass(frozen=True, slots=True)
class Happened:
    """What came of Telegram's events between two looks.

    New leads by their accounts' names, what the journal tells by its actions (once, however many bots saw it), and the postbacks:
    those of a lead's approval, those owed, those held back.
    """

    until: Mark

    leads: dict[str, int]
    actions: dict[Action, int]
    approved: int
    owed: int
    held: int

    def __bool__(self) -> bool:
        return bool(self.leads or self.actions or self.owed or self.held)


def get_mark(db: Raw) -> Mark:
    """Where things stand."""
    row = db.execute(
        """
        SELECT (SELECT coalesce(max(id), 0) FROM lead), (SELECT coalesce(max(id), 0) FROM journal),
               (SELECT coalesce(max(id), 0) FROM delivery)
        """
    ).fetchone()
    assert row is not None, "a row of subqueries always answers"
    return Mark(*row)


def get_happened(db: Raw, since: Mark, until: Mark) -> Happened:
    """What is to be seen between two marks."""
    leads = db.execute(
        """
        SELECT min(a.name), count(*) FROM current_lead l JOIN account a ON a.id = l.account_id
        WHERE l.id > %s AND l.id <= %s GROUP BY a.id ORDER BY a.id
        """,
        [since.lead, until.lead],
    )
    actions = db.execute(
        """
        SELECT action, count(DISTINCT (chat_id, subscriber, at)) FROM journal
        WHERE id > %s AND id <= %s GROUP BY action ORDER BY action
        """,
        [since.journal, until.journal],
    )
    postbacks = db.execute(
        """
        SELECT count(*) FILTER (WHERE status = %s), count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'held')
        FROM delivery WHERE id > %s AND id <= %s
        """,
        [LeadStatus.APPROVE, since.delivery, until.delivery],
    ).fetchone()
    assert postbacks is not None, "an aggregate always answers"
    return Happened(until, dict(leads.fetchall()), {Action(action): number for action, number in actions}, *postbacks)
