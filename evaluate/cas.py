"""The Classification Accuracy Score over several training seeds, and over several sizes of one replica.

DIR/real/seed-S/classifier, score           the Real rows, where a real train set is given
DIR/synthetic/seed-S/classifier, score      of the whole synthetic set
DIR/first-shards-K/seed-S/...               of its first K shards
DIR/sampling-seed-K/seed-S/...              of a replica of the same plan with sampling seed K
DIR/gan-test/seed-S/score                   the Real row's classifier tested on the synthetic set: GAN-test
DIR/inputs.json                             what the folder is of, so that another score is refused
DIR/cas.json                                all numbers; written last, so its existence means that the folder is whole

docs/scores.md describes cas.json.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from caskit.evaluate.bootstrap import Bootstrap
from caskit.evaluate.rows import Scored, make_row, read_hits, sampling_spread
from caskit.evaluate.score import read_score, score
from caskit.evaluate.statistics import describe_procedure
from caskit.evaluate.trainings import REAL_FOLDER, SCORE_FOLDER, SYNTHETIC_FOLDER, plan_trainings, seed_folder
from caskit.manifests.canonical import MAX_JSON_BYTES, canonical_json
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION, differing_fields
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.untrusted import read_plain, read_record
from caskit.train.device import pick_device
from caskit.train.engine import EngineConfig, Progress
from caskit.train.folder import write_atomic
from caskit.train.presets import get_recipe
from caskit.train.provenance import describe_set
from caskit.train.recipes import Recipe
from caskit.train.training import train

CAS_NAME = "cas.json"
GAN_TEST_FOLDER = "gan-test"


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
    resampled: Sequence[FrozenSet | str] = (),
    gan_test: bool = False,
    duplicates: Path | str | None = None,
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
        resampled: replicas of the same plan with other sampling seeds, each scored like the first.
        gan_test: test the Real rows' classifiers on the synthetic set too (GAN-test): how well its images keep to
            their labels, class by class.
        duplicates: folder of `caskit duplicates` about `synthetic` and `real_test`, see `score`.
        device: where to compute; None takes a GPU if there is one.
        progress: told how far each training and test is; its stage is the training's title.
        stop: asked after every step whether to stop, which raises NotFinished.

    Returns:
        The record of cas.json (docs/scores.md). `rows` has an entry per set: name, metric, num (images), scores (seed,
        top1 as a fraction, gap_points, score_id, location), their spreads `{mean, sd, min, max}` (sd is None for one
        seed) and `intervals` of the means. `top1`, `gap_points` and `intervals` are those of `row`, the largest set.
        gap_points is Real minus CAS in percentage points, of equal seeds; None without a Real row.

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
    if gan_test and real is None and baseline is None:
        raise InputError("GAN-test is of a classifier trained on real images: give real_train, or a baseline")
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    others = [_opened(other) for other in resampled]
    trainings = plan_trainings(synthetic, out, real_train=real, seeds=seeds, sizes=sizes, resampled=others)
    baseline_id, real_scores = (None, {}) if baseline is None else _real_rows(Path(baseline), seeds)
    identity = {
        "recipe_id": recipe.recipe_id,
        "test": test.replica.replica_id,
        "synthetic": synthetic.replica.replica_id,
        "real_train": None if real is None else real.replica.replica_id,
        "baseline": baseline_id,
    }
    claim(out, identity)
    scored: dict[str, list[Scored]] = {}
    for training in trainings:
        show = None if progress is None else titled(progress, training.title)
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
        record = score(
            classifier,
            test,
            out=folder,
            baseline=beside,
            trained=training.data,
            duplicates=_about(duplicates, training.data, synthetic),
            device=device,
            progress=show,
            stop=stop,
        )
        if training.real:
            real_scores[training.seed] = folder
        entry = Scored(seed=training.seed, folder=folder, record=record, num=len(training.data), real=beside)
        scored.setdefault(training.folder.parent.name, []).append(entry)
    if gan_test:
        for seed, folder in _different(real_scores).items():
            show = None if progress is None else titled(progress, f"GAN-test, seed {seed}")
            found = read_score(folder)["classifier"]
            target = seed_folder(out / GAN_TEST_FOLDER, seed) / SCORE_FOLDER
            record = score(Path(found["location"]), synthetic, out=target, device=device, progress=show, stop=stop)
            entry = Scored(seed=seed, folder=target, record=record, num=found["train"]["num"], real=None)
            scored.setdefault(GAN_TEST_FOLDER, []).append(entry)
    result = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe.name,
        "inputs": identity,
        "synthetic": {**describe_set(synthetic), "location": str(Path(synthetic.store.location).resolve())},
        **cas_numbers(scored, out, sampling_seeds=_sampling_seeds(synthetic, others)),
    }
    text = json.dumps(result, indent=2, sort_keys=True) + "\n"
    write_atomic(out / CAS_NAME, lambda path: _write_text(path, text))
    return result


def cas_numbers(
    scored: Mapping[str, Sequence[Scored]], out: Path, *, sampling_seeds: Mapping[str, int]
) -> dict[str, Any]:
    """Return the numbers of cas.json, which follow from the score folders alone.

    Args:
        scored: the scores of every row, by the row's name.
        out: what locations are relative to.
        sampling_seeds: of the rows that differ by it, by name; none or one, there is nothing to compare.
    """
    hits = {name: read_hits(entries) for name, entries in scored.items()}
    rows = {name: make_row(name, entries, hits[name], out) for name, entries in scored.items()}
    main = [row for name, row in rows.items() if name not in (REAL_FOLDER, GAN_TEST_FOLDER)]
    largest = max(main, key=lambda row: (row["num"], row["name"] == SYNTHETIC_FOLDER))
    spread = None
    if len(sampling_seeds) > 1:
        names = list(sampling_seeds)
        replicas = [rows[name] for name in names], [hits[name] for name in names]
        spread = sampling_spread(*replicas, list(sampling_seeds.values()))
    return {
        "rows": list(rows.values()),
        "statistics": describe_procedure(Bootstrap()),
        "sampling_seeds": spread,
        "row": largest["name"],
        **{name: largest[name] for name in ("top1", "gap_points", "gap_relative", "intervals")},
    }


def _sampling_seeds(synthetic: FrozenSet, others: Sequence[FrozenSet]) -> dict[str, int]:
    """Return the sampling seeds of the rows that are replicas of one plan, by the row's name."""
    if synthetic.plan is None:
        return {}
    seeds = sorted(other.plan.seed for other in others if other.plan is not None)
    return {SYNTHETIC_FOLDER: synthetic.plan.seed, **{f"sampling-seed-{seed}": seed for seed in seeds}}


