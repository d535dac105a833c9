"""The Naive Augmentation Score: train on real images and some synthetic ones, test on real ones, per share and seed.

Ravuri & Vinyals 2019, where 25, 50 and 100 % of a replica are put beside ImageNet. Whether its trainings had as many
steps or as many epochs as the one on real images alone is not said there; both can be asked for.

DIR/add-25/seed-S/classifier, score   of the real images and 25 % of the synthetic set; add-0 of the real ones alone
DIR/inputs.json                       what the folder is of
DIR/nas.json                          all numbers; written last
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from caskit.evaluate.cas import claim, titled
from caskit.evaluate.rows import spread
from caskit.evaluate.score import score
from caskit.evaluate.trainings import MAX_SEEDS
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION
from caskit.shards.dataset import FrozenSet
from caskit.shards.mixture import Mixture, TrainingSet
from caskit.train.engine import EngineConfig, Progress
from caskit.train.folder import write_atomic
from caskit.train.recipes import Recipe
from caskit.train.training import train

NAS_NAME = "nas.json"
SHARES = (0.0, 0.25, 0.5, 1.0)
FIXED = ("steps", "epochs")


def mixture(real: FrozenSet, synthetic: FrozenSet, share: float) -> TrainingSet:
    """Return the real set with a share of the synthetic one beside it; 0 is the real set alone."""
    return real if share == 0 else Mixture((real, synthetic.share(share)))


def lengthened(recipe: Recipe, data: TrainingSet, real: FrozenSet, fixed: str) -> Recipe:
    """Return the recipe with as many steps, or with as many epochs over `data` as it has over `real`."""
    return recipe if fixed == "steps" else recipe.stretched(len(data) / len(real))


def naive_augmentation_score(
    real: FrozenSet,
    synthetic: FrozenSet,
    test: FrozenSet,
    *,
    recipe: Recipe,
    out: Path,
    shares: Sequence[float] = SHARES,
    fixed: str = "steps",
    seeds: Sequence[int] = (0, 1, 2),
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train and test at each share; the same call goes on after an interruption and does nothing twice.

    Args:
        real: the real training images.
        synthetic: of a generator fitted to them.
        test: real images that neither saw.
        recipe: how to train on the real images alone.
        out: the folder of classifiers, scores and nas.json.
        shares: of the synthetic set, 0 to 1, its first samples in the order of its plan.
        fixed: `steps`, every training has the recipe's number; `epochs`, every training sees each image as often.
        seeds: of the trainings.
        device: where to compute.
        progress: see `classification_accuracy_score`.
        stop: see there.

    Returns:
        The record of nas.json. `rows` has an entry per share: share, num (images), num_steps, scores (seed, top1, top5,
        gain_points, score_id, location), top1 and gain_points as `{mean, sd, min, max}`. gain_points is top-1 minus
        that of the real images alone with the same seed, in percentage points; None without a share of 0.

    Raises:
        InputError: the sets do not fit together, or `out` holds the score of others.
        NotFinished: `stop` said so.
    """
    shares = _checked(shares, seeds, fixed)
    inputs = {
        "recipe_id": recipe.recipe_id,
        "fixed": fixed,
        "real": real.expression.set_id,
        "synthetic": synthetic.expression.set_id,
        "test": test.replica.replica_id,
    }
    mixed = [(share, mixture(real, synthetic, share)) for share in shares]  # what cannot be mixed dies before training
    nums = [len(data) for _, data in mixed]
    if len(set(nums)) < len(nums):
        raise InputError(f"shares are {list(shares)}, of {len(synthetic)} images two of them are the same number")
    claim(out, inputs)
    alone: dict[int, float] = {}
    rows = []
    for share, data in mixed:
        chosen = lengthened(recipe, data, real, fixed)
        scores = []
        for seed in seeds:
            folder = out / f"add-{100 * share:g}" / f"seed-{seed}"
            show = None if progress is None else titled(progress, f"real + {100 * share:g} %, seed {seed}")
            config = EngineConfig(seed=seed)
            train(
                data,
                chosen,
                seed=seed,
                out=folder / "classifier",
                device=device,
                config=config,
                progress=show,
                stop=stop,
            )
            record = score(
                folder / "classifier",
                test,
                out=folder / "score",
                trained=data,
                device=device,
                progress=show,
                stop=stop,
            )
            top1 = record["top1"]["value"]
            if share == 0:
                alone[seed] = top1
            scores.append(
                {
                    "seed": seed,
                    "top1": top1,
                    "top5": None if record["top5"] is None else record["top5"]["value"],
                    "gain_points": 100 * (top1 - alone[seed]) if seed in alone else None,
                    "score_id": record["score_id"],
                    "location": str((folder / "score").relative_to(out)),
                }
            )
        rows.append(_row(share, data, chosen, scores))
    result = {"format_version": FORMAT_VERSION, "recipe": recipe.name, "inputs": inputs, "fixed": fixed, "rows": rows}
    text = json.dumps(result, indent=2, sort_keys=True) + "\n"
    write_atomic(out / NAS_NAME, lambda path: _write_text(path, text))
    return result


def _checked(shares: Sequence[float], seeds: Sequence[int], fixed: str) -> list[float]:
    if not shares or len(set(shares)) < len(shares) or not all(0 <= share <= 1 for share in shares):
        raise InputError(f"shares are {list(shares)}, allowed: different numbers from 0 to 1")
    if not 1 <= len(seeds) <= MAX_SEEDS or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {list(seeds)}, allowed: 1 to {MAX_SEEDS} different whole numbers")
    if fixed not in FIXED:
        raise InputError(f"fixed is {fixed!r}, allowed: {', '.join(FIXED)}")
    return sorted(shares)  # the real images alone come first


def _row(share: float, data: TrainingSet, recipe: Recipe, scores: list[dict[str, Any]]) -> dict[str, Any]:
    gains = [entry["gain_points"] for entry in scores]
    return {
        "share": share,
        "num": len(data),
        "set_id": data.expression.set_id,
        "recipe_id": recipe.recipe_id,
        "num_steps": recipe.num_steps,
        "scores": scores,
        "top1": spread([entry["top1"] for entry in scores]),
        "gain_points": None if None in gains else spread(gains),
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
