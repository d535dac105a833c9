"""Nearest neighbours of images among others, exactly: all pairs in blocks, as matrix products of whole numbers.

Pixels minus 128 are whole numbers of at most 7 bits and a sign, so a product of two vectors of up to 1024 of them stays
within 2^24 with every partial sum: a float32 holds it exactly, whatever the order of the sum. So distances depend on no
block size, number of threads, library or device, and equal ones are ordered by place.

All pairs of n and m vectors of D values take 2 n m D operations: 5.6e12 for 60,000 by 60,000 images of 28 x 28, 3.2e15
for ImageNet's 1,281,167 twice in 18 x 18 x 3. Memory is the vectors (n D + m D bytes) and one block of BLOCK_ROWS by
BLOCK_COLUMNS pairs, 40 bytes each.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from caskit.evaluate.duplicates.pixels import MAX_VALUES
from caskit.manifests.errors import NotFinished

BLOCK_ROWS, BLOCK_COLUMNS = 1024, 8192
_SHIFT = 32  # a place among the others lies below this bit of a sort key, the squared distance above


def nearest(
    queries: np.ndarray,
    others: np.ndarray,
    *,
    num: int,
    same: np.ndarray | None = None,
    device: torch.device,
    block: tuple[int, int] = (BLOCK_ROWS, BLOCK_COLUMNS),
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest vectors of each query.

    Args:
        queries: [n, D] uint8, D up to 1024.
        others: [m, D] uint8, m at least `num`, one more with `same`.
        num: how many to return.
        same: [n] int64, the place of each query among the others, which is then not its own neighbour; None if the
            sets are apart.
        device: where to compute.
        block: pairs computed at once, rows and columns.
        progress: told queries done and their total.
        stop: asked before every row of blocks.

    Returns:
        Root mean squared differences in grey levels, [n, num] float64 from the nearest, and places, [n, num] int64.

    Raises:
        NotFinished: `stop` said so.
    """
    assert queries.shape[1] == others.shape[1] <= MAX_VALUES, f"{queries.shape} and {others.shape}"
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
    return np.sqrt(squares / queries.shape[1]), places


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
    left_norms = torch.from_numpy(_norms(queries)).to(device)[:, None]
    best = torch.full((len(queries), num), torch.iinfo(torch.int64).max, dtype=torch.int64, device=device)
    for start in range(0, len(others), columns):
        end = min(start + columns, len(others))
        products = left @ _centred(others[start:end], device).T
        squares = left_norms + torch.from_numpy(norms[start:end]).to(device) - 2 * products.to(torch.int64)
        found = (squares << _SHIFT) + torch.arange(start, end, device=device)
        if same is not None:
            inside = np.flatnonzero((same >= start) & (same < end))
            found[inside, same[inside] - start] = torch.iinfo(torch.int64).max
        smallest = found.topk(min(num, end - start), dim=1, largest=False, sorted=False).values
        best = torch.cat([best, smallest], dim=1).topk(num, dim=1, largest=False, sorted=True).values
    return best


def _centred(vectors: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(vectors)).to(device).float() - 128


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Return the squared lengths of vectors minus 128, [n] int64."""
    found = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), BLOCK_COLUMNS):
        part = vectors[start : start + BLOCK_COLUMNS].astype(np.int32) - 128
        found[start : start + BLOCK_COLUMNS] = np.einsum("nd,nd->n", part, part)
    return found
