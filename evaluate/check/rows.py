"""Rows of predictions that contradict themselves: what an edit leaves behind, even where digests were made again."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from caskit.evaluate.predict import NUM_TOP

TOLERANCE = 1e-9  # of sums of probabilities


def contradictions(predictions: pa.Table, num_classes: int) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for every row that no classifier of so many classes gives.

    The label's place among the first five is its rank, with its log-probability; log-probabilities fall, equal ones by
    rising label; probabilities add up to no more than 1, and their squares to what they can.
    """
    keys = predictions.column("key")
    labels, ranks = (predictions.column(name).to_numpy() for name in ("label", "rank"))
    log_probability = predictions.column("log_probability").to_numpy()
    squares = predictions.column("sum_squared_probabilities").to_numpy()
    width, num = min(NUM_TOP, num_classes), predictions.num_rows

    def told(wrong: np.ndarray, message: str) -> Iterator[tuple[str, str]]:
        for row in np.flatnonzero(wrong):
            yield keys[int(row)].as_py(), message

    lists = [predictions.column(name).combine_chunks() for name in ("top5_ids", "top5_log_probabilities")]
    lengths = [one.value_lengths().to_numpy() for one in lists]
    short = (lengths[0] != width) | (lengths[1] != width)
    outside = (labels < 0) | (labels >= num_classes) | (ranks < 0) | (ranks >= num_classes)
    yield from told(short, f"does not hold the {width} classes ranked first")
    yield from told(outside, f"label or rank is outside the {num_classes} classes")
    if short.any() or outside.any():
        return
    first, values = (one.flatten().to_numpy().reshape(num, width) for one in lists)
    yield from told(((first < 0) | (first >= num_classes)).any(axis=1), "a class ranked first is outside the classes")
    yield from told(~np.isfinite(values).all(axis=1), "a log-probability is not finite")
    at, value = (first == labels[:, None]), np.minimum(ranks, width - 1)
    inside = ranks < width
    place = np.where(at.any(axis=1), at.argmax(axis=1), width)
    yield from told(
        place != np.minimum(ranks, width), "the rank is not the label's place among the classes ranked first"
    )
    own = values[np.arange(num), value]
    yield from told(inside & (place == ranks) & (own != log_probability), "the label has two log-probabilities")
    later, earlier = values[:, 1:], values[:, :-1]
    falling = (later < earlier) | ((later == earlier) & (first[:, 1:] > first[:, :-1]))
    yield from told(~falling.all(axis=1), "the classes ranked first are not in the order of their probabilities")
    yield from told(~inside & (log_probability > values[:, -1]), "the label has a higher probability than its rank")
    chances = np.exp(np.minimum(values, 1.0))
    known = chances.sum(axis=1) + np.where(inside, 0.0, np.exp(np.minimum(log_probability, 1.0)))
    yield from told(known > 1 + TOLERANCE, "probabilities add up to more than 1")
    least = (chances**2).sum(axis=1)
    most = least + np.maximum(0.0, 1 - chances.sum(axis=1)) * chances[:, -1]
    wrong = (squares < least - TOLERANCE) | (squares > most + TOLERANCE)
    yield from told(wrong, "the sum of squared probabilities does not fit the probabilities")
