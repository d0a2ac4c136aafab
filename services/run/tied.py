"""Become another program, one that does not outlive its parent: `tied.py PARENT PROGRAM ARGUMENT…`.

The kernel kills it when the parent dies, however that happens (`PR_SET_PDEATHSIG`, which outlasts exec), so a supervisor that got a
SIGKILL leaves nobody behind who goes on working for it. SIGKILL, because a process that hangs hears nothing else, and because ours
lose nothing by it.

A program of its own and not `preexec_fn`, which is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Tie, then check, then become: a parent that died before the tie was made sends no signal any more."""
    parent, program, *arguments = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        sys.exit("the parent is gone already")
    os.execv(program, [program, *arguments])  # noqa: S606  # the supervisor's own choice, no shell


if __name__ == "__main__":
    main()
