"""Reading a generator from a checkpoint."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.checkpoint import Checkpoint
from caskit.manifests.errors import InputError

Network = TypeVar("Network", bound=GeneratorNetwork)


class UndrawnWeights(TorchFunctionMode):
    """Leaves weights undrawn that layers would draw as they are built: those of a file come in their place.

    On the meta device an embedding's `normal_` imports torch._dynamo, and with it what that knows: sympy, pandas,
    scikit-learn. A worker took 150 MB and seconds for weights that it never draws.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is where it was to be filled with random numbers."""
        if getattr(func, "__module__", "") == nn.init.__name__ or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def read_generator(checkpoint: Checkpoint, build: Callable[[], Network], image_size: int) -> Network:
    """Build the generator of a checkpoint, in evaluation and on the CPU.

    Args:
        checkpoint: its tensors have the names of the generator's.
        build: makes one of the layers that the checkpoint's config says; called on the meta device.
        image_size: sides of its images.

    Raises:
        InputError: the tensors, or the images that the record promises, are not those of such a generator.
    """
    record = checkpoint.record
    sides = (record["height"], record["width"])
    if sides != (image_size, image_size):
        raise InputError(f"{checkpoint.path}: says images of {sides[0]}x{sides[1]}, its layers give {image_size}")
    tensors = checkpoint.tensors()
    with torch.device("meta"), UndrawnWeights():
        generator = build()
    expected = {name: tensor.shape for name, tensor in generator.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if wrong:
        raise InputError(f"{checkpoint.path}: tensors do not go with the config, first {wrong[0]}")
    generator.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return generator.eval().requires_grad_(False)
