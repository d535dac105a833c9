"""Precision, recall, density and coverage by balls around each image's nearest neighbours, in blocks of rows.

Precision and recall: Kynkaanniemi et al. 2019, section 2. Density and coverage: Naeem et al. 2020, section 3. The same
numbers as of their package prdc, which keeps all distances of 10,000 images at once in several gigabytes.
"""

import numpy as np

NEAREST_K = 5  # Naeem et al.'s
_BLOCK = 1000  # rows of distances at once


def neighbour_radii(features: np.ndarray, nearest_k: int) -> np.ndarray:
    """Return how far the k-th nearest other point is, of points [N, D] with N > k; [N] float32."""
    assert len(features) > nearest_k, "there are k others"
    radii = np.empty(len(features), dtype=np.float32)
    for start in range(0, len(features), _BLOCK):
        block = _distances(features[start : start + _BLOCK], features)
        rows = np.arange(len(block))
        block[rows, start + rows] = 0.0  # a point and itself, whatever rounding says
        radii[start : start + _BLOCK] = np.partition(block, nearest_k, axis=1)[:, nearest_k]
    return radii


def prdc(real: np.ndarray, fake: np.ndarray, *, nearest_k: int = NEAREST_K) -> dict[str, float]:
    """Return precision, recall, density and coverage of fake [M, D] by real [N, D], both float32 and more than k."""
    real_radii, fake_radii = neighbour_radii(real, nearest_k), neighbour_radii(fake, nearest_k)
    inside = np.zeros(len(fake), dtype=np.int64)  # in how many balls of real images each fake one is
    recalled = covered = 0
    for start in range(0, len(real), _BLOCK):
        block = _distances(real[start : start + _BLOCK], fake)
        radii = real_radii[start : start + _BLOCK]
        inside += (block < radii[:, None]).sum(axis=0)
        recalled += int((block < fake_radii[None, :]).any(axis=1).sum())
        covered += int((block.min(axis=1) < radii).sum())
    return {
        "precision": float((inside > 0).mean()),
        "recall": recalled / len(real),
        "density": float(inside.mean() / nearest_k),
        "coverage": covered / len(real),
    }


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Euclidean distances [n, m] float32 of [n, D] and [m, D], computed in float64."""
    ours, theirs = first.astype(np.float64), second.astype(np.float64)
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)[None, :] - 2 * (ours @ theirs.T)
    distances: np.ndarray = np.sqrt(np.maximum(squares, 0.0)).astype(np.float32)
    return distances
