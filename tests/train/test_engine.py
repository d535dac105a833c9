import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.train.ema import Ema
from caskit.train.engine import EngineConfig, Progress, run, step_seed
from caskit.train.resume import PREVIOUS_NAME, RESUME_NAME

IDENTITY = {"config": {"width": 8}, "data": "sha256:00"}


class TinyTask:
    """Regression with everything a real task has: batch norm, dropout, momentum, a one-cycle schedule, an average."""

    def __init__(self, num_steps: int = 12, die_at: int | None = None, delay_s: float = 0.0) -> None:
        self.num_steps, self.die_at, self.delay_s = num_steps, die_at, delay_s
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=0.1, total_steps=num_steps + 1)
        self.ema = Ema(self.model, 0.9)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        if step == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.delay_s)
        inputs = torch.randn(16, 4)
        loss = functional.mse_loss(self.model(inputs)[:, 0], inputs.sum(dim=1))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.ema.update(self.model)
        return {"loss": loss.detach(), "lr": self.schedule.get_last_lr()[0]}

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "ema": self.ema}

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


def drive(out: Path, task: TinyTask, **options: Any) -> TinyTask:
    config = options.pop("config", EngineConfig(seed=3, save_every=5, log_every=2))
    run(task, out=out, identity=options.pop("identity", IDENTITY), config=config, batch_size=16, **options)
    return task


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else []
    return [tensor for value in values for tensor in tensors(value)]


def assert_equal_states(a: TinyTask, b: TinyTask) -> None:
    pairs = list(zip(tensors(a.state_dict()), tensors(b.state_dict()), strict=True))
    assert len(pairs) > 20
    assert all(torch.equal(x, y) for x, y in pairs)


def losses(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def whole(tmp_path: Path) -> tuple[TinyTask, list[tuple[int, float]]]:
    task = drive(tmp_path / "whole", TinyTask())
    return task, losses(tmp_path / "whole")


@pytest.mark.parametrize("steps", [[0], [1], [4], [5], [7, 9], [11], [0, 3, 6, 10]])
def test_stopped_anywhere_and_resumed_ends_equal(
    steps: list[int], tmp_path: Path, whole: tuple[TinyTask, list[tuple[int, float]]]
) -> None:
    out = tmp_path / "stopped"
    for last in steps:
        task = TinyTask()
        calls = iter(range(100))
        first = 0 if not (out / RESUME_NAME).exists() else torch.load(out / RESUME_NAME, weights_only=True)["step"]
        if last == task.num_steps - 1:
            continue
        with pytest.raises(NotFinished, match="the same command goes on"):
            drive(out, task, stop=lambda calls=calls, first=first, last=last: first + next(calls) >= last)
    task = drive(out, TinyTask())
    assert_equal_states(task, whole[0])
    assert losses(out) == whole[1]


def test_killed_and_resumed_ends_equal(tmp_path: Path, whole: tuple[TinyTask, list[tuple[int, float]]]) -> None:
    out = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, __file__, str(out), "0", "8", "11"], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 3
    assert torch.load(out / RESUME_NAME, weights_only=True)["step"] == 10
    task = drive(out, TinyTask())
    assert_equal_states(task, whole[0])
    assert losses(out) == whole[1]


def test_intervals_do_not_change_the_result(tmp_path: Path, whole: tuple[TinyTask, list[tuple[int, float]]]) -> None:
    task = drive(tmp_path / "other", TinyTask(), config=EngineConfig(seed=3, save_every=1, log_every=100))
    assert_equal_states(task, whole[0])


def test_a_finished_run_returns_at_once(tmp_path: Path, whole: tuple[TinyTask, list[tuple[int, float]]]) -> None:
    before = (tmp_path / "whole" / "train.jsonl").stat().st_mtime_ns
    task = TinyTask(die_at=0)
    drive(tmp_path / "whole", task)
    assert_equal_states(task, whole[0])
    assert (tmp_path / "whole" / "train.jsonl").stat().st_mtime_ns == before


def test_another_identity_is_refused_by_field(tmp_path: Path) -> None:
    drive(tmp_path, TinyTask())
    with pytest.raises(InputError, match=r"another run, differing in config.width \(16 here, 8 there\)"):
        drive(tmp_path, TinyTask(), identity={**IDENTITY, "config": {"width": 16}})
    with pytest.raises(InputError, match=r"engine.seed \(4 here, 3 there\)"):
        drive(tmp_path, TinyTask(), config=EngineConfig(seed=4))
    with pytest.raises(InputError, match=r"engine.num_steps \(13 here, 12 there\)"):
        drive(tmp_path, TinyTask(num_steps=13))


def test_the_identity_is_pinned_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(NotFinished):
        drive(tmp_path, TinyTask(), stop=lambda: True)
    with pytest.raises(InputError, match="data"):
        drive(tmp_path, TinyTask(), identity={**IDENTITY, "data": "sha256:01"})


