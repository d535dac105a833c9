"""How many samples each class gets and in which order a replica draws them.

One rule for every histogram: with B the largest class quota there are B blocks, and block b holds
`ceil((b+1) q / B) - ceil(b q / B)` samples (none or one) of a class with quota q, in an order seeded by (seed, b).
So every prefix of whole blocks is the histogram in small, and the place of a sample is found in O(classes).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from caskit.manifests.errors import InputError
from caskit.manifests.seeds import MAX_SEED, block_words

MAX_NUM = 2**40  # ordinals and products of a quota and a block number must stay inside int64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quota:
    """A label histogram with the order in which its samples are drawn.

    Attributes:
        histogram: samples per class, in label order.
        seed: the plan's seed; it orders the classes inside each block.
    """

    histogram: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not self.histogram or min(self.histogram) < 0 or sum(self.histogram) == 0:
            raise InputError("label histogram must hold at least one class, no negative counts and one sample")
        if sum(self.histogram) > MAX_NUM:
            raise InputError(f"label histogram holds {sum(self.histogram)} samples, at most {MAX_NUM} are supported")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed is {self.seed}, must be between 0 and {MAX_SEED}")

    @property
    def num(self) -> int:
        """Number of samples."""
        return sum(self.histogram)

    @property
    def num_blocks(self) -> int:
        """Number of blocks, the largest class quota."""
        return max(self.histogram)

    @functools.cached_property
    def _counts(self) -> np.ndarray:  # [num_classes] int64
        return np.asarray(self.histogram, dtype=np.int64)

    def drawn_before(self, block: int) -> np.ndarray:
        """Return the samples per class in the blocks before `block`: `ceil(block * q / B)`, [classes] int64."""
        drawn: np.ndarray = -(-block * self._counts // self.num_blocks)
        return drawn

    def block_labels(self, block: int) -> np.ndarray:
        """Return the labels of one block in draw order, [0..classes] int64."""
        present = self.drawn_before(block + 1) - self.drawn_before(block) > 0
        order = np.argsort(block_words(self.seed, block, len(self.histogram)), kind="stable")
        labels: np.ndarray = order[present[order]]
        return labels

    def _block_of(self, sample_id: int) -> int:
        low, high = 0, self.num_blocks - 1  # the last block whose first sample is not after sample_id
        while low < high:
            middle = (low + high + 1) // 2
            if int(self.drawn_before(middle).sum()) <= sample_id:
                low = middle
            else:
                high = middle - 1
        return low

    def assign(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and ordinals of the samples `start <= sample_id < stop`.

        Costs O(classes log B) to find the place and O(classes) per block touched.

        Returns:
            labels [stop - start] int64 and ordinals [stop - start] int64 (the sample's number inside its class).
        """
        assert 0 <= start < stop <= self.num, f"sample range {start}:{stop} outside 0:{self.num}"
        block = self._block_of(start)
        first = int(self.drawn_before(block).sum())
        labels, ordinals = [], []
        while first < stop:
            block_labels = self.block_labels(block)
            labels.append(block_labels)
            ordinals.append(self.drawn_before(block)[block_labels])
            first += len(block_labels)
            block += 1
        total = sum(len(part) for part in labels)
        window = slice(start - (first - total), stop - (first - total))
        return np.concatenate(labels)[window], np.concatenate(ordinals)[window]


def balanced(num: int, num_classes: int, seed: int) -> Quota:
    """Spread `num` samples over the classes so that no two classes differ by more than one.

    The classes that get one more are the first of the last block's order, so sample i has the same label and ordinal
    for every `num` above i: a longer replica starts with the shorter one's samples.

    Raises:
        InputError: fewer samples than classes.
    """
    if num < num_classes:
        raise InputError(f"num is {num}, fewer than the {num_classes} classes; a balanced replica needs one per class")
    if num > MAX_NUM:
        raise InputError(f"num is {num}, at most {MAX_NUM} samples are supported")
    each, extra = divmod(num, num_classes)
    histogram = np.full(num_classes, each, dtype=np.int64)
    if extra:
        last_block = Quota(histogram=(each + 1,) * num_classes, seed=seed).block_labels(each)
        histogram[last_block[:extra]] += 1
    return Quota(histogram=tuple(int(n) for n in histogram), seed=seed)


def like(histogram: Sequence[int], seed: int, *, num: int | None = None) -> Quota:
    """Follow a real set's label histogram (the paper's protocol), scaled to `num` samples by largest remainders.

    Raises:
        InputError: `num` is so small that a class of the real set would get no sample.
    """
    total = sum(histogram)
    if num is None or num == total:
        return Quota(histogram=tuple(histogram), seed=seed)
    if num < 1 or total < 1:
        raise InputError(f"num is {num} for a real histogram of {total} samples, both must be positive")
    scaled = [count * num // total for count in histogram]
    remainders = [count * num % total for count in histogram]
    by_remainder = sorted(range(len(histogram)), key=lambda label: (-remainders[label], label))
    for label in by_remainder[: num - sum(scaled)]:
        scaled[label] += 1
    emptied = [label for label, count in enumerate(histogram) if count > 0 and scaled[label] == 0]
    if emptied:
        raise InputError(f"num is {num}, too small for the real histogram: class {emptied[0]} would get no sample")
    return Quota(histogram=tuple(scaled), seed=seed)
