"""One loop for every kind of training: optimizer steps, logs and exact resume. It knows nothing of models.

A step is a pure function of (the task's state, the step number, the seed): the loop seeds torch before every step, so
the state at a step is the whole state, and a run killed anywhere and started again ends with the same tensors (same
environment, same number of threads).
"""

import dataclasses
import hashlib
import json
import math
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch
from torch import Tensor

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.train.distributed import World
from caskit.train.folder import locked, write_atomic
from caskit.train.resume import RESUME_NAME, ResumePoint

PROGRESS_INTERVAL_S = 0.5
ALONE = World()
_STEP_DOMAIN = b"caskit/step/1\0"
_RANK_DOMAIN = b"caskit/step-of-rank/1\0"


class Task(Protocol):
    """What is trained. `step` does one optimizer update; its data depends on the step number and the seed only."""

    num_steps: int

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do update `step` (0, 1, ...) and return the numbers to log."""

    def state_dict(self) -> dict[str, Any]:
        """Return models, optimizers, averages: tensors and plain values only."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that `state_dict` gave."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How a run is driven. Only the seed changes what is computed.

    Attributes:
        seed: begins every random number of the run.
        save_every: steps between two saved states; a killed run repeats at most so many.
        log_every: steps between two lines of the log.
    """

    seed: int = 0
    save_every: int = 200
    log_every: int = 20

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("save_every", 1), ("log_every", 1)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value < 2**53:
                raise InputError(f"{name} is {value!r}, allowed: whole numbers from {low}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands after `step` of `num_steps` updates; rates are of this session, `stage` is the run's name."""

    step: int
    num_steps: int
    metrics: Mapping[str, float]
    images_per_s: float
    eta_s: float
    stage: str


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Return the 63-bit seed of one step on one rank; every rank draws noise of its own."""
    numbers = struct.pack(">2Q", seed, step)
    text = _STEP_DOMAIN + numbers if rank == 0 else _RANK_DOMAIN + numbers + struct.pack(">Q", rank)
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


@contextmanager
def deterministic() -> Iterator[None]:
    """Use deterministic algorithms inside the block."""
    before = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    # The same switch as use_deterministic_algorithms, which imports the compiler for it: seconds per process.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.backends.cudnn.benchmark = benchmark


def _truncate_log(path: Path, step: int) -> None:
    """Keep the log lines of the first `step` updates; the others will be written again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            break  # the line being written when the run was killed
    write_atomic(path, lambda temporary: _write_text(temporary, "".join(kept)))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def run(
    task: Task,
    *,
    out: Path,
    identity: Mapping[str, Any],
    config: EngineConfig,
    batch_size: int,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    name: str = "train",
    world: World = ALONE,
    elastic: bool = False,
) -> None:
    """Do the task's updates up to its last one, from where the folder stands.

    Writes `out/resume.pt` (the state, replaced atomically), `out/resume.previous.pt` (the one before) and
    `out/<name>.jsonl` (step, metrics, images per second).

    Args:
        task: what is trained; when the call returns it holds the final state.
        out: the run's folder, created if need be; one process at a time.
        identity: JSON values that decide the result (resolved config, ids of the inputs); seed and steps are added, and
            the number of processes where there are several and the run is not elastic.
        config: seed and intervals.
        batch_size: images per update, of all ranks together.
        progress: called every half second or so and after the last step.
        stop: asked after every step.
        name: of the log, and the progress's stage.
        world: the processes of this run, each of which calls this with a task of its own. Rank 0 alone writes, logs and
            tells progress; metrics are averages over the ranks.
        elastic: whether another number of processes may go on with a saved state; the task then shares out its batches.

    Raises:
        InputError: the folder holds a run of another identity, or another process works in it.
        NotFinished: `stop` said so, on any rank; the state is saved and the same call goes on.
        RunFailed: a metric is not finite, or a rank is lost or has another state than rank 0.
    """
    engine = {"name": name, "seed": config.seed, "num_steps": task.num_steps}
    if world.size > 1 and not elastic:
        world.share(batch_size)
        engine["world_size"] = world.size
    whole_identity = json.loads(canonical_json({**identity, "engine": engine}))
    session = _Session(
        task=task,
        resume=ResumePoint(path=out / RESUME_NAME, identity=whole_identity, world=world),
        log_path=out / f"{name}.jsonl",
        config=config,
        batch_size=batch_size,
        progress=progress,
        stop=stop,
        name=name,
        world=world,
    )
    with ExitStack() as stack:
        with world.agreed():
            if world.first:
                stack.enter_context(locked(out))
        stack.enter_context(deterministic())
        first = session.resume.load(task)
        if first < task.num_steps:
            session.go_on(first)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Session:
    """One call of `run`."""

    task: Task
    resume: ResumePoint
    log_path: Path
    config: EngineConfig
    batch_size: int
    progress: Callable[[Progress], None] | None
    stop: Callable[[], bool]
    name: str
    world: World

    def go_on(self, first: int) -> None:
        """Do the updates from `first` on."""
        with ExitStack() as stack:
            log = None
            if self.world.first:
                _truncate_log(self.log_path, first)
                log = stack.enter_context(open(self.log_path, "a"))
            stack.enter_context(self.world.lost_peers())
            self._steps(first, log)

    def _steps(self, first: int, log: TextIO | None) -> None:
        num_steps, config = self.task.num_steps, self.config
        started = logged = told = time.monotonic()
        last_logged = first
        for done in range(first + 1, num_steps + 1):
            torch.manual_seed(step_seed(config.seed, done - 1, self.world.rank))
            metrics = self.task.step(done - 1)
            now, last = time.monotonic(), done == num_steps
            # Ranks have to agree on both: they stop at the same step, and what is told is averaged over all of them.
            stopping, telling = self.world.any(
                not last and self.stop(), last or (self.world.first and now - told >= PROGRESS_INTERVAL_S)
            )
            saving = last or stopping or done % config.save_every == 0
            logging = last or done % config.log_every == 0
            if not (saving or logging or telling):
                continue
            numbers = self._numbers(metrics, done)
            if logging and log is not None:
                rate = (done - last_logged) * self.batch_size / max(now - logged, 1e-9)
                log.write(json.dumps({"step": done, **numbers, "images_per_s": round(rate, 1)}) + "\n")
                log.flush()
                logged, last_logged = now, done
            if telling:
                self._tell(done, numbers, (now - started) / (done - first))
                told = now
            if saving:
                self.resume.save(self.task, done)
            if stopping:
                raise NotFinished(f"{self.name}: stopped after step {done} of {num_steps}; the same command goes on")

    def _numbers(self, metrics: Mapping[str, float | Tensor], step: int) -> dict[str, float]:
        """Return the metrics as floats. Raises RunFailed for one that is not finite: training has diverged."""
        numbers = self.world.mean({key: float(value) for key, value in metrics.items()})
        for key, value in numbers.items():
            if not math.isfinite(value):
                raise RunFailed(
                    f"{self.name}: {key} is {value} at step {step}, training diverged; lower the learning rate"
                )
        return numbers

    def _tell(self, step: int, metrics: Mapping[str, float], per_step_s: float) -> None:
        if self.progress is not None and self.world.first:
            num_steps = self.task.num_steps
            self.progress(
                Progress(
                    step=step,
                    num_steps=num_steps,
                    metrics=metrics,
                    images_per_s=self.batch_size / max(per_step_s, 1e-9),
                    eta_s=per_step_s * (num_steps - step),
                    stage=self.name,
                )
            )
