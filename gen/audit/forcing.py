"""The teacher-forced check: one pass over recorded codes, parallel over positions, instead of drawing them again.

Each code was drawn by inverting the CDF of its distribution, given all codes before it, at a uniform of the sample's
own stream. So the uniform must lie in the recorded code's interval, and the codes must decode to the stored pixels.
"""

from collections.abc import Sequence

import numpy as np

from caskit.gen.audit.evidence import Item
from caskit.gen.audit.pixels import compare_pixels
from caskit.gen.audit.report import Findings
from caskit.gen.family import CodedGenerator
from caskit.gen.streams import Streams
from caskit.manifests.plan import Plan
from caskit.manifests.seeds import stream_key


class TeacherForcing:
    """Checks samples with recorded codes, `batch_size` at a time, each batch padded to that size by its last sample.

    Args:
        generator: with codes.
        plan: of the replica.
        batch_size: any; bits may depend on it, which epsilon and the tolerance are for.
        epsilon: see AuditConfig.
        tolerance: of pixels, in grey levels.
        findings: gets the faults.
    """

    def __init__(
        self,
        generator: CodedGenerator,
        plan: Plan,
        *,
        batch_size: int,
        epsilon: float,
        tolerance: int,
        findings: Findings,
    ) -> None:
        self._generator, self._plan, self._batch_size = generator, plan, batch_size
        self._epsilon, self._tolerance, self._findings = epsilon, tolerance, findings

    def check(self, items: Sequence[Item]) -> list[bool]:
        """Check up to `batch_size` samples; says which of them passed."""
        labels, streams = self._inputs(items)
        padded = [*items, *[items[-1]] * (self._batch_size - len(items))]
        codes = {name: np.stack([item.codes[name] for item in padded]) for name in items[0].codes}
        excess = self._generator.score_codes(labels, streams, codes)
        unknown = np.zeros(len(padded), dtype=np.bool_)
        for name in codes:
            unknown |= ~np.isfinite(excess[name]).reshape(len(padded), -1).all(axis=1)
        for maps in codes.values():
            maps[unknown] = 0  # there is nothing that they decode to
        images, finite = self._generator.decode_codes(labels, codes)
        passed = []
        for place, item in enumerate(items):
            checks = [self._check_interval(item, name, excess[name][place]) for name in codes]
            if not unknown[place]:
                checks.append(self._check_image(item, images[place], bool(finite[place]), at_fault=not all(checks)))
            passed.append(all(checks))
        self._findings.count(codes=sum(maps[0].size for maps in codes.values()) * len(items))
        return passed

    def check_attempts(self, items: Sequence[Item]) -> None:
        """Draw again what came before a recorded attempt: it must not have been finite, or the maker chose.

        With rejection these are the rounds before the attempt's own, under a threshold all attempts if the first k
        are among them; which candidate of a round is the best or the first good one, only a redraw tells.
        """
        size, rejection = self._plan.num_candidates, self._plan.rejection

        def start(attempt: int) -> int:
            return attempt if attempt >= size and rejection and rejection.threshold else attempt // size * size

        before = [(item, attempt) for item in items for attempt in range(start(item.attempt))]
        for first in range(0, len(before), self._batch_size):
            part = before[first : first + self._batch_size]
            labels, streams = self._inputs([item for item, _ in part], [attempt for _, attempt in part])
            _, finite = self._generator.sample(labels, streams)
            for (item, attempt), was_finite in zip(part, finite.tolist(), strict=False):
                if was_finite:
                    message = f"attempt {item.attempt} is recorded, but attempt {attempt} before it was finite"
                    self._findings.fail(kind="attempt", key=item.key, message=message)
            self._findings.count(earlier_attempts=len(part))

    def _inputs(self, items: Sequence[Item], attempts: Sequence[int] | None = None) -> tuple[np.ndarray, Streams]:
        """Return labels and streams of a whole batch."""
        drawn = [item.attempt for item in items] if attempts is None else attempts
        keys = [stream_key(self._plan.seed, i.label, i.ordinal, a) for i, a in zip(items, drawn, strict=True)]
        labels = [item.label for item in items]
        padding = self._batch_size - len(items)
        return np.array([*labels, *labels[-1:] * padding], dtype=np.int64), Streams([*keys, *keys[-1:] * padding])

    def _check_interval(self, item: Item, level: str, excess: np.ndarray) -> bool:
        """Check one level of one sample; `excess` is [h, w]."""
        self._findings.excess(float(np.where(np.isnan(excess), np.inf, excess).max()))
        self._findings.count(codes_outside_within_epsilon=int(((excess > 0) & (excess <= self._epsilon)).sum()))
        outside = ~(excess <= self._epsilon)  # a NaN lies outside
        if not outside.any():
            return True
        row, column = (int(place) for place in np.argwhere(outside)[0])
        value, count = float(excess[row, column]), int(outside.sum())
        code = int(item.codes[level][row, column])
        reason = f"its uniform lies {value:.3g} outside the interval of code {code}, allowed {self._epsilon:g}"
        if not np.isfinite(value):
            reason = f"code {code} is none that the model has"
        more = f" ({count} such positions)" if count > 1 else ""
        self._findings.fail(
            kind="interval",
            key=item.key,
            level=level,
            row=row,
            column=column,
            excess=value if np.isfinite(value) else None,
            count=count,
            message=f"{level} row {row}, column {column}: {reason}{more}",
        )
        return False

    def _check_image(self, item: Item, image: np.ndarray, finite: bool, *, at_fault: bool) -> bool:
        if not finite:
            message = "its codes decode to output that is not finite; the plan draws such a sample again"
            self._findings.fail(kind="attempt", key=item.key, message=message)
            return False
        return compare_pixels(
            item,
            image,
            self._plan.codec,
            self._tolerance,
            self._findings,
            "its codes decode to",
            at_fault=at_fault,
        )
