"""Running statistics of batch norms over the parts of a step, whichever process computes a part."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from caskit.train.distributed import World


class RunningStatistics:
    """One update per step: each part moves the statistics from where the step found them, the mean of all is kept.

    So does a step on several devices that each see a part and average their statistics; one after the other, the parts
    would move them by another momentum, and by an order that depends on the number of processes. With one part nothing
    is touched.

    Args:
        model: the network.
        num_parts: of a step, of all processes together.
    """

    def __init__(self, model: nn.Module, num_parts: int) -> None:
        self._num_parts = num_parts
        self._tensors: list[Tensor] = []
        self._counters: list[Tensor] = []  # a part adds one, the same everywhere
        if num_parts > 1:
            for norm in (module for module in model.modules() if isinstance(module, _BatchNorm)):
                self._tensors += [tensor for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
                self._counters += [] if norm.num_batches_tracked is None else [norm.num_batches_tracked]
        self._found = [tensor.clone() for tensor in (*self._tensors, *self._counters)]
        self._sums = [torch.zeros_like(tensor) for tensor in self._tensors]

    @torch.no_grad()
    def begin(self) -> None:
        """Put the statistics back to where the step found them, before a part."""
        for tensor, found in zip((*self._tensors, *self._counters), self._found, strict=True):
            tensor.copy_(found)

    @torch.no_grad()
    def end(self) -> None:
        """Take in what a part left."""
        for total, tensor in zip(self._sums, self._tensors, strict=True):
            total.add_(tensor)

    @torch.no_grad()
    def write(self, world: World) -> None:
        """Leave the mean over the parts of all processes, the same bits in each."""
        if not self._tensors:
            return
        flat = world.sum_(torch.cat([total.reshape(-1) for total in self._sums])).div_(self._num_parts)
        parts = torch.split(flat, [tensor.numel() for tensor in self._tensors])
        for tensor, part in zip(self._tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
