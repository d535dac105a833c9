"""How fast a loaded generator draws: the figure of a dry run and of a contract check."""

import time
from collections.abc import Iterator

import numpy as np

from caskit.gen.drawing import draw_round, draw_shard
from caskit.gen.family import Generator
from caskit.gen.rejection import Judge
from caskit.manifests.plan import Plan
from caskit.shards.codecs import encode

NUM_TIMED = 3


def time_microbatches(generator: Generator, judge: Judge | None, plan: Plan) -> tuple[float, np.ndarray]:
    """Draw and encode the first few microbatches of a plan under its numerics.

    Returns:
        Images per second after one microbatch of warming up, and encoded sizes [n] int64.
    """
    size = plan.microbatch_size
    num = min(plan.num, (NUM_TIMED + 1) * size)
    labels, ordinals = plan.draw_order.assign(0, num)
    num_warm = size if num > size else 0
    warm, timed = slice(0, num_warm), slice(num_warm, num)
    for _ in _images(generator, judge, plan, labels[warm], ordinals[warm]):
        pass
    began = time.perf_counter()
    images = _images(generator, judge, plan, labels[timed], ordinals[timed])
    sizes = [len(encode(image, plan.codec)) for image in images]
    return (num - num_warm) / max(time.perf_counter() - began, 1e-9), np.array(sizes)


def _images(
    generator: Generator, judge: Judge | None, plan: Plan, labels: np.ndarray, ordinals: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield what samples look like, drawn once; with a threshold as often as it asks for."""
    if plan.rejection is not None and plan.rejection.threshold is not None:
        for drawn in draw_shard(generator, plan, labels, ordinals, judge):
            yield from drawn.images
        return
    for start in range(0, len(labels), plan.microbatch_size):
        positions = np.arange(start, min(start + plan.microbatch_size, len(labels)))
        yield from draw_round(generator, plan, positions, labels, ordinals, 0, judge)[0].images
