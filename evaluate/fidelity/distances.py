"""Distances between two sets of features, by torch-fidelity's functions."""

import dataclasses

import numpy as np

from caskit.evaluate.fidelity.statistics import Statistics
from caskit.manifests.errors import InputError

SEED = 2020  # torch-fidelity's, of KID's subsets
KID_SUBSETS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """A metric's value, and its deviation over splits or subsets where it has one."""

    value: float
    sd: float | None = None


def frechet(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> Value:
    """Return the Frechet distance of two Gaussians (Heusel et al. 2017, eq. 6), each a mean [D] and a covariance."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    ours, theirs = ({"mu": mean, "sigma": covariance} for mean, covariance in (first, second))
    return Value(value=float(fid_statistics_to_metric(ours, theirs, False)[KEY_METRIC_FID]))


def kernel(first: np.ndarray, second: np.ndarray, *, subset_size: int) -> Value:
    """Return the kernel distance of features [N, D] and [M, D]: mean and deviation over subsets of both.

    Binkowski et al. 2018: the unbiased MMD^2 with kernel (x.y / D + 1)^3, over KID_SUBSETS subsets of subset_size.
    """
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    if not 2 <= subset_size <= min(len(first), len(second)):
        raise InputError(f"kid: subsets of {subset_size} of {len(first)} and {len(second)} images")
    found = kid_features_to_metric(
        torch.from_numpy(first),
        torch.from_numpy(second),
        kid_subsets=KID_SUBSETS,
        kid_subset_size=subset_size,
        rng_seed=SEED,
        verbose=False,
    )
    return Value(value=found[KEY_METRIC_KID_MEAN], sd=found[KEY_METRIC_KID_STD])


def kernel_of_all(first: np.ndarray, second: np.ndarray) -> Value:
    """Return the same over all images at once, as many of the first set as of the second; no draw, no deviation."""
    from torch_fidelity.metric_kid import kernel_mmd

    num = min(len(first), len(second))
    ours, theirs = (features[:num].astype(np.float64) for features in (first, second))
    return Value(value=float(kernel_mmd(ours, theirs)))


def inception_score(statistics: Statistics) -> Value:
    """Return mean and deviation of the inception score over its splits, all of which have images."""
    scores = statistics.split_scores
    assert scores is not None and np.isfinite(scores).all(), "asked for only where there are logits and images"
    return Value(value=float(scores.mean()), sd=float(scores.std()))
