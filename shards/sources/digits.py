"""scikit-learn's 1797 handwritten digits, 8x8 grey: a real set that needs no download.

Split: of each class, in file order, the last fifth (rounded down) is the test split. The file holds one writer after
another, so most test digits were written by people who wrote none of the training digits.
"""

from pathlib import Path

import numpy as np

from caskit.manifests.canonical import sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.sources.source import ArraySource

FILE = "digits.csv"
# SHA-256 of the 1797 x 64 values and then the 1797 labels, one byte each: the csv's numbers, however it is packed.
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
TEST_FRACTION = 5


def load(from_path: Path | None, cache_dir: Path) -> dict[str, ArraySource]:
    """Return the train and test split. Raises InputError when scikit-learn is missing or ships other numbers."""
    if from_path is not None:
        raise InputError("digits comes with scikit-learn and takes no input folder")
    values, labels = read_values()
    pixels = ((values.astype(np.int64) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8, 1)  # 0..16 -> 0..255
    is_test = test_mask(labels)
    return {
        split: ArraySource(
            dataset="digits",
            split=split,
            classes=ClassList.from_names([str(digit) for digit in range(10)]),
            files={FILE: SHA256},
            labels=labels[chosen],
            pixels=pixels[chosen],
            numbers=np.flatnonzero(chosen),
            file=FILE,
            licence="cc-by-4.0",  # UCI, "Optical Recognition of Handwritten Digits"
        )
        for split, chosen in (("train", ~is_test), ("test", is_test))
    }


def read_values() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's values [1797, 64] uint8 in 0..16 and labels [1797] int64, checked against the pin."""
    try:
        from sklearn.datasets import load_digits  # slow, and an extra
    except ImportError as error:
        raise InputError("digits needs scikit-learn: pip install 'caskit[digits]'") from error
    digits = load_digits()
    values, labels = digits.data.astype(np.uint8), digits.target.astype(np.uint8)
    digest = sha256_hex(values.tobytes() + labels.tobytes())
    if digest != SHA256:
        raise InputError(f"digits: this scikit-learn's values have SHA-256 {digest}, expected {SHA256}")
    return values, labels.astype(np.int64)


def test_mask(labels: np.ndarray) -> np.ndarray:
    """Mark the last fifth of each class, [N] bool."""
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        mask[places[len(places) - len(places) // TEST_FRACTION :]] = True
    return mask
