"""Ports for private servers: free now, and not handed out by the kernel to anybody's outgoing connection later."""

import random
import socket
from itertools import islice
from pathlib import Path

LOOPBACK = "127.0.0.1"
FIRST = 20_000
LAST = 32_767  # the kernel's own (ephemeral) ports begin at 32,768: a server there can lose its port to a client
TRIES_MAX = 200


class NoFreePort(RuntimeError):
    """Every port tried was taken."""


def is_free(port: int) -> bool:
    """Whether a server could listen there now; what is merely left over from closed connections doesn't count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int, *, within_s: float = 1.0) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=within_s).close()
    except OSError:
        return False
    return True


def keep_or_choose(file: Path, count: int) -> tuple[int, ...]:
    """The ports remembered in a file if all of them are still free, else others, which are remembered in their place.

    Two servers started at once must not choose alike, hence at random; a race lost all the same shows when the server
    can't listen, and its start is tried again.
    """
    remembered = recall(file, count)
    if remembered and all(map(is_free, remembered)):
        return remembered
    chosen = choose(count)
    file.write_text(" ".join(map(str, chosen)))
    return chosen


def recall(file: Path, count: int) -> tuple[int, ...]:
    """The ports remembered in a file; none where it is missing or says something else."""
    try:
        numbers = tuple(map(int, file.read_text().split()))
    except (OSError, ValueError):
        return ()
    return numbers if len(numbers) == count else ()


def choose(count: int) -> tuple[int, ...]:
    """So many ports, at random, that are free now."""
    candidates = random.SystemRandom().sample(range(FIRST, LAST + 1), TRIES_MAX)
    chosen = tuple(islice(filter(is_free, candidates), count))
    if len(chosen) < count:
        raise NoFreePort(f"no {count} free ports between {FIRST} and {LAST} on {LOOPBACK}")
    return chosen
