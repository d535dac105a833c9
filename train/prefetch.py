"""Images of the next steps, made by worker processes or by a thread while this process computes.

What a part of a step holds follows from its numbers, so neither the number of workers nor their speed changes a bit,
and a run that goes on asks for the next part as if it had never stopped.
"""

import atexit
import dataclasses
import mmap
import os
import signal
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.train.samples import TrainingImages

MAX_WORKERS = 256
_PER_WORKER = 2  # parts that a worker may be ahead
_OURS = (InputError, IntegrityError, RunFailed)
_exiting = mmap.mmap(-1, 1)  # shared with workers, which are forked: 1 once the process that trains is at its end


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Places:
    """The (step, part) pairs from one on, in the order in which a process needs them."""

    step: int
    part: int
    parts: range
    num_steps: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for step in range(self.step, self.num_steps):
            for part in self.parts:
                if step > self.step or part >= self.part:
                    yield step, part


def _tensors(images: TrainingImages, step: int, part: int) -> tuple[Tensor, Tensor]:
    pixels, labels = images.load(step, part)
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels)


class _Parts(Dataset[tuple[Tensor, Tensor] | Exception]):
    def __init__(self, images: TrainingImages) -> None:
        self._images = images

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor] | Exception:
        try:
            return _tensors(self._images, *place)
        except _OURS as error:
            return error  # raised again where it can be told on one line


@atexit.register
def _exit() -> None:
    """Let workers go: Python's exit sends SIGTERM to those that are left and waits for them, without an end.

    Handlers run in the reverse order of their registration, so this one comes before multiprocessing's, which torch's
    import has registered.
    """
    _exiting[0] = 1


def _end_if_exiting(number: int, frame: FrameType | None) -> None:
    if _exiting[0]:
        os._exit(0)


def _begin(worker: int) -> None:
    """Leave signals to the process that trains: a scheduler sends them to all, and what is begun is still needed."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_if_exiting)
    torch.set_num_threads(1)


class Prefetch:
    """Hands out the parts that one process computes, in their order, from any of them on.

    Args:
        images: what makes them.
        parts: of each step.
        num_steps: of the run.
        num_workers: processes.
        ahead: whether, where there are none, a thread makes the next part, from `make_next` on; else a part is made
            when it is asked for.
    """

    def __init__(
        self, images: TrainingImages, parts: range, num_steps: int, num_workers: int, *, ahead: bool = True
    ) -> None:
        if not 0 <= num_workers <= MAX_WORKERS:
            raise InputError(f"workers is {num_workers}, allowed: 0..{MAX_WORKERS}")
        self._images, self._parts, self._num_steps = images, parts, num_steps
        self._num_workers, self._ahead = num_workers, ahead and num_workers == 0
        self._wanted: Iterator[tuple[int, int]] = iter(())
        self._made: Iterator[tuple[Tensor, Tensor] | Exception] = iter(())
        self._thread = ThreadPoolExecutor(1, "images")  # it begins with its first task
        self._next: tuple[tuple[int, int], Future[tuple[Tensor, Tensor]]] | None = None
        self._last: tuple[int, int] | None = None

    def load(self, step: int, part: int) -> tuple[Tensor, Tensor]:
        """Return a part's images [bn_batch, H, W, C] and labels [bn_batch] int64, see `TrainingImages.load`.

        Raises:
            RunFailed: a worker died.
        """
        if self._num_workers == 0:
            return self._by_thread(step, part)
        if next(self._wanted, None) != (step, part):
            self._start(step, part)
        try:
            made = next(self._made)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise RunFailed(f"{reason}; the same command goes on from the last saved state") from error
        if isinstance(made, Exception):
            raise made
        return made

    def make_next(self) -> None:
        """Have the thread make the part after the one that was handed out last, if one is to make any ahead.

        It is for the moment at which a backward pass begins: that computes without Python's lock, which the making of
        images needs, and which the operations of a forward pass would wait for one by one.
        """
        if not self._ahead or self._last is None or self._next is not None:
            return
        step, part = self._last
        places = iter(_Places(step=step, part=part, parts=self._parts, num_steps=self._num_steps))
        next(places, None)  # none is left of a step beyond the last one, which is how the cost of a step is measured
        place = next(places, None)
        if place is not None:
            self._next = place, self._thread.submit(_tensors, self._images, *place)

    def _by_thread(self, step: int, part: int) -> tuple[Tensor, Tensor]:
        begun, self._next = self._next, None
        self._last = (step, part)
        if begun is None:
            return _tensors(self._images, step, part)
        place, made = begun
        if place == self._last:
            return made.result()
        made.exception()  # images are made by one thread at a time, of parts that nobody wants any more, too
        return _tensors(self._images, step, part)

    def _start(self, step: int, part: int) -> None:
        places = _Places(step=step, part=part, parts=self._parts, num_steps=self._num_steps)
        self._wanted = iter(places)
        next(self._wanted)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more than it counts CPUs: asked for
            loader = DataLoader(
                _Parts(self._images),
                batch_size=None,
                sampler=places,
                num_workers=self._num_workers,
                prefetch_factor=_PER_WORKER,
                worker_init_fn=_begin,
                multiprocessing_context="fork",  # the decoded images are shared, not copied
                generator=torch.Generator(),  # else it draws from the step's own random numbers
            )
            self._made = iter(loader)
