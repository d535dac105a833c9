"""The Classification Accuracy Score over several training seeds, and over several sizes of one replica.

DIR/real/seed-S/classifier, score           the Real rows, where a real train set is given
DIR/synthetic/seed-S/classifier, score      of the whole synthetic set
DIR/first-shards-K/seed-S/...               of its first K shards
DIR/inputs.json                             what the folder is of, so that another score is refused
DIR/cas.json                                all numbers; written last, so its existence means that the folder is whole
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from caskit.evaluate.score import read_score, score
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION, differing_fields
from caskit.shards.dataset import FrozenSet, open_set
from caskit.train.device import pick_device
from caskit.train.engine import EngineConfig, Progress
from caskit.train.folder import write_atomic
from caskit.train.provenance import describe_set
from caskit.train.recipes import Recipe, get_recipe
from caskit.train.training import RUN_NAME, train

CAS_NAME = "cas.json"
REAL_FOLDER, SCORE_FOLDER = "real", "score"
MAX_SEEDS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One classifier of the score.

    Attributes:
        data: what it is trained on.
        seed: of the training.
        folder: of classifier and score.
        title: what it is, for people.
        real: whether it makes a Real row.
    """

    data: FrozenSet
    seed: int
    folder: Path
    title: str
    real: bool

    @property
    def finished(self) -> bool:
        """Whether the classifier is there."""
        return (self.folder / "classifier" / RUN_NAME).exists()


def plan_trainings(
    synthetic: FrozenSet,
    out: Path,
    *,
    real_train: FrozenSet | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    sizes: Sequence[int] = (),
) -> list[Training]:
    """Return the trainings of a score in their order, Real rows first.

    Args:
        synthetic: what is scored.
        out: the folder of all of it.
        real_train: what the Real rows are trained on; None makes none.
        seeds: of the trainings, one classifier per seed and set.
        sizes: numbers of images to train on, each a whole number of shards from the first on; none, the whole set.

    Raises:
        InputError: no or equal seeds, or a size that is not so.
    """
    if not 1 <= len(seeds) <= MAX_SEEDS or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {list(seeds)}, allowed: 1 to {MAX_SEEDS} different whole numbers")
    sets = [(data, *_names(data)) for data in _parts(synthetic, sizes)]
    rows = [] if real_train is None else [(real_train, REAL_FOLDER, "Real", True)]
    rows += [(data, name, title, False) for data, name, title in sets]
    return [
        Training(
            data=data, seed=seed, folder=_seed_folder(out / folder, seed), title=f"{title}, seed {seed}", real=real
        )
        for data, folder, title, real in rows
        for seed in seeds
    ]


def _names(data: FrozenSet) -> tuple[str, str]:
    """Return the folder of a set's trainings and what to call it."""
    select = data.expression.sources[0].select
    if select == "all":
        return "synthetic", "synthetic"
    return select.replace(":", "-"), f"{len(data):,} synthetic images"


def _parts(synthetic: FrozenSet, sizes: Sequence[int]) -> list[FrozenSet]:
    """Return the set, or its first shards that hold so many images."""
    if not sizes:
        return [synthetic]
    ends = synthetic.shard_ends
    found = []
    for size in sorted(set(sizes)):
        if size not in ends:
            near = sorted(ends, key=lambda end: abs(end - size))[:2]
            raise InputError(
                f"size {size}: {synthetic.store.location} has whole shards up to {ends[-1]} images, nearest "
                f"{' and '.join(map(str, sorted(near)))}; a size is a whole number of shards"
            )
        found.append(synthetic.first_shards(ends.index(size) + 1))
    return found


