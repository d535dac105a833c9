"""Rejection as a plan states it: how many candidates per sample, and which classifier keeps the best one."""

import dataclasses
import re

from caskit.manifests.errors import InputError

MAX_CANDIDATES = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rejection:
    """Best of k candidates by a classifier (Razavi et al. 2019, VQ-VAE-2, arXiv 1906.00446, section 3.3).

    A fixed number of candidates rather than a threshold: the cost is known, the labels stay balanced, and a sample
    still depends on nothing but its own streams.

    Attributes:
        candidates: drawn per sample, k; a plan without rejection has none of these, so k is at least 2.
        classifier_id: of the judge. It follows from the digest of its weights, its recipe, seed, training set, classes
            and channels (docs/format.md, rule 7.7), so no other classifier can stand in for it.
    """

    candidates: int
    classifier_id: str

    def __post_init__(self) -> None:
        if type(self.candidates) is not int or not 2 <= self.candidates <= MAX_CANDIDATES:
            raise InputError(
                f"rejection.candidates is {self.candidates!r}, allowed: 2..{MAX_CANDIDATES}; "
                "a plan that takes the first candidate has no rejection"
            )
        if not isinstance(self.classifier_id, str) or _DIGEST.fullmatch(self.classifier_id) is None:
            raise InputError(f"rejection.classifier_id is {self.classifier_id!r}, must be 64 hex digits")
