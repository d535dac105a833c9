"""The interval of a mean over test images and over trainings at once.

Each of S classifiers answers to each of N test images: two crossed random effects and their interaction, so the mean's
variance has three parts (Cornfield and Tukey 1956). With A the variance of the images' means, B that of the
classifiers' means and C the interaction's, each as part of the mean's variance, A and B both hold C once: the variance
is A + B - C. Degrees of freedom by Satterthwaite (1946), since B rests on few classifiers.
"""

import dataclasses
import math

import numpy as np

from caskit.evaluate.bootstrap import grouped, strata_of
from caskit.evaluate.intervals import LEVEL
from caskit.evaluate.quantiles import student_quantile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """A mean and the parts of its variance.

    Attributes:
        mean: over images and classifiers.
        images: A, with the classifiers as they are.
        images_degrees: its degrees of freedom.
        trainings: B, with the test images as they are; None for one classifier.
        trainings_degrees: classifiers less one.
        interaction: C.
    """

    mean: float
    images: float
    images_degrees: int
    trainings: float | None
    trainings_degrees: int
    interaction: float

    @property
    def variance(self) -> float:
        """Of the mean over other images and other trainings; over other images alone where there is one classifier."""
        if self.trainings is None:
            return self.images
        return max(self.images + self.trainings - self.interaction, self.images, self.trainings)

    @property
    def degrees(self) -> float:
        """Satterthwaite's degrees of freedom of `variance`."""
        below = self.images**2 / max(self.images_degrees, 1)
        if self.trainings is not None:
            below += self.trainings**2 / self.trainings_degrees
        return self.variance**2 / below if below > 0 else math.inf


def parts_of(values: np.ndarray, labels: np.ndarray) -> Parts:
    """Take a mean's variance apart.

    Args:
        values: [S, N] float64, a row per classifier, a column per test image.
        labels: [N] int64, the classes in ascending order, which are the strata.
    """
    num_classifiers, num = values.shape
    order, strata = grouped(labels)
    values = values[:, order]
    starts, sizes = strata_of(strata)
    by_image = values.mean(axis=0)
    by_class = np.add.reduceat(values, starts, axis=1) / sizes  # [S, strata]
    centred = by_image - np.repeat(by_class.mean(axis=0), sizes)
    weights = (sizes / num) ** 2 / sizes / np.maximum(sizes - 1, 1)
    images = float((np.add.reduceat(centred**2, starts) * weights).sum())
    degrees = num - len(sizes)
    if num_classifiers == 1:
        return Parts(
            mean=float(by_image.mean()), images=images, images_degrees=degrees, trainings=None, trainings_degrees=0,
            interaction=0.0,
        )  # fmt: skip
    residuals = values - np.repeat(by_class, sizes, axis=1) - centred
    squares = np.add.reduceat((residuals**2).sum(axis=0), starts) / (num_classifiers - 1)
    return Parts(
        mean=float(by_image.mean()),
        images=images,
        images_degrees=degrees,
        trainings=float(values.mean(axis=1).var(ddof=1) / num_classifiers),
        trainings_degrees=num_classifiers - 1,
        interaction=float((squares * weights).sum() / num_classifiers),
    )


def student_interval(mean: float, variance: float, degrees: float, *, level: float = LEVEL) -> dict[str, float]:
    """Return `{low, high, se}` of a mean by Student's t; `variance` is the mean's own."""
    se = math.sqrt(variance)
    half = se * student_quantile((1 + level) / 2, degrees) if se > 0 else 0.0
    return {"low": mean - half, "high": mean + half, "se": se}
