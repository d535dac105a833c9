"""How fast a loaded generator draws: the figure of a dry run and of a contract check."""

import time

import numpy as np

from caskit.gen.drawing import draw_round
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
    sizes: list[int] = []
    warm, num_warm = time.perf_counter(), 0
    for start in range(0, num, size):
        positions = np.arange(start, min(start + size, num))
        drawn, _ = draw_round(generator, plan, positions, labels, ordinals, 0, judge)
        sizes += [len(encode(image, plan.codec)) for image in drawn.images]
        if start == 0 and num > size:
            warm, num_warm = time.perf_counter(), len(sizes)
    return (num - num_warm) / max(time.perf_counter() - warm, 1e-9), np.array(sizes)
