"""Draws the images of one shard in microbatches whose composition depends on the plan alone."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from caskit.gen.family import Generator
from caskit.gen.streams import Streams
from caskit.manifests.errors import RunFailed
from caskit.manifests.plan import Plan
from caskit.manifests.seeds import stream_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """Images of one microbatch that were finite.

    Attributes:
        positions: [n] int64, their places in the shard.
        attempt: 0 unless earlier draws of these samples were not finite.
        images: [n, H, W, C] uint8.
    """

    positions: np.ndarray
    attempt: int
    images: np.ndarray


def draw_shard(generator: Generator, plan: Plan, labels: np.ndarray, ordinals: np.ndarray) -> Iterator[Drawn]:
    """Draw the samples of a shard, microbatch by microbatch; those that were not finite come again at the end.

    Args:
        generator: a loaded model.
        plan: decides size and padding of microbatches and how often a sample is drawn.
        labels: [n] int64, of the shard's samples in sample_id order.
        ordinals: [n] int64, of the same.

    Raises:
        RunFailed: a sample was not finite in `plan.max_attempts` draws, or the generator broke its contract.
    """
    open_positions = np.arange(len(labels))
    for attempt in range(plan.max_attempts):
        not_finite = []
        for start in range(0, len(open_positions), plan.microbatch_size):
            positions = open_positions[start : start + plan.microbatch_size]
            images, finite = draw_microbatch(generator, plan, labels[positions], ordinals[positions], attempt)
            if finite.any():
                yield Drawn(positions=positions[finite], attempt=attempt, images=images[finite])
            not_finite.append(positions[~finite])
        open_positions = np.concatenate(not_finite)
        if not len(open_positions):
            return
    first = int(open_positions[0])
    raise RunFailed(
        f"output of {plan.family} was not finite in {plan.max_attempts} draws of {len(open_positions)} samples, "
        f"first class {plan.classes.ids[int(labels[first])]}, ordinal {int(ordinals[first])}"
    )


def draw_microbatch(
    generator: Generator, plan: Plan, labels: np.ndarray, ordinals: np.ndarray, attempt: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw up to `plan.microbatch_size` samples in a batch of exactly that size.

    Floating point depends on the batch's shape, so a short batch is padded by repeating its last sample, and what the
    padding gave is thrown away.

    Returns:
        images [n, H, W, C] uint8 and finite [n] bool.
    """
    num = len(labels)
    assert 0 < num <= plan.microbatch_size, f"microbatch of {num} samples, at most {plan.microbatch_size}"
    keys = [
        stream_key(plan.seed, int(label), int(ordinal), attempt)
        for label, ordinal in zip(labels, ordinals, strict=True)
    ]
    padding = plan.microbatch_size - num
    padded_labels = np.concatenate([labels, np.repeat(labels[-1:], padding)]).astype(np.int64)
    images, finite = generator.sample(padded_labels, Streams([*keys, *[keys[-1]] * padding]))
    check_output(images, finite, plan)
    return images[:num], finite[:num]


def check_output(images: np.ndarray, finite: np.ndarray, plan: Plan) -> None:
    """Raise RunFailed unless a generator returned what its interface promises for a whole microbatch."""
    shape = (plan.microbatch_size, plan.height, plan.width, plan.channels)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != shape:
        returned = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise RunFailed(f"family {plan.family}: sample() returned images {returned}, must be uint8 {shape}")
    if not isinstance(finite, np.ndarray) or finite.dtype != np.bool_ or finite.shape != shape[:1]:
        raise RunFailed(f"family {plan.family}: sample() must return finite as a bool array of shape {shape[:1]}")
