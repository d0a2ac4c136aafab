"""Signals as something to wait for: those that ask us to stop, and the one that says a child has ended."""

import select
import signal
import socket
from types import FrameType
from typing import Final, Self

#: A terminal's Ctrl-C, an ordinary kill, and the terminal going away.
STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

READ_BYTES: Final = 4_096


class Stopped(Exception):
    """Somebody asked us to stop; the message names the signal."""


class Signals:
    """Notes signals for the main thread, which looks at them where it waits and at no other place.

    Nothing is ever interrupted half done, and a second Ctrl-C does not disturb the stopping that the first one began. The handlers
    only set a flag; what ends the wait is the byte that Python writes for each signal, so none can slip in between look and wait.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._stop) for number in STOP}
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self._read.close()
        self._write.close()

    def check(self) -> None:
        """Between two steps of a start.

        Raises:
            Stopped: it was asked for since the beginning.
        """
        if self._asked is not None:
            raise Stopped(self._asked.name)

    def wait(self, within_s: float | None) -> None:
        """Until a signal arrives, for so long at most (None: for ever).

        Raises:
            Stopped: it was asked for since the beginning.
        """
        self.check()
        if select.select([self._read], [], [], within_s)[0]:
            self._read.recv(READ_BYTES)
        self.check()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._asked = self._asked or signal.Signals(number)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        """The byte in the pipe is all that is wanted."""
