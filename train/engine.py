"""One loop for every kind of training: optimizer steps, logs and exact resume. It knows nothing of models.

A step is a pure function of (the task's state, the step number, the seed): the loop seeds torch before every step, so
the state at a step is the whole state, and a run killed anywhere and started again ends with the same tensors (same
environment, same number of threads).
"""

import dataclasses
import fcntl
import hashlib
import io
import json
import math
import os
import pickle
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.manifests.plan import differing_fields

RESUME_NAME = "resume.pt"
LOCK_NAME = ".lock"
RESUME_VERSION = 1
PROGRESS_INTERVAL_S = 0.5
_STEP_DOMAIN = b"caskit/step/1\0"


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


def step_seed(seed: int, step: int) -> int:
    """Return the 63-bit seed of one step."""
    digest = hashlib.sha256(_STEP_DOMAIN + struct.pack(">2Q", seed, step)).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file and put it in the place of `path`, whole and flushed to disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process out of a folder; the system drops the lock when its holder dies, however it dies.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_NAME, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is at work in this folder, wait for it or choose another"
            ) from error
        yield


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


def _numbers(metrics: Mapping[str, float | Tensor], step: int, name: str) -> dict[str, float]:
    """Return the metrics as floats. Raises RunFailed for one that is not finite: training has diverged."""
    numbers = {key: float(value) for key, value in metrics.items()}
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise RunFailed(f"{name}: {key} is {value} at step {step}, training diverged; lower the learning rate")
    return numbers


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
) -> None:
    """Do the task's updates up to its last one, from where the folder stands.

    Writes `out/resume.pt` (the state, replaced atomically) and `out/<name>.jsonl` (step, metrics, images per second).

    Args:
        task: what is trained; when the call returns it holds the final state.
        out: the run's folder, created if need be; one process at a time.
        identity: JSON values that decide the result (resolved config, ids of the inputs); seed and steps are added.
        config: seed and intervals.
        batch_size: images per update, for the rates.
        progress: called every half second or so and after the last step.
        stop: asked after every step.
        name: of the log, and the progress's stage.

    Raises:
        InputError: the folder holds a run of another identity, or another process works in it.
        NotFinished: `stop` said so; the state is saved and the same call goes on.
        RunFailed: a metric is not finite.
    """
    engine = {"name": name, "seed": config.seed, "num_steps": task.num_steps}
    session = _Session(
        task=task,
        resume_path=out / RESUME_NAME,
        log_path=out / f"{name}.jsonl",
        identity=json.loads(canonical_json({**identity, "engine": engine})),
        config=config,
        batch_size=batch_size,
        progress=progress,
        stop=stop,
        name=name,
    )
    with locked(out), deterministic():
        first = session.resume()
        if first < task.num_steps:
            session.go_on(first)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Session:
    """One call of `run`."""

    task: Task
    resume_path: Path
    log_path: Path
    identity: dict[str, Any]
    config: EngineConfig
    batch_size: int
    progress: Callable[[Progress], None] | None
    stop: Callable[[], bool]
    name: str

    def save(self, step: int) -> None:
        record = {
            "version": RESUME_VERSION,
            "identity": canonical_json(self.identity).decode(),
            "step": step,
            "state": self.task.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(record, buffer)  # in memory: writing it itself, torch calls a full disk a RuntimeError

        def write(temporary: Path) -> None:
            temporary.write_bytes(buffer.getbuffer())

        write_atomic(self.resume_path, write)

    def resume(self) -> int:
        """Load the saved state, if there is one, into the task; return the next step."""
        path = self.resume_path
        if not path.exists():
            self.save(0)
            return 0
        try:
            record = torch.load(path, map_location="cpu", weights_only=True)
            version, theirs, step = record["version"], json.loads(record["identity"]), int(record["step"])
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: not a saved state of caskit, choose another folder or remove the file"
            ) from error
        if version != RESUME_VERSION:
            raise InputError(
                f"{path}: saved state has version {version!r}, this caskit resumes version {RESUME_VERSION}"
            )
        if self.identity != theirs:
            fields = "; ".join(differing_fields(self.identity, theirs))
            raise InputError(f"{path.parent}: holds another run, differing in {fields}; choose another folder")
        self.task.load_state_dict(record["state"])
        return step

    def go_on(self, first: int) -> None:
        """Do the updates from `first` on."""
        num_steps, config = self.task.num_steps, self.config
        _truncate_log(self.log_path, first)
        with open(self.log_path, "a") as log:
            started = logged = told = time.monotonic()
            last_logged = first
            for done in range(first + 1, num_steps + 1):
                torch.manual_seed(step_seed(config.seed, done - 1))
                metrics = self.task.step(done - 1)
                now, last = time.monotonic(), done == num_steps
                stopping = not last and self.stop()
                saving = last or stopping or done % config.save_every == 0
                logging = last or done % config.log_every == 0
                telling = last or now - told >= PROGRESS_INTERVAL_S
                if not (saving or logging or telling):
                    continue
                numbers = _numbers(metrics, done, self.name)
                if logging:
                    rate = (done - last_logged) * self.batch_size / max(now - logged, 1e-9)
                    log.write(json.dumps({"step": done, **numbers, "images_per_s": round(rate, 1)}) + "\n")
                    log.flush()
                    logged, last_logged = now, done
                if telling:
                    self.tell(done, numbers, (now - started) / (done - first))
                    told = now
                if saving:
                    self.save(done)
                if stopping:
                    raise NotFinished(
                        f"{self.name}: stopped after step {done} of {num_steps}; the same command goes on"
                    )

    def tell(self, step: int, metrics: Mapping[str, float], per_step_s: float) -> None:
        if self.progress is not None:
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
