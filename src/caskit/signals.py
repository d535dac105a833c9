"""What SIGTERM and SIGINT do: a stage that can stop at a good place is asked to, everything else stops at once."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

STOPPING = "caskit: stopping at the next safe place; once more stops at once"


class StopRequest:
    """A flag that the first SIGTERM or SIGINT sets while a stage looks at it; any other signal interrupts.

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
                print(STOPPING, file=sys.stderr, flush=True)
            return
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopRequest"]:
        """Handle both signals inside the context and put the former handlers back after it."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
