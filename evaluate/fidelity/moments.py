"""Sums over images that IS and FID follow from: a million images take no more memory than one."""

import numpy as np

SPLITS = 10  # of the inception score (Salimans et al. 2016), as torch-fidelity's default
SPLIT_SEED = 2020  # torch-fidelity's, of the permutation before the splits


class Moments:
    """Mean and covariance of vectors that come in batches; float64, stable by centring (Chan et al. 1983)."""

    def __init__(self, dim: int) -> None:
        self.num = 0
        self.mean = np.zeros(dim)
        self._scatter = np.zeros((dim, dim))

    def add(self, features: np.ndarray) -> None:
        """Take vectors [n, D]."""
        if not len(features):
            return
        values = features.astype(np.float64)
        mean = values.mean(axis=0)
        centred, apart = values - mean, mean - self.mean
        total = self.num + len(values)
        self._scatter += centred.T @ centred
        if self.num:
            self._scatter += np.outer(apart, apart) * (self.num * len(values) / total)
        self.mean = self.mean + apart * (len(values) / total)
        self.num = total

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, [D, D] float64; of two vectors or more."""
        assert self.num > 1, "a covariance needs two vectors"
        return self._scatter / (self.num - 1)


class ScoreSums:
    """The inception score of groups of images: exp(mean KL(p(y|x) || p(y))), p(y) being the mean of the group.

    Salimans et al. 2016, section 4. KL = sum p log p - sum p log q, whose mean needs sums over the group only.
    """

    def __init__(self, num_groups: int, num_logits: int) -> None:
        self.counts = np.zeros(num_groups, dtype=np.int64)
        self._probabilities = np.zeros((num_groups, num_logits))
        self._negentropies = np.zeros(num_groups)

    def add(self, groups: np.ndarray, logits: np.ndarray) -> None:
        """Take images of groups [n] int64 with logits [n, K]."""
        values = logits.astype(np.float64)
        values = values - values.max(axis=1, keepdims=True)
        log_p = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        np.add.at(self._probabilities, groups, p)
        np.add.at(self._negentropies, groups, (p * log_p).sum(axis=1))
        self.counts += np.bincount(groups, minlength=len(self.counts))

    def scores(self) -> np.ndarray:
        """Return the score of every group, [groups] float64; nan for an empty one."""
        found = np.full(len(self.counts), np.nan)
        for group in np.flatnonzero(self.counts):
            mean = self._probabilities[group] / self.counts[group]
            entropy = (mean[mean > 0] * np.log(mean[mean > 0])).sum()
            found[group] = np.exp(self._negentropies[group] / self.counts[group] - entropy)
        return found


def splits_of(num: int) -> np.ndarray:
    """Return the split of every image, [num] int64: torch-fidelity's permutation, cut into SPLITS parts."""
    permutation = np.random.RandomState(SPLIT_SEED).permutation(num)
    splits = np.empty(num, dtype=np.int64)
    for split in range(SPLITS):
        splits[permutation[split * num // SPLITS : (split + 1) * num // SPLITS]] = split
    return splits
