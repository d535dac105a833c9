"""Reading a generator from a checkpoint."""

from collections.abc import Callable
from typing import TypeVar

import torch

from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.checkpoint import Checkpoint
from caskit.manifests.errors import InputError

Network = TypeVar("Network", bound=GeneratorNetwork)


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
    with torch.device("meta"):
        generator = build()
    expected = {name: tensor.shape for name, tensor in generator.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if wrong:
        raise InputError(f"{checkpoint.path}: tensors do not go with the config, first {wrong[0]}")
    generator.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return generator.eval().requires_grad_(False)
