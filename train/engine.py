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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.train.distributed import World
from caskit.train.folder import locked
from caskit.train.log import RunLog
from caskit.train.memory import kept
from caskit.train.pace import Mark, Pace, mark
from caskit.train.resume import RESUME_NAME, ResumePoint

PROGRESS_INTERVAL_S = 0.5
ALONE = World()
_STEP_DOMAIN = b"caskit/step/1\0"
_RANK_DOMAIN = b"caskit/step-of-rank/1\0"


class Task(Protocol):
    """What is trained. `step` does one optimizer update; its data depends on the step number and the seed only.

    A task that reads data may also have `waited_s`, the seconds that its process has waited for it so far: the engine
    logs and shows them as a share of the time.
    """

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
        tensorboard: also log to `tensorboard/<name>` in the run's folder, for TensorBoard.
    """

    seed: int = 0
    save_every: int = 200
    log_every: int = 20
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("save_every", 1), ("log_every", 1)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value < 2**53:
                raise InputError(f"{name} is {value!r}, allowed: whole numbers from {low}")
        if type(self.tensorboard) is not bool:
            raise InputError(f"tensorboard is {self.tensorboard!r}, allowed: true, false")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands after `step` of `num_steps` updates.

    Rates are of this session, `stage` is the run's name, `waiting` the share of the time since the last call in which
    the processes waited for data, 0 to 1; None where nobody measures it.
    """

    step: int
    num_steps: int
    metrics: Mapping[str, float]
    images_per_s: float
    eta_s: float
    stage: str
    waiting: float | None = None


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
    memory: Any = torch.utils.deterministic  # a module with a property, which its types do not know
    filling = memory.fill_uninitialized_memory
    # The same switch as use_deterministic_algorithms, which imports the compiler for it: seconds per process.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    # Else every result is filled with NaN before it is computed, for code that reads what nothing has written.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.backends.cudnn.benchmark = benchmark
        memory.fill_uninitialized_memory = filling


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
    `out/<name>.jsonl`, which is also there as a table, `out/<name>.csv`: step, metrics, and of the steps since the line
    before images per second, seconds and, where the task measures it, the share of them in which the processes waited
    for data (`waiting`).

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
        out=out,
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
        stack.enter_context(kept())
        first = session.resume.load(task)
        if first < task.num_steps:
            session.go_on(first)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Session:
    """One call of `run`."""

    task: Task
    resume: ResumePoint
    out: Path
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
                log = RunLog(self.out, self.name, step=first, tensorboard=self.config.tensorboard)
                stack.callback(log.close)
            stack.enter_context(self.world.lost_peers())
            self._steps(first, log)

    def _steps(self, first: int, log: RunLog | None) -> None:
        num_steps, config = self.task.num_steps, self.config
        started = logged = told = mark(first, self.task)
        for done in range(first + 1, num_steps + 1):
            torch.manual_seed(step_seed(config.seed, done - 1, self.world.rank))
            metrics = self.task.step(done - 1)
            now, last = mark(done, self.task), done == num_steps
            # Ranks have to agree on both: they stop at the same step, and what is told is averaged over all of them.
            stopping, telling = self.world.any(
                not last and self.stop(), last or (self.world.first and now.at_s - told.at_s >= PROGRESS_INTERVAL_S)
            )
            saving = last or stopping or done % config.save_every == 0
            logging = last or done % config.log_every == 0
            if not (saving or logging or telling):
                continue
            numbers = self._numbers(metrics, done)
            if logging:
                self._log(log, numbers, Pace(begin=logged, end=now))
                logged = now
            if telling:
                self._tell(numbers, started, told, now)
                told = now
            if saving:
                self.resume.save(self.task, done)
            if stopping:
                raise NotFinished(f"{self.name}: stopped after step {done} of {num_steps}; the same command goes on")

    def _waiting(self, pace: Pace) -> float | None:
        """Return the share of waiting, averaged over the ranks, all of which have to ask."""
        return None if pace.waiting is None else self.world.mean({"waiting": pace.waiting})["waiting"]

    def _log(self, log: RunLog | None, numbers: Mapping[str, float], pace: Pace) -> None:
        waiting = self._waiting(pace)
        if log is None:
            return
        measured = {"images_per_s": round(pace.steps_per_s * self.batch_size, 1), "seconds": round(pace.seconds, 4)}
        if waiting is not None:
            measured["waiting"] = round(waiting, 4)
        log.write(pace.end.step, {**numbers, **measured})

    def _numbers(self, metrics: Mapping[str, float | Tensor], step: int) -> dict[str, float]:
        """Return the metrics as floats. Raises RunFailed for one that is not finite: training has diverged."""
        numbers = self.world.mean({key: float(value) for key, value in metrics.items()})
        for key, value in numbers.items():
            if not math.isfinite(value):
                raise RunFailed(
                    f"{self.name}: {key} is {value} at step {step}, training diverged; lower the learning rate"
                )
        return numbers

    def _tell(self, metrics: Mapping[str, float], started: Mark, told: Mark, now: Mark) -> None:
        waiting = self._waiting(Pace(begin=told, end=now))
        if self.progress is not None and self.world.first:
            speed = Pace(begin=started, end=now).steps_per_s
            self.progress(
                Progress(
                    step=now.step,
                    num_steps=self.task.num_steps,
                    metrics=metrics,
                    images_per_s=speed * self.batch_size,
                    eta_s=(self.task.num_steps - now.step) / speed,
                    stage=self.name,
                    waiting=waiting,
                )
            )
