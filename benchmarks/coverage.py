"""Do the intervals of a score cover at the rate that they say? A simulation in which the truth is known.

Run: python benchmarks/coverage.py (ten minutes on one quiet core), or `--short` (a minute, writes no file). The table
goes into benchmarks/coverage.md; the last line printed is one JSON object.

Classifiers are simulated, not trained. Image i of class c is answered rightly by classifier s with probability
sigmoid(m_c + u_i + a_s + b_sc): the image's difficulty u is the same for all classifiers, which makes their answers
alike, a and b are a training's luck, whole and by class. The truth of an interval is the accuracy over what that
interval says could have been different, by quadrature over the normal effects. The calibration measures come from
images with a known confidence; their truth is the mean over two million images.
"""

import argparse
import dataclasses
import datetime
import json
import math
import platform
import time
from pathlib import Path

import numpy as np

from caskit.evaluate.answers import Answers
from caskit.evaluate.bootstrap import Bootstrap, percentile_interval, resampled_means
from caskit.evaluate.crossed import parts_of, student_interval
from caskit.evaluate.hypotheses import benjamini_hochberg, failure, mcnemar
from caskit.evaluate.intervals import newcombe, wilson
from caskit.evaluate.statistics import FALSE_DISCOVERIES, score_statistics

RESULT = Path(__file__).with_suffix(".md")
NUM_TRUTH = 2_000_000  # images whose mean is the truth
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """What is simulated: sizes, and standard deviations of the effects on the logit scale."""

    num_classes: int = 10
    per_class: int = 200
    accuracy: float = 1.9  # mean logit of Real
    gap: float = 0.5  # of the generator, logits
    by_class: float = 0.8
    by_image: float = 1.5
    by_training: float = 0.08
    by_training_and_class: float = 0.15
    by_sampling: float = 0.08

    @property
    def labels(self) -> np.ndarray:
        """[N] int64."""
        return np.repeat(np.arange(self.num_classes), self.per_class)

    def luck(self, generator: np.random.Generator, num: int) -> np.ndarray:
        """Draw the luck of trainings, [num, C] logits."""
        whole = generator.normal(0, self.by_training, (num, 1))
        return whole + generator.normal(0, self.by_training_and_class, (num, self.num_classes))


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return the logistic function."""
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result


def expected(logits: np.ndarray, deviation: float) -> np.ndarray:
    """Return E sigmoid(logit + normal effect) for every logit."""
    result: np.ndarray = (sigmoid(logits[..., None] + deviation * NODES) * WEIGHTS).sum(axis=-1)
    return result


class Tally:
    """Counts how often an interval held the truth, and how wide it was."""

    def __init__(self) -> None:
        self.case = ""
        self.held: dict[str, list[bool]] = {}
        self.widths: dict[str, list[float]] = {}

    def add(self, name: str, low: float, high: float, truth: float) -> None:
        """Note one interval."""
        name = f"{self.case}{name}"
        self.held.setdefault(name, []).append(low <= truth <= high)
        self.widths.setdefault(name, []).append(high - low)

    def rows(self) -> list[list[str]]:
        """Return name, coverage with its simulation error, mean width, number, as cells."""
        cells = []
        for name, held in self.held.items():
            rate, num = float(np.mean(held)), len(held)
            error = math.sqrt(max(rate * (1 - rate), 1e-9) / num)
            width = f"{np.mean(self.widths[name]):.4g}"
            cells.append([name, f"{100 * rate:.1f} ± {100 * error:.1f}", width, f"{num:,}"])
        return cells


def one_classifier(world: World, num: int, bootstrap: Bootstrap, tally: Tally, generator: np.random.Generator) -> None:
    """Intervals of one score: other test images, the classifiers as they are."""
    labels = world.labels
    for _ in range(num):
        means = generator.normal(0, world.by_class, world.num_classes) + world.accuracy
        luck = world.luck(generator, 2)
        difficulty = generator.normal(0, world.by_image, len(labels))
        logits = np.stack([means + luck[0], means - world.gap + luck[1]])  # Real, CAS
        hits = generator.random((2, len(labels))) < sigmoid(logits[:, labels] + difficulty)
        truths = expected(logits, world.by_image).mean(axis=1)
        wilsons = [wilson(int(one.sum()), len(labels)) for one in hits]
        tally.add("top-1, Wilson", *wilsons[1], truths[1])
        replicates = resampled_means(hits.T.astype(np.float64), labels, bootstrap)
        found = percentile_interval(replicates[:, 1])
        tally.add("top-1, stratified bootstrap", found["low"], found["high"], truths[1])
        found = percentile_interval(replicates[:, 0] - replicates[:, 1])
        tally.add("gap, paired bootstrap", found["low"], found["high"], truths[0] - truths[1])
        values = [(float(one.mean()), *bounds) for one, bounds in zip(hits, wilsons, strict=True)]
        tally.add("gap, unpaired (Newcombe)", *newcombe(values[0], values[1]), truths[0] - truths[1])


def several_trainings(world: World, num: int, seeds: int, tally: Tally, generator: np.random.Generator) -> None:
    """Intervals of the mean gap over training seeds."""
    labels = world.labels
    deviation = math.hypot(world.by_training, world.by_training_and_class)
    for _ in range(num):
        means = generator.normal(0, world.by_class, world.num_classes) + world.accuracy
        difficulty = generator.normal(0, world.by_image, len(labels))
        logits = np.stack([means + world.luck(generator, seeds), means - world.gap + world.luck(generator, seeds)])
        chances = sigmoid(logits[:, :, labels] + difficulty)
        hits = (generator.random(chances.shape) < chances).astype(np.float64)
        parts = parts_of(hits[0] - hits[1], labels)
        assert parts.trainings is not None
        every = math.hypot(world.by_image, deviation)
        whole = expected(means, every).mean() - expected(means - world.gap, every).mean()
        here = [expected(means[labels] - gap + difficulty, deviation).mean() for gap in (0.0, world.gap)]
        fixed = expected(logits, world.by_image).mean(axis=(1, 2))
        for name, variance, degrees, truth in (
            ("test_images", parts.images, parts.images_degrees, fixed[0] - fixed[1]),
            ("training_seeds", parts.trainings, parts.trainings_degrees, here[0] - here[1]),
            ("all", parts.variance, parts.degrees, whole),
        ):
            found = student_interval(parts.mean, variance, degrees)
            tally.add(f"gap, {seeds} training seeds: {name}", found["low"], found["high"], truth)


def several_replicas(world: World, num: int, replicas: int, tally: Tally, generator: np.random.Generator) -> None:
    """Intervals of the mean top-1 over sampling seeds, three trainings on each replica."""
    labels, seeds = world.labels, 3
    for _ in range(num):
        means = generator.normal(0, world.by_class, world.num_classes) + world.accuracy - world.gap
        difficulty = generator.normal(0, world.by_image, len(labels))
        luck = world.luck(generator, replicas * seeds).reshape(replicas, seeds, -1)
        luck += generator.normal(0, world.by_sampling, (replicas, 1, 1))
        chances = sigmoid((means + luck)[:, :, labels] + difficulty)
        hits = (generator.random(chances.shape) < chances).astype(np.float64).mean(axis=1)
        parts = parts_of(hits, labels)
        effects = (world.by_training, world.by_training_and_class, world.by_sampling)
        truth = expected(means, math.hypot(world.by_image, *effects)).mean()
        found = student_interval(parts.mean, parts.variance, parts.degrees)
        tally.add(f"top-1, {replicas} sampling seeds of 3 trainings: all", found["low"], found["high"], truth)


def confident(generator: np.random.Generator, num: int, num_classes: int) -> Answers:
    """Draw answers whose confidence is known and too high: right with probability q, sure by q^0.7."""
    chance = generator.beta(4, 1.2, num)
    confidence = np.clip(chance**0.7, 0.05, 0.999)
    hit = generator.random(num) < chance
    rest = (1 - confidence) / (num_classes - 1)
    return Answers(
        keys=np.arange(num).astype(str),
        labels=np.arange(num) * 10 // num,
        ranks=(~hit).astype(np.int64),
        log_probabilities=np.log(np.where(hit, confidence, rest)),
        squares=confidence**2 + rest**2 * (num_classes - 1),
        first=np.log(confidence),
    )


def calibration(num: int, num_test: int, bootstrap: Bootstrap, tally: Tally, generator: np.random.Generator) -> None:
    """Intervals of NLL, Brier and ECE."""
    huge = confident(generator, NUM_TRUTH, 10)
    truths = {
        "nll": -huge.log_probabilities.mean(),
        "brier": huge.brier.mean(),
        "ece": np.abs(huge.surplus.mean(axis=0)).sum(),
    }
    for _ in range(num):
        found = score_statistics(confident(generator, num_test, 10), num_classes=10, bootstrap=bootstrap)
        for name, truth in truths.items():
            interval = found["test_images"][name]
            tally.add(f"{name}, bootstrap, {num_test:,} images", interval["low"], interval["high"], truth)


def discoveries(num: int, generator: np.random.Generator) -> dict[str, float]:
    """Name failed classes among a thousand of 50 images, 20 of which collapsed, others on the edge of it.

    Returns the mean share of wrong names, the mean share of collapsed classes named, and how often McNemar's test of
    two equal classifiers is below 0.05.
    """
    wrong, named, below = [], [], []
    real = np.full(1000, 0.8)
    ours = np.r_[np.full(20, 0.05), np.full(180, 0.4), np.full(800, 0.7)]  # 0.4 is half of Real: not failed, just
    for _ in range(num):
        counts = zip(generator.binomial(50, ours), generator.binomial(50, real), strict=True)
        adjusted = benjamini_hochberg([failure(int(hits), int(reals), 50) for hits, reals in counts])
        called = np.asarray(adjusted) <= FALSE_DISCOVERIES
        wrong.append(called[20:].sum() / max(1, called.sum()))
        named.append(called[:20].mean())
    for _ in range(20 * num):
        first, second = generator.multinomial(300, [0.08, 0.08, 0.84])[:2]
        below.append(mcnemar(int(first), int(second)) <= 0.05)
    return {"false": float(np.mean(wrong)), "found": float(np.mean(named)), "mcnemar": float(np.mean(below))}


def table(rows: list[list[str]]) -> str:
    """Return a Markdown table of intervals."""
    head = ["interval at 95 %", "holds the truth, %", "mean width", "simulated scores"]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * 4, *rows])


def simulate(num: int, bootstrap: Bootstrap, generator: np.random.Generator) -> tuple[str, dict[str, float]]:
    """Run all of it; return the tables and the numbers for the last line."""
    tally = Tally()
    one_classifier(World(), num, bootstrap, tally, generator)
    calibration(num // 2, 2000, bootstrap, tally, generator)
    for seeds in (3, 5):
        several_trainings(World(), 2 * num, seeds, tally, generator)
    for replicas in (3, 5):
        several_replicas(World(), 2 * num, replicas, tally, generator)
    tally.case = "100 classes of 10: "
    one_classifier(World(num_classes=100, per_class=10), num // 2, bootstrap, tally, generator)
    tally.case = "10 classes of 36, Real at 98 %: "
    one_classifier(World(num_classes=10, per_class=36, accuracy=5.0), num // 2, bootstrap, tally, generator)
    tally.case = "trainings differ more: "
    several_trainings(World(by_training=0.25, by_image=0.5), 2 * num, 3, tally, generator)
    names = discoveries(max(10, num // 20), generator)
    parts = [
        "Ten classes of 200 images, Real about 80 %, the generator about 7 points below; then harder cases.\n",
        table(tally.rows()),
        "\nA thousand classes of 50 images, 20 of them collapsed (5 % beside Real's 80 %), 180 at exactly half of "
        f"Real's\naccuracy: {100 * names['false']:.2f} % of the classes called failed had not (promised: at most 5 %),",
        f"{100 * names['found']:.1f} % of the collapsed ones were called so. McNemar's test of two equally good",
        f"classifiers was below 0.05 in {100 * names['mcnemar']:.1f} % of cases.\n",
    ]
    return "\n".join(parts), {name: float(np.mean(held)) for name, held in tally.held.items()} | names


def main() -> None:
    """Simulate, write the result, print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few simulated scores; no file is written")
    parser.add_argument("--num", type=int, default=1000, help="simulated scores per case (default 1000)")
    parser.add_argument("--replicates", type=int, default=1000, help="of each bootstrap (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    num, replicates = (60, 200) if arguments.short else (arguments.num, arguments.replicates)
    started = time.monotonic()
    text, numbers = simulate(num, Bootstrap(replicates=replicates), np.random.default_rng(arguments.seed))
    print(text)
    if not arguments.short:
        head = (
            f"# Coverage of the intervals, simulated\n\n{datetime.date.today()}, {platform.machine()}, python "
            f"{platform.python_version()}, numpy {np.__version__}, {replicates:,} bootstrap replicates.\n"
            f"Command: `python benchmarks/coverage.py --num {num} --replicates {replicates} --seed {arguments.seed}`.\n"
        )
        RESULT.write_text(f"{head}\n{text}", encoding="utf-8")
    print(json.dumps({**numbers, "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    main()
