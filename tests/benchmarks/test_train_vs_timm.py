"""How benchmarks/train_vs_timm.py counts: its turns, its medians."""

import multiprocessing
import runpy
import threading
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "train_vs_timm.py"))


def test_a_training_goes_on_for_as_many_steps_as_it_is_told(script: dict[str, Any]) -> None:
    ours, theirs = multiprocessing.Pipe()
    done, waited = [], [0.0]

    def training() -> None:
        gate = script["Gate"](theirs, 16, lambda: waited[0])
        for step in range(100):
            done.append(step)
            waited[0] += 0.25
            if gate():
                return

    thread = threading.Thread(target=training)
    thread.start()
    assert ours.recv() == "ready" and len(done) == 1
    for uncounted, counted in ((2, 3), (0, 5)):
        before = len(done)
        ours.send((uncounted, counted))
        num_images, seconds, waited_s, used_s = ours.recv()
        assert len(done) == before + uncounted + counted
        assert num_images == 16 * counted and waited_s == 0.25 * counted
        assert 0 < seconds < 60 and 0 <= used_s <= 60
    ours.send(None)
    thread.join(timeout=60)
    assert not thread.is_alive() and len(done) == 11


def test_ratios_are_medians_of_those_within_a_round(script: dict[str, Any]) -> None:
    def turns(*rates: float, waited: float, used: float) -> list[Any]:
        return [
            script["Turn"](num_images=100, seconds=100 / rate, waited_s=waited * 100 / rate, processor_s=used)
            for rate in rates
        ]

    setting = script["Setting"](
        name="m at 32 px", model="m", size=32, batch=100, num_images=1, held=True, steps=1, rounds=1, least=1.2
    )
    found = script["summary"](
        setting,
        {
            "timm": turns(100, 50, 10, waited=0.5, used=2),
            "thread": turns(150, 100, 11, waited=0.01, used=1),
            "workers": turns(120, 40, 10, waited=0.25, used=1),
            "between": turns(100, 20, 5, waited=0.5, used=1),
        },
        "thread",
    )
    assert (found["ratio"], found["ratio_with_workers"], found["ratio_of_processor_time"]) == (1.5, 1.0, 2.0)
    assert (found["side"], found["ratio_by_thread"], found["ratio_in_between"]) == ("thread", 1.5, 0.5)
    assert found["images_per_s"] == {"timm": 50.0, "thread": 100.0, "between": 20.0, "workers": 40.0}
    assert found["waiting"] == {"timm": 0.5, "thread": 0.01, "between": 0.5, "workers": 0.25}
    assert found["processor_ms_per_image"] == {"timm": 20.0, "thread": 10.0, "between": 10.0, "workers": 10.0}


@pytest.mark.parametrize(
    ("held", "cores", "threads", "side"),
    [(True, 2, 2, "between"), (True, 3, 2, "thread"), (True, 2, 1, "thread"), (False, 2, 2, "thread")],
)
def test_the_side_that_is_told_is_what_a_training_does(
    held: bool, cores: int, threads: int, side: str, script: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {*range(cores)}, raising=False)
    setting = script["Setting"](
        name="m at 32 px", model="m", size=32, batch=100, num_images=1, held=held, steps=1, rounds=1, least=1.2
    )
    assert script["taken"](setting, threads) == side
