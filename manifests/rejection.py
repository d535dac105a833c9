"""Rejection as a plan states it: how many candidates per sample, and which classifier keeps the best one."""

import dataclasses
import decimal
import re
from functools import cached_property
from typing import Any

from caskit.manifests.errors import InputError

MAX_CANDIDATES = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rejection:
    """Best of k candidates by a classifier (Razavi et al. 2019, VQ-VAE-2, arXiv 1906.00446, section 3.3).

    Their number is bounded, with a threshold too: the cost is known, the labels stay balanced, and a sample still
    depends on nothing but its own streams.

    Attributes:
        candidates: drawn per sample, k; a plan without rejection has none of these, so k is at least 2.
        threshold: probability of the label from which on a candidate is taken at once and no other is drawn, above 0
            and below 1; None draws all of them. What is taken then is the first good one, not the most typical one.
        classifier_id: of the judge. It follows from the digest of its weights, its recipe, seed, training set, classes
            and channels (docs/format.md, rule 7.7), so no other classifier can stand in for it.
    """

    candidates: int
    classifier_id: str
    threshold: float | None = None

    def __post_init__(self) -> None:
        if type(self.candidates) is not int or not 2 <= self.candidates <= MAX_CANDIDATES:
            raise InputError(
                f"rejection.candidates is {self.candidates!r}, allowed: 2..{MAX_CANDIDATES}; "
                "a plan that takes the first candidate has no rejection"
            )
        if not isinstance(self.classifier_id, str) or _DIGEST.fullmatch(self.classifier_id) is None:
            raise InputError(f"rejection.classifier_id is {self.classifier_id!r}, must be 64 hex digits")
        if self.threshold is not None and (type(self.threshold) is not float or not 0 < self.threshold < 1):
            raise InputError(f"rejection.threshold is {self.threshold!r}, allowed: a number above 0 and below 1")

    @cached_property
    def lowest_score(self) -> float:
        """The natural logarithm of the threshold, correctly rounded: a score from which on a candidate is taken."""
        assert self.threshold is not None, "only a threshold has a logarithm"
        return float(decimal.Context(prec=40).ln(decimal.Decimal(self.threshold)))

    def last_attempt(self, attempt: int, score: float) -> int:
        """Return the last draw of a sample of which `attempt` was kept with `score`, under a threshold.

        It is the kept one if that was good enough, or the first that was finite after all k were not; else all k
        were drawn.
        """
        return attempt if score >= self.lowest_score else max(attempt, self.candidates - 1)

    @property
    def words(self) -> str:
        """What is kept of a sample's candidates, to follow "each image is the"."""
        if self.threshold is None:
            return f"best of {self.candidates} candidates"
        return f"first of up to {self.candidates} candidates with a probability of {self.threshold:g} (else the best)"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, those of plan.json; no threshold leaves its field out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
