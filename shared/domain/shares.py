"""How listeners share the bots among themselves."""

from collections.abc import Sequence
from math import ceil


def fair_share(own: int, capacities: Sequence[int], sessions: int) -> int:
    """How many of so many sessions a listener of capacity `own` should have, where `capacities` are those of all, its own among them.

    Equal parts, as far as each has room; what one has no room for is shared by the others. Everybody comes to the same result without
    asking; the shares add up to the sessions or a few more, never to fewer unless there is no room for all.
    """
    left = sessions
    for smaller, capacity in enumerate(sorted(capacities)):
        part = ceil(left / (len(capacities) - smaller))
        if part <= capacity:
            return min(own, part)
        left -= capacity
    return own
