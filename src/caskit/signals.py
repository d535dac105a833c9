"""What SIGTERM, SIGINT and SIGUSR1 do: a stage that can stop at a good place is asked to, all else stops at once.

Slurm's `--signal=USR1@300` sends SIGUSR1 some time before the end; other schedulers send SIGTERM.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STDERR = 2
STOPPING = "caskit: stopping at the next safe place; once more stops at once"


class StopRequest:
    """A flag that the first of STOP_SIGNALS sets while a stage looks at it; any other one interrupts.

    Everything on disk is written create-only and by rename, so an interrupt loses the work in flight and nothing else.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """Say nothing if `quiet`: another process of the same run does."""
        self.requested = False
        self._quiet = quiet
        self._watched = False

    def __call__(self) -> bool:
        """Tell whether the running stage should stop; this is the `stop` that the stages take."""
        return self.requested

    @contextlib.contextmanager
    def watched(self) -> Iterator["StopRequest"]:
        """Mark a stage that looks at the flag by itself."""
        self._watched = True
        try:
            yield self
        finally:
            self._watched = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._watched and not self.requested:
            self.requested = True
            if not self._quiet:
                _say(STOPPING)
            return
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopRequest"]:
        """Handle these signals inside the context and put the former handlers back after it."""
        before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _say(line: str) -> None:
    """Write a line to stderr past its buffer, which the interrupted code may be writing to: it takes no second call."""
    with contextlib.suppress(OSError):  # nobody reads it any more
        os.write(STDERR, f"{line}\n".encode())
