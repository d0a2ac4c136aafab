"""What can be made to go wrong, each by a switch of its own; all are off, or as Telegram itself is.

Things done once to somebody (a dropped connection, a dead key, a revoked token) are tricks in `core.py`.
"""

from dataclasses import dataclass, field, fields
from math import ceil
from random import Random
from typing import Any


@dataclass(slots=True)
class Nasty:
    """The switches. Percentages and orders are drawn from the seed."""

    # Pushes
    withhold_percent: float = 0.0
    """So many pushes are never sent; only a difference still has them."""
    duplicate_percent: float = 0.0
    """So many pushes are sent twice."""
    reorder_pushes: int = 0
    """So many pushes are collected, then sent in the reverse order; what is left over goes after `reorder_ms`."""
    reorder_ms: int = 50
    drop_after_pushes: int = 0
    """Each connection is dropped after so many pushes."""
    silent: bool = False
    """Connections stay open, but nothing is read from them and nothing is written to them."""
    keeps_connections: bool = False
    """A connection whose client does not ping in the time it has promised is not dropped."""
    short_messages: bool = False
    """A message is pushed as UpdateShortMessage, without its user."""
    service_messages: bool = True
    """Groups announce joins and leaves in messages, too, as Telegram's do."""
    explicit_left: bool = False
    """Who is out is ChannelParticipantLeft instead of nothing."""
    truncated_links: bool = True
    """A bot sees another admin's invite link cut short, as it does in Telegram."""

    # Differences
    difference_limit: int = 100
    """So many events in one slice."""
    difference_zero_qts: bool = True
    """Events of the qts sequence have qts 0 in a difference, as they have in Telegram's."""
    difference_too_long: bool = False
    """A difference says only that it would be too long."""

    # Answers
    flood_s: dict[str, int] = field(default_factory=dict)
    """Name of a method -> seconds for which it answers FLOOD_WAIT to each bot, from the first time on, e.g. {"SendMessage": 30}."""
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Name of a method -> code and message of the error it answers, e.g. {"SendMessage": (500, "INTERNAL")}."""
    slow_s: dict[str, float] = field(default_factory=dict)
    """Name of a method, or "*" -> how long its answer is kept back; it has been carried out by then."""
    accept_then_drop: int = 0
    """So many of the next messages are accepted, and then the connection is dropped instead of an answer."""
    close_in_handshake: int = 0
    """So many of the next handshakes end with the connection closed in their middle."""

    # Keys
    one_address_per_key: bool = True
    """A key used from two addresses at once is destroyed, as in Telegram."""
    one_connection_per_key: bool = False
    """A key used on two connections at once is destroyed even if both come from one address, as if they came from two."""

    seed: int = 1
    _random: Random = field(init=False, repr=False)
    _floods: dict[tuple[str, int], float] = field(init=False, repr=False, default_factory=dict)
    """Method and key -> until when."""

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def set(self, **switches: Any) -> None:
        """Turn switches, by their names."""
        known = {one.name for one in fields(self) if one.init}
        for name, value in switches.items():
            if name not in known:
                raise KeyError(f"there is no switch {name}")
            setattr(self, name, value)
        if "seed" in switches:
            self._random = Random(self.seed)
        if "flood_s" in switches:
            self._floods.clear()

    def hits(self, percent: float) -> bool:
        """Whether chance strikes this time."""
        return percent > 0 and self._random.random() * 100 < percent

    def flooded_s(self, method: str, key_id: int, now: float) -> int:
        """How many seconds whoever has this key must still wait; 0 if not at all."""
        if method not in self.flood_s:
            return 0
        until = self._floods.setdefault((method, key_id), now + self.flood_s[method])
        return max(ceil(round(until - now, 3)), 0)

    def slowness(self, method: str) -> float:
        return self.slow_s.get(method, self.slow_s.get("*", 0.0))