def classification_accuracy_score(
    synthetic: FrozenSet | str,
    real_test: FrozenSet | str,
    *,
    recipe: Recipe | str,
    out: Path | str,
    real_train: FrozenSet | str | None = None,
    baseline: Path | str | None = None,
    seeds: int | Sequence[int] = 3,
    sizes: Sequence[int] = (),
    device: torch.device | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train on samples only, test on real images (Ravuri & Vinyals 2019, section 3), once per seed.

    The same call goes on after an interruption and does nothing twice.

    Args:
        synthetic: the set to score, `PATH[@sha256:prefix]` or open.
        real_test: real images that no generator was fitted to.
        recipe: how to train, or its name.
        out: the folder of classifiers, scores and cas.json.
        real_train: the set that the generator was fitted to: a Real row per seed is trained beside.
        baseline: instead, the score folder of one Real row of this recipe, for all seeds; or the folder of an earlier
            call with `real_train`, whose Real rows of the same seeds are taken.
        seeds: of the trainings; a number stands for 0, 1, ... .
        sizes: see `plan_trainings`.
        device: where to compute; None takes a GPU if there is one.
        progress: told how far each training and test is; its stage is the training's title.
        stop: asked after every step whether to stop, which raises NotFinished.

    Returns:
        The record of cas.json. `rows` has an entry per set: name, num (images), scores (seed, top1 as a fraction,
        gap_points, score_id, location), top1 and gap_points as `{mean, sd, min, max}` over the seeds; sd is None for
        one seed. `top1` and `gap_points` are those of the last row, the largest set. gap_points is Real minus CAS in
        percentage points, of equal seeds; None without a Real row.

    Raises:
        InputError: the inputs do not fit together, or `out` holds the score of others.
        IntegrityError: a set is not what its records say.
        NotFinished: `stop` said so.
    """
    if real_train is not None and baseline is not None:
        raise InputError("a score stands beside one kind of Real row: real_train, which is trained here, or baseline")
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    device = pick_device("auto") if device is None else device
    out = Path(out)
    synthetic, test = _opened(synthetic), _opened(real_test)
    real = None if real_train is None else _opened(real_train)
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    trainings = plan_trainings(synthetic, out, real_train=real, seeds=seeds, sizes=sizes)
    baseline_id, real_scores = (None, {}) if baseline is None else _real_rows(Path(baseline), seeds)
    identity = {
        "recipe_id": recipe.recipe_id,
        "test": test.replica.replica_id,
        "synthetic": synthetic.replica.replica_id,
        "real_train": None if real is None else real.replica.replica_id,
        "baseline": baseline_id,
    }
    _claim(out, identity)
    scores: dict[str, list[dict[str, Any]]] = {}
    for training in trainings:
        show = None if progress is None else _titled(progress, training.title)
        classifier, folder = training.folder / "classifier", training.folder / SCORE_FOLDER
        config = EngineConfig(seed=training.seed)
        train(
            training.data,
            recipe,
            seed=training.seed,
            out=classifier,
            device=device,
            config=config,
            progress=show,
            stop=stop,
        )
        beside = None if training.real else real_scores.get(training.seed)
        record = score(classifier, test, out=folder, baseline=beside, device=device, progress=show, stop=stop)
        if training.real:
            real_scores[training.seed] = folder
        scores.setdefault(training.folder.parent.name, []).append(
            {
                "seed": training.seed,
                "top1": record["top1"]["value"],
                "gap_points": record["gap_points"],
                "score_id": record["score_id"],
                "location": str(folder.relative_to(out)),
                "metric": record["metric"],
                "num": len(training.data),
            }
        )
    rows = [_row(name, entries) for name, entries in scores.items()]
    result = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe.name,
        "inputs": identity,
        "synthetic": {**describe_set(synthetic), "location": str(Path(synthetic.store.location).resolve())},
        "rows": rows,
        "top1": rows[-1]["top1"],
        "gap_points": rows[-1]["gap_points"],
    }
    text = json.dumps(result, indent=2, sort_keys=True) + "\n"
    write_atomic(out / CAS_NAME, lambda path: _write_text(path, text))
    return result


def _opened(reference: FrozenSet | str) -> FrozenSet:
    return open_set(reference) if isinstance(reference, str) else reference


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _real_rows(folder: Path, seeds: Sequence[int]) -> tuple[str, dict[int, Path]]:
    """Return what a baseline is called in inputs.json, and its score folder for each seed."""
    path = folder / CAS_NAME
    if not path.exists():
        return str(read_score(folder)["score_id"]), dict.fromkeys(seeds, folder)
    try:
        real_train = json.loads(path.read_bytes())["inputs"]["real_train"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no record of `caskit cas`") from error
    if real_train is None:
        raise InputError(f"{folder}: has no Real rows of its own; name the folder where they were trained")
    found = {seed: _seed_folder(folder / REAL_FOLDER, seed) / SCORE_FOLDER for seed in seeds}
    for seed, scored in found.items():
        if not scored.is_dir():
            raise InputError(f"{folder}: has no Real row of seed {seed}; ask for fewer seeds or train it there first")
    return f"trained on {real_train}", found


def _seed_folder(parent: Path, seed: int) -> Path:
    return parent / f"seed-{seed}"


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Write what the folder is of, or check it: seeds and sizes may be added later, nothing else may change."""
    path = out / "inputs.json"
    wanted = json.loads(canonical_json(identity))
    if path.exists():
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise InputError(f"{path}: is no JSON ({error})") from error
        if found != wanted:
            fields = "; ".join(differing_fields(wanted, found)) if isinstance(found, dict) else "everything"
            raise InputError(f"{out}: holds the score of other inputs, differing in {fields}; choose another folder")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda part: _write_text(part, json.dumps(wanted, indent=2, sort_keys=True) + "\n"))


def _titled(progress: Callable[[Progress], None], title: str) -> Callable[[Progress], None]:
    def show(at: Progress) -> None:
        progress(dataclasses.replace(at, stage=f"{title}: {at.stage}"))

    return show


def _row(name: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    gaps = [entry["gap_points"] for entry in entries]
    return {
        "name": name,
        "metric": entries[0]["metric"],
        "num": entries[0]["num"],
        "scores": [{k: v for k, v in entry.items() if k not in ("metric", "num")} for entry in entries],
        "top1": spread([entry["top1"] for entry in entries]),
        "gap_points": None if None in gaps else spread(gaps),
    }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, standard deviation (n - 1; None for one value), min and max."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": math.fsum(values) / len(values), "sd": deviation, "min": min(values), "max": max(values)}
