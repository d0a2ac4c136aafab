"""What must come of a life, told plainly: happenings in the order in which they happened, strings and seconds.

It shares nothing with the project but the names it uses; it knows no arrivals, no keys and no order but the one it is given.
"""

from dataclasses import dataclass, field

GRACE_S = 60
DAY_S = 86_400


@dataclass(frozen=True)
class Happening:
    """One thing that happened: `what` is start, request or change; `bots` are those that saw it."""

    number: int
    second: int
    what: str
    bots: tuple[int, ...]
    click: str = ""
    before: str = ""
    after: str = ""
    own: bool = True


@dataclass(frozen=True)
class World:
    """One campaign. The old bot holds it until the second `moved`, the new one from then on; `epoch` begins at a second."""

    window: int
    epoch: int
    pauses: tuple[tuple[int, int], ...]
    moved: int | None
    deleted: int | None
    bots: tuple[int, int] = (1, 2)


@dataclass
class Outcome:
    """What came of it. Owed and held name happenings by number."""

    status: str = "none"
    click: str = ""
    started: int | None = None
    joined: int | None = None
    days: dict[str, int] = field(default_factory=dict)
    journal: dict[int, tuple[str, str]] = field(default_factory=dict)
    welcomes: dict[int, str] = field(default_factory=dict)
    owed: list[tuple[str, str, int]] = field(default_factory=list)
    held: list[tuple[str, str, int]] = field(default_factory=list)
    #: Whether a rule held back the postback of the present status.
    silent: bool = False


def tell(world: World, life: list[Happening]) -> Outcome:
    out = Outcome()
    for happening in life:
        if world.deleted is not None and happening.second >= world.deleted:
            continue
        if happening.what == "start":
            _start(world, out, happening)
        elif any(_near(world, bot, happening.second) for bot in happening.bots):
            _membership(world, out, happening)
    return out


def _start(world: World, out: Outcome, happening: Happening) -> None:
    second = happening.second
    holder = world.bots[0] if world.moved is None or second < world.moved else world.bots[1]
    if happening.bots != (holder,) or second < world.epoch or _paused(world, second):
        return
    fresh = happening.click not in {"", out.click}
    if fresh:
        out.click = happening.click
    if out.status == "none":
        out.started = second
        _count(out, "starts", second)
    if out.status == "none" or (fresh and out.status in {"cancel", "trash"}):
        out.status, out.silent = "wait", False
        out.owed.append(("wait", out.click, happening.number))
    elif fresh:
        out.owed.append(("wait", out.click, happening.number))
        out.silent = out.silent and out.status != "wait"
    out.welcomes[happening.number] = out.click


def _membership(world: World, out: Outcome, happening: Happening) -> None:
    word = _word(happening)
    if word == "":
        return
    known = out.status != "none" and happening.second >= world.epoch
    if word != "unban":
        out.journal[happening.number] = (word, "paid" if known else "organic")
    if not known:
        return
    joined = out.joined
    if word == "join":
        out.joined = happening.second
    became = _became(out.status, word)
    if became == out.status:
        return
    out.status = became
    _count(out, {"hold": "holds", "approve": "confirms", "cancel": "unsubs", "trash": "unsubs"}[became], happening.second)
    rule = ""
    if _paused(world, happening.second):
        rule = "campaign paused"
    elif became in {"cancel", "trash"} and world.window and joined is not None and happening.second > joined + world.window:
        rule = "window closed"
    out.silent = rule != ""
    if rule:
        out.held.append((became, rule, happening.number))
    else:
        out.owed.append((became, out.click, happening.number))


def _became(status: str, word: str) -> str:
    if word == "join":
        return "approve"
    if word == "request" and status != "approve":
        return "hold"
    if word == "leave" and status == "approve":
        return "cancel"
    if word == "kick" and status == "approve":
        return "trash"
    return status


def _word(happening: Happening) -> str:
    if happening.what == "request":
        return "request"
    if happening.before == happening.after:
        return ""
    if happening.after == "in":
        return "join"
    if happening.after == "banned":
        return "kick"
    if happening.before == "banned":
        return "unban"
    return "leave" if happening.own else "kick"


def _count(out: Outcome, counter: str, second: int) -> None:
    out.days.setdefault(counter, second // DAY_S)


def _paused(world: World, second: int) -> bool:
    return any(first <= second < last for first, last in world.pauses)


def _near(world: World, bot: int, second: int) -> bool:
    old, new = world.bots
    if world.moved is None:
        return bot == old
    return (bot == old and second <= world.moved + GRACE_S) or (bot == new and second >= world.moved - GRACE_S)
