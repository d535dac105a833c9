"""Headers of many samples at once are those that `canonical_header` makes one by one."""

import numpy as np
import pytest

from caskit.shards.headers import write_heads
from caskit.shards.tar import BLOCK_BYTES, IMAGE_EXTENSIONS, canonical_header

KEYS = ["a", "c00_000000", "n01440764_1234567", "k" * 95, "A-b_9" * 19]
LABELS = [0, 9, 10**16 - 1, 123456, 1]
NBYTES = [1, 511, 512, 2**28, 4095]


@pytest.mark.parametrize("shift", range(3))
def test_heads_are_headers_and_labels(shift: int) -> None:
    extensions = [IMAGE_EXTENSIONS[(place + shift) % 3] for place in range(len(KEYS))]
    places = np.array([1, 4, 9, 12, 20])
    blocks = np.full((24, BLOCK_BYTES), 7, dtype=np.uint8)
    write_heads(blocks, places, KEYS, LABELS, extensions, np.array(NBYTES))
    for place, key, label, extension, nbytes in zip(places.tolist(), KEYS, LABELS, extensions, NBYTES, strict=True):
        digits = str(label).encode()
        assert blocks[place].tobytes() == canonical_header(f"{key}.cls".encode(), len(digits))
        assert blocks[place + 1].tobytes() == digits.ljust(BLOCK_BYTES, b"\0")
        assert blocks[place + 2].tobytes() == canonical_header(f"{key}.{extension}".encode(), nbytes)
    touched = (places[:, None] + np.arange(3)).ravel()
    assert (np.delete(blocks, touched, axis=0) == 7).all(), "nothing else is written"


def test_the_longest_name_fits() -> None:
    blocks = np.zeros((3, BLOCK_BYTES), dtype=np.uint8)
    write_heads(blocks, np.array([0]), ["k" * 96], [0], ["png"], np.array([5]))
    assert blocks[2].tobytes() == canonical_header(b"k" * 96 + b".png", 5)
