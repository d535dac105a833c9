"""The redraw: whole microbatches are drawn again exactly as the plan says, and compared with what is stored."""

from collections.abc import Iterator, Sequence

import numpy as np

from caskit.gen.audit.evidence import Evidence, Item
from caskit.gen.audit.forcing import TeacherForcing
from caskit.gen.audit.pixels import compare_pixels
from caskit.gen.audit.report import Findings
from caskit.gen.drawing import Drawn, draw_microbatch, draw_round, kept_of
from caskit.gen.family import Generator
from caskit.gen.rejection import Best, Judge
from caskit.manifests.plan import Plan
from caskit.manifests.rejection import Rejection
from caskit.shards.codecs import encode

SCORE_TOLERANCE = 1e-3  # of the judge's log-probability in another environment class


class Redraw:
    """Draws microbatches of a replica again.

    Args:
        generator: loaded.
        judge: of the plan's rejection, if it has one.
        plan: of the replica.
        evidence: what is stored.
        tolerance: of pixels, in grey levels.
        exact: whether equal bytes are demanded.
        forcing: for recorded codes in another environment class, where a uniform close to an edge may give another code
            and with it another image: then the recorded ones must pass the teacher-forced check.
        findings: gets the faults.
    """

    def __init__(
        self,
        generator: Generator,
        judge: Judge | None,
        plan: Plan,
        evidence: Evidence,
        *,
        tolerance: int,
        exact: bool,
        forcing: TeacherForcing | None,
        findings: Findings,
    ) -> None:
        self._generator, self._judge, self._plan, self._evidence = generator, judge, plan, evidence
        self._tolerance, self._exact, self._forcing, self._findings = tolerance, exact, forcing, findings

    def check(self, shard: int, places: Sequence[int]) -> None:
        """Draw all microbatches again in which samples at these places of a shard were drawn."""
        plan = self._plan
        labels, ordinals = plan.draw_order.assign(*plan.shard_range(shard))
        if plan.rejection is not None and plan.rejection.threshold is not None:
            self._check_until_good(plan.rejection, shard, places, labels, ordinals)
            return
        rounds = np.array([row["attempt"] for row in self._evidence.rows(shard)]) // plan.num_candidates
        for number, positions in microbatches(rounds, places, plan.microbatch_size):
            drawn, finite = draw_round(self._generator, plan, positions, labels, ordinals, number, self._judge)
            self._findings.count(microbatches=1, draws=plan.num_candidates * len(positions))
            kept = positions[rounds[positions] == number]
            items = self._evidence.items(shard, kept.tolist())
            rows = self._evidence.rows(shard)
            for place, position in enumerate(positions.tolist()):
                if rounds[position] > number:
                    if finite[place]:
                        attempt = int(drawn.attempts[place])
                        message = f"attempt {rows[position]['attempt']} is recorded, but attempt {attempt} was finite"
                        self._findings.fail(kind="attempt", key=rows[position]["key"], message=message)
                elif position in items:
                    self._compare(items[position], drawn, place, bool(finite[place]))

    def _check_until_good(
        self, rejection: Rejection, shard: int, places: Sequence[int], labels: np.ndarray, ordinals: np.ndarray
    ) -> None:
        """Draw again as `draw_shard` does under a threshold: what leads must not reach it before the last draw."""
        plan, rows = self._plan, self._evidence.rows(shard)
        last = np.array([rejection.last_attempt(row["attempt"], row["filter_score"]) for row in rows])
        wanted = set(places)
        leading: dict[int, Best] = {}
        reached = rejection.lowest_score + (0.0 if self._exact else SCORE_TOLERANCE)
        for number, positions in microbatches(last, places, plan.microbatch_size):
            candidates = draw_microbatch(self._generator, plan, labels[positions], ordinals[positions], number)
            empty = Best(1, plan)
            best = Best.joined([leading.get(position, empty) for position in positions.tolist()])
            assert self._judge is not None, "a judge goes with a plan that asks for one"
            best.offer(number, candidates, self._judge, labels[positions])
            self._findings.count(microbatches=1, draws=len(positions))
            drawn = kept_of(positions, best)
            items = self._evidence.items(shard, [p for p in positions.tolist() if p in wanted and last[p] == number])
            for place, position in enumerate(positions.tolist()):
                if position not in wanted:
                    continue
                leading[position] = best.take(np.array([place]))
                if position in items:
                    self._compare(items[position], drawn, place, bool(best.finite[place]))
                elif last[position] > number and best.scores[place] >= reached:
                    message = f"attempt {rows[position]['attempt']} is recorded, attempt {number} reached the threshold"
                    self._findings.fail(kind="attempt", key=rows[position]["key"], message=message)

    def _compare(self, item: Item, drawn: Drawn, place: int, finite: bool) -> None:
        self._findings.count(samples=1)
        if not finite:
            message = f"attempt {item.attempt} is recorded, but what it draws is not finite"
            self._findings.fail(kind="attempt", key=item.key, message=message)
            return
        if drawn.scores is not None and not self._same_choice(item, drawn, place):
            return
        codes = {} if drawn.codes is None else {name: maps[place] for name, maps in drawn.codes.items()}
        other = next((name for name in codes if not np.array_equal(codes[name], item.codes[name])), None)
        if other is not None and not self._exact and self._forcing is not None:
            passed = self._forcing.check([item])[0]
            self._findings.count(samples_explained_by_codes=int(passed))
            return
        if other is not None:
            row, column = (int(p) for p in np.argwhere(codes[other] != item.codes[other])[0])
            found, stored = int(codes[other][row, column]), int(item.codes[other][row, column])
            reason = f"{other} row {row}, column {column}: code {found} is drawn, {stored} is recorded"
            self._findings.fail(kind="codes", key=item.key, level=other, row=row, column=column, message=reason)
        image = drawn.images[place]
        fits = compare_pixels(
            item,
            image,
            self._plan.codec,
            self._tolerance,
            self._findings,
            "the plan draws",
            at_fault=other is not None,
        )
        if fits and self._exact and encode(image, self._plan.codec) != item.stored:
            message = "the plan's codec gives other bytes of the same pixels"
            self._findings.fail(kind="image", key=item.key, message=message)

    def _same_choice(self, item: Item, drawn: Drawn, place: int) -> bool:
        """Check that the candidate that was kept is the best one, and that its score is the one recorded."""
        assert drawn.scores is not None and item.filter_score is not None, "both follow from the plan's rejection"
        attempt, score = int(drawn.attempts[place]), float(drawn.scores[place])
        distance = abs(score - item.filter_score)
        if attempt == item.attempt and distance <= (0.0 if self._exact else SCORE_TOLERANCE):
            return True
        if not self._exact and attempt != item.attempt and distance <= SCORE_TOLERANCE:
            self._findings.count(samples_with_a_tie=1)  # two candidates as good as each other
            return False
        kept = f"attempt {item.attempt} with score {item.filter_score:.9g} is kept"
        message = f"{kept}, the best is attempt {attempt} with {score:.9g}"
        self._findings.fail(kind="attempt", key=item.key, message=message)
        return False


def microbatches(rounds: np.ndarray, places: Sequence[int], size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (round, positions) of every microbatch in which samples at some places of a shard were drawn.

    A sample whose first rounds were not finite was drawn in one microbatch of each; those of a later round hold what
    was still open, in the order of the shard.

    Args:
        rounds: [n] int64, the one in which each sample of the shard was drawn for good.
        places: in the shard.
        size: of a microbatch.
    """
    wanted = np.zeros(len(rounds), dtype=np.bool_)
    wanted[list(places)] = True
    for number in range(int(rounds[wanted].max()) + 1):
        still_open = np.flatnonzero(rounds >= number)
        for start in range(0, len(still_open), size):
            positions = still_open[start : start + size]
            if wanted[positions].any():
                yield number, positions
