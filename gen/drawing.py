"""Draws the images of one shard in microbatches whose composition depends on the plan alone."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from caskit.gen.codes import Codes, Microbatch, draw
from caskit.gen.family import Generator
from caskit.gen.rejection import Best, Judge
from caskit.gen.streams import Streams
from caskit.manifests.errors import RunFailed
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.rejection import Rejection
from caskit.manifests.seeds import stream_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """Images of one microbatch that were finite.

    Attributes:
        positions: [n] int64, their places in the shard.
        attempts: [n] int64, which draw of its sample each image is; 0 unless it was the first that was finite, or the
            best of several.
        images: [n, H, W, C] uint8.
        scores: [n] float64, the judge's, None without rejection.
        codes: the maps [n, h, w] uint16 that they were decoded from, per level, if the plan records them.
    """

    positions: np.ndarray
    attempts: np.ndarray
    images: np.ndarray
    scores: np.ndarray | None = None
    codes: Codes | None = None

    def take(self, chosen: np.ndarray) -> "Drawn":
        """Return those of the samples where `chosen` [n] bool is true."""
        return Drawn(
            positions=self.positions[chosen],
            attempts=self.attempts[chosen],
            images=self.images[chosen],
            scores=None if self.scores is None else self.scores[chosen],
            codes=None if self.codes is None else {name: maps[chosen] for name, maps in self.codes.items()},
        )


def draw_shard(
    generator: Generator, plan: Plan, labels: np.ndarray, ordinals: np.ndarray, judge: Judge | None = None
) -> Iterator[Drawn]:
    """Draw the samples of a shard, microbatch by microbatch; those that were not finite come again at the end.

    Args:
        generator: a loaded model.
        plan: decides size and padding of microbatches and how often a sample is drawn.
        labels: [n] int64, of the shard's samples in sample_id order.
        ordinals: [n] int64, of the same.
        judge: of the plan's rejection, if it has one.

    Raises:
        RunFailed: a sample was not finite in `plan.max_attempts` draws, or the generator broke its contract.
    """
    assert (judge is None) == (plan.rejection is None), "a judge goes with a plan that asks for one"
    if judge is not None and plan.rejection is not None and plan.rejection.threshold is not None:
        yield from _draw_until_good(generator, plan, plan.rejection, labels, ordinals, judge)
        return
    open_positions = np.arange(len(labels))
    for number in range(plan.max_attempts):
        not_finite = []
        for start in range(0, len(open_positions), plan.microbatch_size):
            positions = open_positions[start : start + plan.microbatch_size]
            drawn, finite = draw_round(generator, plan, positions, labels, ordinals, number, judge)
            if finite.any():
                yield drawn.take(finite)
            not_finite.append(positions[~finite])
        open_positions = np.concatenate(not_finite)
        if not len(open_positions):
            return
    raise _never_finite(plan, open_positions, labels, ordinals)


def _draw_until_good(
    generator: Generator, plan: Plan, rejection: Rejection, labels: np.ndarray, ordinals: np.ndarray, judge: Judge
) -> Iterator[Drawn]:
    """Draw attempt after attempt of the samples of a shard that are still open, as `draw_shard` has it.

    A sample closes with the first candidate that reaches the threshold; after `candidates` draws the best one is kept,
    if any was finite. Samples that are open are drawn together, in sample_id order, so that few batches are padded.
    """
    positions, leading = np.arange(len(labels)), None
    for attempt in range(plan.num_attempts):
        rest: list[tuple[np.ndarray, Best]] = []
        for start in range(0, len(positions), plan.microbatch_size):
            part = slice(start, start + plan.microbatch_size)
            some = positions[part]
            best = Best(len(some), plan) if leading is None else leading.take(part)
            candidates = draw_microbatch(generator, plan, labels[some], ordinals[some], attempt)
            best.offer(attempt, candidates, judge, labels[some])
            good = best.scores >= rejection.lowest_score
            closed = best.finite & (good | (attempt + 1 >= rejection.candidates))
            if closed.any():
                yield kept_of(some[closed], best.take(closed))
            rest.append((some[~closed], best.take(~closed)))
        positions, leading = np.concatenate([p for p, _ in rest]), Best.joined([best for _, best in rest])
        if not len(positions):
            return
    raise _never_finite(plan, positions, labels, ordinals)


def kept_of(positions: np.ndarray, best: Best) -> Drawn:
    """Return what leads, of samples at these positions of a shard."""
    return Drawn(positions=positions, attempts=best.attempts, images=best.images, scores=best.scores, codes=best.codes)


def _never_finite(plan: Plan, positions: np.ndarray, labels: np.ndarray, ordinals: np.ndarray) -> RunFailed:
    first = int(positions[0])
    return RunFailed(
        f"output of {plan.family} was not finite in {plan.num_attempts} draws of {len(positions)} samples, "
        f"first class {plan.classes.ids[int(labels[first])]}, ordinal {int(ordinals[first])}"
    )


def draw_round(
    generator: Generator,
    plan: Plan,
    positions: np.ndarray,
    labels: np.ndarray,
    ordinals: np.ndarray,
    number: int,
    judge: Judge | None = None,
) -> tuple[Drawn, np.ndarray]:
    """Draw every candidate of one round for one microbatch and keep the best of each sample; without a judge, the one.

    A plan with a threshold has no such rounds: `draw_shard` alone draws it.

    Args:
        generator: see `draw_shard`, as for plan, labels, ordinals and judge.
        plan: see there.
        positions: [n] int64, places in the shard, n at most the plan's microbatch size.
        labels: see there.
        ordinals: see there.
        number: of the round, from 0; its attempts are the next `plan.num_candidates` numbers.
        judge: see there.

    Returns:
        The samples, and finite [n] bool: where it is False no candidate was, and what stands there means nothing.
    """
    labels, ordinals = labels[positions], ordinals[positions]
    if judge is None:
        one = draw_microbatch(generator, plan, labels, ordinals, number)
        attempts = np.full(len(positions), number)
        return Drawn(positions=positions, attempts=attempts, images=one.images, codes=one.codes), one.finite
    best = Best(len(positions), plan)
    for attempt in range(number * plan.num_candidates, (number + 1) * plan.num_candidates):
        best.offer(attempt, draw_microbatch(generator, plan, labels, ordinals, attempt), judge, labels)
    return kept_of(positions, best), best.finite


def draw_microbatch(
    generator: Generator, plan: Plan, labels: np.ndarray, ordinals: np.ndarray, attempt: int
) -> Microbatch:
    """Draw up to `plan.microbatch_size` samples in a batch of exactly that size.

    Floating point depends on the batch's shape, so a short batch is padded by repeating its last sample, and what the
    padding gave is thrown away.
    """
    num = len(labels)
    assert 0 < num <= plan.microbatch_size, f"microbatch of {num} samples, at most {plan.microbatch_size}"
    keys = [
        stream_key(plan.seed, int(label), int(ordinal), attempt)
        for label, ordinal in zip(labels, ordinals, strict=True)
    ]
    padding = plan.microbatch_size - num
    padded_labels = np.concatenate([labels, np.repeat(labels[-1:], padding)]).astype(np.int64)
    streams = Streams([*keys, *[keys[-1]] * padding])
    drawn = draw(generator, padded_labels, streams, family=plan.family, with_codes=plan.record_codes)
    check_output(drawn.images, drawn.finite, plan)
    return drawn.take(slice(num))


def check_output(images: np.ndarray, finite: np.ndarray, plan: Plan | Reconstruction, method: str = "sample") -> None:
    """Raise RunFailed unless a generator returned what its interface promises for a whole microbatch."""
    shape = (plan.microbatch_size, plan.height, plan.width, plan.channels)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != shape:
        returned = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise RunFailed(f"family {plan.family}: {method}() returned images {returned}, must be uint8 {shape}")
    if not isinstance(finite, np.ndarray) or finite.dtype != np.bool_ or finite.shape != shape[:1]:
        raise RunFailed(f"family {plan.family}: {method}() must return finite as a bool array of shape {shape[:1]}")
