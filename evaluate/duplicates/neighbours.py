"""Nearest neighbours among vectors, exactly: all pairs in blocks, as matrix products of whole numbers.

Pixels minus 128 are whole numbers of at most 7 bits and a sign, so a product of two vectors of up to 1024 of them stays
within 2^24 with every partial sum: a float32 holds it exactly, whatever the order of the sum. So do whole numbers whose
squares sum to less than 2^24, by Cauchy and Schwarz, however many they are: directions of features come as such. So
distances depend on no block size, number of threads, library or device, and equal ones are ordered by place.

All pairs of n and m vectors of D values take 2 n m D operations: 5.6e12 for 60,000 by 60,000 images of 28 x 28, 3.2e15
for ImageNet's 1,281,167 twice in 18 x 18 x 3. Only pairs that may be among the nearest are looked at more closely than
by their product. Memory is the vectors and one block of BLOCK_ROWS by BLOCK_COLUMNS pairs, at most 40 bytes each.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from caskit.evaluate.duplicates.pixels import MAX_VALUES
from caskit.manifests.errors import NotFinished

BLOCK_ROWS, BLOCK_COLUMNS = 1024, 8192
EXACT = 2**24  # whole numbers up to here are float32
_SHIFT = 32  # a place among the others lies below this bit of a sort key, the squared distance above
_NONE = torch.iinfo(torch.int64).max  # the key of no pair
_FIRST_COLUMNS = 512  # of the first block, whose pairs are all looked at
_SLACK = 4.0  # a product less half a squared length is below 2^25 and rounded by at most 1, its bound by at most 2


def nearest(
    queries: np.ndarray,
    others: np.ndarray,
    *,
    num: int,
    unit: float | None = None,
    same: np.ndarray | None = None,
    device: torch.device,
    block: tuple[int, int] = (BLOCK_ROWS, BLOCK_COLUMNS),
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest vectors of each query.

    Args:
        queries: [n, D] uint8 pixels, D up to 1024, or int16 of squared length below 2^24.
        others: [m, D] of the same dtype, m at least `num`, one more with `same`.
        num: how many to return.
        unit: length of the vectors that counts as 1; None for sqrt(D), which makes distances root mean squares.
        same: [n] int64, the place of each query among the others, which is then not its own neighbour; None if the
            sets are apart.
        device: where to compute.
        block: pairs computed at once, rows and columns.
        progress: told queries done and their total.
        stop: asked before every row of blocks.

    Returns:
        Distances in units (of pixels grey levels), [n, num] float64 from the nearest, and places, [n, num] int64.

    Raises:
        NotFinished: `stop` said so.
    """
    assert queries.shape[1] == others.shape[1] and queries.dtype == others.dtype, f"{queries.shape} and {others.shape}"
    assert queries.dtype != np.uint8 or queries.shape[1] <= MAX_VALUES, f"{queries.shape[1]} values"
    assert len(others) - (same is not None) >= num > 0, f"{len(others)} others, {num} asked for"
    norms = _norms(others)
    keys = np.empty((len(queries), num), dtype=np.int64)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False  # it rounds to 11 bits
    try:
        for start in range(0, len(queries), block[0]):
            if stop():
                raise NotFinished(f"duplicates: stopped after {start} of {len(queries)} images were compared")
            end = min(start + block[0], len(queries))
            own = None if same is None else same[start:end]
            keys[start:end] = _row(queries[start:end], others, norms, num, own, device, block[1]).cpu().numpy()
            progress(end, len(queries))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    squares, places = keys >> _SHIFT, keys & ((1 << _SHIFT) - 1)
    return np.sqrt(squares / (queries.shape[1] if unit is None else unit * unit)), places


def _row(
    queries: np.ndarray,
    others: np.ndarray,
    norms: np.ndarray,
    num: int,
    same: np.ndarray | None,
    device: torch.device,
    columns: int,
) -> Tensor:
    """Return the sort keys of the nearest others of some queries, ascending, [n, num] int64."""
    left = _centred(queries, device)
    left_norms = torch.from_numpy(_norms(queries)).to(device)
    best = torch.full((len(queries), num), _NONE, dtype=torch.int64, device=device)
    first = min(columns, _FIRST_COLUMNS)
    for start in (0, *range(first, len(others), columns)):
        end = min(start + columns if start else first, len(others))
        products = left @ _centred(others[start:end], device).T
        if same is not None:
            inside = np.flatnonzero((same >= start) & (same < end))
            products[inside, same[inside] - start] = -torch.inf
        lengths = torch.from_numpy(norms[start:end]).to(device)
        rows, places = _candidates(products, left_norms, lengths, best[:, -1])
        squares = left_norms[rows] + lengths[places] - 2 * products[rows, places].to(torch.int64)
        best = _merged(best, rows, (squares << _SHIFT) + places + start)
    return best


def _candidates(products: Tensor, left_norms: Tensor, lengths: Tensor, worst: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs that may be nearer than the last of the best so far, by rising row: rows and places, [c] int64.

    |x - y|^2 <= s is x.y - |y|^2 / 2 >= (|x|^2 - s) / 2; the left side is rounded, so a few pairs more are let through.
    """
    halves = products - lengths.float() / 2
    least = (left_norms - (worst >> _SHIFT)).double() / 2 - _SLACK  # very low where there is no worst yet
    found = (halves >= least.float()[:, None]).nonzero(as_tuple=True)
    return found[0], found[1]


def _merged(best: Tensor, rows: Tensor, keys: Tensor) -> Tensor:
    """Return the least keys of every row: of those so far [n, num] and of new ones [c], given by rising row."""
    if not len(rows):
        return best
    counts = torch.bincount(rows, minlength=len(best))
    first = counts.cumsum(0) - counts
    new = torch.full((len(best), int(counts.max())), _NONE, dtype=torch.int64, device=best.device)
    new[rows, torch.arange(len(rows), device=best.device) - first[rows]] = keys
    return torch.cat([best, new], dim=1).topk(best.shape[1], dim=1, largest=False, sorted=True).values


def _centred(vectors: np.ndarray, device: torch.device) -> Tensor:
    values = torch.from_numpy(np.ascontiguousarray(vectors)).to(device).float()
    return values - 128 if vectors.dtype == np.uint8 else values


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Return the squared lengths of vectors, of pixels minus 128, [n] int64."""
    found = np.empty(len(vectors), dtype=np.int64)
    shift = 128 if vectors.dtype == np.uint8 else 0
    for start in range(0, len(vectors), BLOCK_COLUMNS):
        part = vectors[start : start + BLOCK_COLUMNS].astype(np.int32) - shift
        found[start : start + BLOCK_COLUMNS] = np.einsum("nd,nd->n", part, part)
    assert not len(found) or found.max() <= EXACT, f"a squared length of {found.max()}"
    return found