def test_a_broken_state_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / RESUME_NAME).write_bytes(b"not a state")
    with pytest.raises(
        InputError, match=r"resume\.pt: not a saved state of caskit, choose another folder or remove the file"
    ):
        drive(tmp_path, TinyTask())


def test_a_lost_state_is_told_of_with_the_one_before(tmp_path: Path, whole: tuple[TinyTask, Any]) -> None:
    drive(tmp_path, TinyTask())
    assert [torch.load(tmp_path / n, weights_only=True)["step"] for n in (PREVIOUS_NAME, RESUME_NAME)] == [10, 12]
    (tmp_path / RESUME_NAME).write_bytes((tmp_path / RESUME_NAME).read_bytes()[:-100])
    with pytest.raises(InputError, match="move resume.previous.pt in its place, which goes on after step 10"):
        drive(tmp_path, TinyTask())
    (tmp_path / PREVIOUS_NAME).rename(tmp_path / RESUME_NAME)
    assert_equal_states(drive(tmp_path, TinyTask()), whole[0])


def test_a_state_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"version": 1, "identity": "{}", "step": 0, "state": Path("/tmp")}, tmp_path / RESUME_NAME)
    with pytest.raises(InputError, match="not a saved state"):
        drive(tmp_path, TinyTask())


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    def tell(_: Progress) -> None:
        drive(tmp_path, TinyTask())

    with pytest.raises(InputError, match="another process is at work"):
        drive(tmp_path, TinyTask(), progress=tell)


def test_divergence_fails_and_is_not_saved(tmp_path: Path) -> None:
    class Diverging(TinyTask):
        def step(self, step: int) -> Mapping[str, float | Tensor]:
            return {**super().step(step), "loss": float("nan") if step == 9 else 1.0}

    with pytest.raises(RunFailed, match="loss is nan at step 10"):
        drive(tmp_path, Diverging())
    assert torch.load(tmp_path / RESUME_NAME, weights_only=True)["step"] == 5


def test_progress_ends_with_the_last_step(tmp_path: Path) -> None:
    seen: list[Progress] = []
    drive(tmp_path, TinyTask(num_steps=3, delay_s=0.3), progress=seen.append, name="fit")
    assert [p.step for p in seen] == [2, 3]
    assert seen[-1].eta_s == 0.0
    assert seen[-1].stage == "fit"
    assert seen[-1].images_per_s < 16 / 0.3
    assert set(seen[-1].metrics) == {"loss", "lr"}


def test_the_share_of_time_spent_waiting_is_logged_and_told(tmp_path: Path) -> None:
    class Waiting(TinyTask):
        waited_s = 0.0

        def step(self, step: int) -> Mapping[str, float | Tensor]:
            time.sleep(0.04)
            self.waited_s += 0.03 if step < 4 else 0.0
            return super().step(step)

    seen: list[Progress] = []
    drive(tmp_path, Waiting(num_steps=8), progress=seen.append, config=EngineConfig(seed=3, log_every=4))
    early, late = (json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines())
    assert 0 < early["waiting"] <= 0.12 / early["seconds"] + 1e-3 and early["waiting"] <= 0.75
    assert late["waiting"] == 0 and late["seconds"] >= 0.16
    assert all(told.waiting is not None and 0 <= told.waiting <= 1 for told in seen)
    for line in (early, late):
        assert line["images_per_s"] == pytest.approx(4 * 16 / line["seconds"], rel=0.01)


def test_nothing_is_said_about_waiting_where_nobody_measures_it(tmp_path: Path) -> None:
    seen: list[Progress] = []
    drive(tmp_path, TinyTask(num_steps=3), progress=seen.append)
    assert all("waiting" not in json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines())
    assert [told.waiting for told in seen] == [None] * len(seen) and seen


def test_deterministic_algorithms_are_on_inside_and_as_before_outside(tmp_path: Path) -> None:
    class Asking(TinyTask):
        def step(self, step: int) -> Mapping[str, float | Tensor]:
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.utils.deterministic.fill_uninitialized_memory
            return super().step(step)

    drive(tmp_path, Asking())
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize(("field", "value"), [("seed", -1), ("save_every", 0), ("log_every", 1.5), ("tensorboard", 1)])
def test_bad_config_dies_early(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        EngineConfig(**{field: value})


def test_step_seeds_differ_and_stay() -> None:
    assert len({step_seed(s, i) for s in range(20) for i in range(50)}) == 1000
    assert (step_seed(0, 0), step_seed(7, 123)) == (6270057434553773824, 5547379250222710703)


def _die_in_turn(out: Path, steps: list[int]) -> None:
    """Fork a run that kills itself at each of some steps; forked, as importing torch takes longer than the run."""
    torch.set_num_threads(1)
    for die_at in steps:
        child = os.fork()
        if child == 0:
            drive(out, TinyTask(die_at=die_at))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    _die_in_turn(Path(sys.argv[1]), [int(step) for step in sys.argv[2:]])
