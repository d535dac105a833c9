"""Two sets of samples as one: all of either, the fewer repeated until both have their share."""

import numpy as np

from caskit.gen.autoregressive.fitting import Maps


class Mixture:
    """Which samples the places of a mixture stand for.

    Attributes:
        first, second: [n] and [m] int64, the samples of either set, each as often as the others but for one.
    """

    def __init__(self, num_first: int, num_second: int, share_second: float) -> None:
        """Take the sizes of two sets, and the share of the second one in the mixture, above 0 and below 1."""
        assert num_first > 0 and num_second > 0 and 0 < share_second < 1, "two sets and their shares"
        wanted = share_second / (1 - share_second)
        self.first = np.resize(np.arange(num_first), max(num_first, round(num_second / wanted)))
        self.second = np.resize(np.arange(num_second), max(num_second, round(num_first * wanted)))

    def __len__(self) -> int:
        """Places, those of the first set before those of the second."""
        return len(self.first) + len(self.second)

    def of(self, first: Maps, second: Maps) -> "Mixed":
        """Return the mixture of values of either set's samples, [N, ...] and [M, ...] with equal rows."""
        return Mixed(self, first, second)


class Mixed:
    """Values of a mixture's places, read from two arrays where they are asked for."""

    def __init__(self, mixture: Mixture, first: Maps, second: Maps) -> None:
        self._mixture, self._first, self._second = mixture, first, second

    def __getitem__(self, ids: np.ndarray, /) -> np.ndarray:
        """Return the values of places [n] int64, [n, ...]."""
        mixture = self._mixture
        in_first = ids < len(mixture.first)
        firsts = self._first[mixture.first[ids[in_first]]]
        seconds = self._second[mixture.second[ids[~in_first] - len(mixture.first)]]
        values = np.empty((len(ids), *firsts.shape[1:]), dtype=firsts.dtype)
        values[in_first], values[~in_first] = firsts, seconds
        return values
