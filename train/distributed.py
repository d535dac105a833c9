"""The processes that train one model together, as torchrun started them: exact sums, shares and agreement.

A world of one process is the rule and costs nothing. In a larger one every process holds the same weights and works on
its own slice of every batch; gradients are averaged by DistributedDataParallel (`wrap`), or, where a step runs
several networks, by `average_gradients`, and what else a step changes has to be computed from sums over all ranks, so
that it stays equal on all of them (`caskit.train.resume` checks that it is).
"""

import dataclasses
import datetime
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.train.launch import Launch

_CPU = torch.device("cpu")
TIMEOUT_S = 1800.0  # for a rank that hangs; one that dies is noticed at once, as its connections close
# gloo raises plain RuntimeErrors. Their messages begin with the place in its source, but for the one that an operation
# gets whose connection was closed because another one on it took too long.
_SIGNS_OF_GLOO = ("gloo", "application timeout caused pair closure")
_TOLD = {kind.__name__: kind for kind in (InputError, IntegrityError, NotFinished, RunFailed)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """This process among those of its run. Every method but `share` and `wrap` has to be called by all ranks alike.

    Attributes:
        rank: number of this process; 0 alone writes files, logs and prints.
        size: how many there are.
        local_size: how many of them are on this machine.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    device: torch.device = _CPU

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, num: int) -> slice:
        """Return this rank's slice of a batch of `num`: equal and contiguous, so that a mean of means is the mean.

        Raises:
            InputError: `num` cannot be divided by the number of processes.
        """
        if num % self.size:
            raise InputError(f"a batch of {num} cannot be divided among {self.size} processes, choose a multiple")
        part = num // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over the ranks, in place; every rank gets the same bits. No gradient flows through it."""
        if self.size == 1:
            return tensor
        with self.lost_peers(), torch.no_grad():
            total = tensor.detach().contiguous()
            torch.distributed.all_reduce(total)
            if total.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(total)
        return tensor

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return what a step calls instead of the module so that gradients are averaged over the ranks.

        Weights become those of rank 0. Keep the module itself for state_dict and for evaluation. Buffers are the
        task's own business.
        """
        if self.size == 1:
            return module
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.14 calls broadcast_buffers otherwise, 2.6 does not
            return nn.parallel.DistributedDataParallel(
                _Averaged(module),
                device_ids=[self.device.index] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
                find_unused_parameters=True,
            )

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over the ranks in one sum, for steps in which a network is run several times.

        A parameter without a gradient gets zeros where there are several ranks: all of them have to sum alike.
        """
        if self.size == 1:
            return
        parameters = list(parameters)
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.sum_(torch.cat([gradient.reshape(-1) for gradient in found])).div_(self.size)
        for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view(parameter.shape).clone(memory_format=torch.preserve_format)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Tell for each flag whether it is set on any rank."""
        if self.size == 1:
            return flags
        counts = self.sum_(torch.tensor(flags, dtype=torch.int32))  # on the CPU: no GPU has to wait for it
        return tuple(bool(count) for count in counts)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.any(False)

    def mean(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Average numbers, the same names on every rank."""
        if self.size == 1:
            return dict(numbers)
        totals = self.sum_(torch.tensor(list(numbers.values()), dtype=torch.float64))
        return dict(zip(numbers, (totals / self.size).tolist(), strict=True))

    def gather(self, text: str) -> list[str]:
        """Return every rank's text, in the order of ranks."""
        texts: list[str | None] = [text]
        if self.size > 1:
            texts = [None] * self.size
            with self.lost_peers():
                torch.distributed.all_gather_object(texts, text)
        return [text for text in texts if text is not None]

    def send(self, data: bytes | None) -> bytes:
        """Return the bytes that rank 0 hands in, on every rank; what the others hand in is not looked at."""
        if self.size == 1:
            assert data is not None, "rank 0 has to hand in bytes"
            return data
        with self.lost_peers():
            size = torch.tensor(len(data) if self.first and data is not None else 0)
            torch.distributed.broadcast(size, src=0)
            buffer = bytearray(data) if self.first and data is not None else bytearray(int(size))
            if buffer:
                torch.distributed.broadcast(torch.frombuffer(buffer, dtype=torch.uint8), src=0)
        return bytes(buffer)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Run a block in which ranks do not talk to each other; what it raises on one rank is raised on all of them."""
        caught: Exception | None = None
        try:
            yield
        except Exception as error:
            caught = error
        if self.size > 1:
            told = self.gather("" if caught is None else f"{type(caught).__name__}\n{caught}")
            for rank, text in enumerate(told):
                if text and caught is None:
                    kind, _, message = text.partition("\n")
                    prefix = "" if kind in _TOLD else f"{kind}: "
                    raise _TOLD.get(kind, RunFailed)(f"{prefix}{message} (on rank {rank})")
        if caught is not None:
            raise caught

    def require_one(self, what: str) -> None:
        """Raise InputError unless this process is alone."""
        if self.size > 1:
            raise InputError(f"{what} works in one process, torchrun started {self.size}; call caskit without torchrun")

    @contextmanager
    def lost_peers(self) -> Iterator[None]:
        """Turn the errors of a lost connection inside the block into RunFailed."""
        try:
            yield
        except RuntimeError as error:
            ours = type(error) is RuntimeError and any(sign in str(error).lower() for sign in _SIGNS_OF_GLOO)
            if not ours and not isinstance(error, torch.distributed.DistError):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise RunFailed(
                f"rank {self.rank} of {self.size}: another process of this run ended or gave no answer ({reason}); "
                "the same command goes on from the last saved state"
            ) from error


class _Averaged(nn.Module):
    """A module beside a parameter that nothing uses.

    To save time, DistributedDataParallel lays gradients out anew after a first step, in the order in which they came;
    in a ring of three or more ranks the order of a sum depends on the layout, and a resumed run, which has a first step
    of its own, ended with other last bits (docs/LOG.md). It does not while it looks for unused parameters, and it
    complains on every rank's stderr if it finds none.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.unused = nn.Parameter(torch.zeros((), device=next(module.parameters()).device))

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Call the module."""
        return self.module(*arguments, **named)


@contextmanager
def joined(launch: Launch, device: torch.device, *, timeout_s: float = TIMEOUT_S) -> Iterator[World]:
    """Meet the other processes of the launch, gloo between CPUs and NCCL between GPUs, and part at the end.

    Args:
        launch: which process this is.
        device: where it computes, see `pick_device`.
        timeout_s: how long a rank may be waited for.

    Raises:
        RunFailed: the others did not come.
    """
    world = World(rank=launch.rank, size=launch.size, local_size=launch.local_size, device=device)
    if launch.size == 1:
        yield world
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with world.lost_peers():
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            timeout=datetime.timedelta(seconds=timeout_s),
            rank=launch.rank,
            world_size=launch.size,
        )
    try:
        yield world
    finally:
        torch.distributed.destroy_process_group()
