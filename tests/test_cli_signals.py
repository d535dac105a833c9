import io
import os
import signal
import sys

import pytest

from caskit.signals import STOP_SIGNALS, STOPPING, StopRequest


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stage_that_looks_is_asked_to_stop_and_then_interrupted(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with StopRequest().installed() as stop, stop.watched():
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert capfd.readouterr().err == STOPPING + "\n"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_stage_that_is_writing_to_stderr_is_asked_to_stop(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffered stream refuses a second call while it is in one."""

    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            if not stop.requested:
                os.kill(os.getpid(), signal.SIGTERM)
            return len(bytes(data))  # type: ignore[call-overload]

    stop = StopRequest()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(Full()), write_through=True))
    with stop.installed(), stop.watched():
        print("train: 3/700 steps", file=sys.stderr, flush=True)
        assert stop()
    assert STOPPING in capfd.readouterr().err.splitlines()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_anything_else_is_interrupted_at_once(number: signal.Signals) -> None:
    with StopRequest().installed(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_the_handlers_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopRequest().installed():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
