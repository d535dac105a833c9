"""The headers of many samples at once, as arrays: what `tar.canonical_header` makes for one, in half of its time."""

from collections.abc import Sequence

import numpy as np

from caskit.shards.tar import (
    IMAGE_EXTENSIONS,
    LABEL_EXTENSION,
    MAX_NAME_BYTES,
    canonical_header,
)

BLOCKS_BEFORE = 3  # of an image: the label's header and its one block, the image's header
_EXTENSION_BYTES = 5  # the longest, with its dot
_NAME_BYTES = MAX_NAME_BYTES + _EXTENSION_BYTES  # so an extension always fits behind a key; what is over is zero
_EXTENSIONS = {
    name: np.frombuffer(f".{name}".encode().ljust(_EXTENSION_BYTES, b"\0"), dtype=np.uint8)
    for name in (LABEL_EXTENSION, *IMAGE_EXTENSIONS)
}
_SIZE, _CHECKSUM = slice(124, 135), slice(148, 154)  # octal digits
_TEMPLATE = np.frombuffer(canonical_header(b"", 0), dtype=np.uint8)
_EMPTY_SUM = int(_TEMPLATE[_CHECKSUM].tobytes(), 8)  # of a header without a name, its size all zeros
_ZERO = ord("0")


def write_heads(
    blocks: np.ndarray,
    places: np.ndarray,
    keys: Sequence[str],
    labels: Sequence[int],
    extensions: Sequence[str],
    nbytes: np.ndarray,
) -> None:
    """Write what stands before the images of n samples in a tar: the label's header, its payload, the image's header.

    In place: from an array of their own they would have to be copied there.

    Args:
        blocks: [m, 512] uint8, a piece of a tar.
        places: [n] int64, each sample's first block there.
        keys: n of them, good for member names, at most 100 bytes with their extensions.
        labels: n of 0 to 10^16 - 1.
        extensions: of the images, n of IMAGE_EXTENSIONS.
        nbytes: [n] int64, sizes of the images.
    """
    num = len(keys)
    names = np.zeros((num, _NAME_BYTES), dtype=np.uint8)
    names[:, :MAX_NAME_BYTES] = np.array(keys, dtype=f"S{MAX_NAME_BYTES}").view(np.uint8).reshape(num, MAX_NAME_BYTES)
    behind = np.fromiter(map(len, keys), dtype=np.int64, count=num)[:, None] + np.arange(_EXTENSION_BYTES)
    rows = np.arange(num)[:, None]
    digits = np.array([b"%d" % label for label in labels], dtype="S16").view(np.uint8).reshape(num, 16)
    names[rows, behind] = _EXTENSIONS[LABEL_EXTENSION]
    _write_headers(blocks, places, names[:, :MAX_NAME_BYTES], np.count_nonzero(digits, axis=1))
    blocks[places + 1] = 0
    blocks[places + 1, : digits.shape[1]] = digits
    kinds = set(extensions)
    names[rows, behind] = [_EXTENSIONS[name] for name in (kinds if len(kinds) == 1 else extensions)]
    _write_headers(blocks, places + 2, names[:, :MAX_NAME_BYTES], nbytes)


def _write_headers(blocks: np.ndarray, places: np.ndarray, names: np.ndarray, nbytes: np.ndarray) -> None:
    """Write headers of members with names [n, 100], zero behind their ends, and sizes [n]."""
    sizes = _octal(nbytes, 11)
    sums = _EMPTY_SUM + names.sum(axis=1, dtype=np.int64) + sizes.sum(axis=1, dtype=np.int64) - 11 * _ZERO
    blocks[places] = _TEMPLATE
    blocks[places, :MAX_NAME_BYTES] = names
    blocks[places, _SIZE] = sizes
    blocks[places, _CHECKSUM] = _octal(sums, 6)


def _octal(numbers: np.ndarray, width: int) -> np.ndarray:
    """Spell numbers [n] in octal digits, [n, width] uint8."""
    shifts = 3 * np.arange(width - 1, -1, -1)
    digits: np.ndarray = (_ZERO + ((numbers[:, None] >> shifts) & 7)).astype(np.uint8)
    return digits