def _different(folders: Mapping[int, Path]) -> dict[int, Path]:
    """Return each folder once, with the first seed that it stands for."""
    found: dict[Path, int] = {}
    for seed, folder in folders.items():
        found.setdefault(folder, seed)
    return {seed: folder for folder, seed in found.items()}


def _about(duplicates: Path | str | None, data: FrozenSet, synthetic: FrozenSet) -> Path | None:
    """Return the search for copies if it is about a training set: the synthetic one, or its first shards."""
    same = data.replica.replica_id == synthetic.replica.replica_id
    return Path(duplicates) if duplicates is not None and same else None


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
        real_train = read_record(path, what="a record of `caskit cas`")["inputs"]["real_train"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is no record of `caskit cas`") from error
    if real_train is None:
        raise InputError(f"{folder}: has no Real rows of its own; name the folder where they were trained")
    found = {seed: seed_folder(folder / REAL_FOLDER, seed) / SCORE_FOLDER for seed in seeds}
    for seed, scored in found.items():
        if not scored.is_dir():
            raise InputError(f"{folder}: has no Real row of seed {seed}; ask for fewer seeds or train it there first")
    return f"trained on {real_train}", found


def claim(out: Path, identity: dict[str, Any]) -> None:
    """Write what the folder is of, or check it: seeds and sizes may be added later, nothing else may change."""
    path = out / "inputs.json"
    wanted = json.loads(canonical_json(identity))
    if path.exists():
        try:
            found = json.loads(read_plain(path, max_bytes=MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is no JSON ({error})") from error
        if found != wanted:
            fields = "; ".join(differing_fields(wanted, found)) if isinstance(found, dict) else "everything"
            raise InputError(f"{out}: holds the score of other inputs, differing in {fields}; choose another folder")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda part: _write_text(part, json.dumps(wanted, indent=2, sort_keys=True) + "\n"))


def titled(progress: Callable[[Progress], None], title: str) -> Callable[[Progress], None]:
    """Return what tells a training's progress under a title."""

    def show(at: Progress) -> None:
        progress(dataclasses.replace(at, stage=f"{title}: {at.stage}"))

    return show
