import os
import signal

import pytest

from caskit.signals import STOP_SIGNALS, STOPPING, StopRequest


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stage_that_looks_is_asked_to_stop_and_then_interrupted(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with StopRequest().installed() as stop, stop.watched():
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert capsys.readouterr().err == STOPPING + "\n"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_anything_else_is_interrupted_at_once(number: signal.Signals) -> None:
    with StopRequest().installed(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_the_handlers_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopRequest().installed():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
