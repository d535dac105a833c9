"""Fitting the judge of a generator: a classifier trained on the images that the generator is fitted to."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import torch

from caskit.manifests.errors import InputError
from caskit.manifests.rejection import MAX_CANDIDATES, Rejection
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.engine import ALONE, Progress
from caskit.train.presets import get_recipe
from caskit.train.recipes import Recipe
from caskit.train.training import train


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """The judge that a fit makes, and what it is for.

    Attributes:
        recipe: how the classifier is trained, a name of `caskit train`'s; empty makes none.
        num_steps: optimizer steps of it; 0: the recipe's own. Other steps than those of the Real row give another
            classifier than that one, so a score does not meet its own judge.
        candidates: see Rejection, as for threshold.
        threshold: see there.
    """

    recipe: str = ""
    num_steps: int = 0
    candidates: int = 4
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, str):
            raise InputError(f"judge.recipe is {self.recipe!r}, must be the name of a recipe, or empty")
        if type(self.num_steps) is not int or not 0 <= self.num_steps <= 10**9:
            raise InputError(f"judge.num_steps is {self.num_steps!r}, allowed: 0 (the recipe's), up to 10^9")
        if type(self.candidates) is not int or not 2 <= self.candidates <= MAX_CANDIDATES:
            raise InputError(f"judge.candidates is {self.candidates!r}, allowed: 2..{MAX_CANDIDATES}")
        if type(self.threshold) is not float or not 0 < self.threshold < 1:
            raise InputError(f"judge.threshold is {self.threshold!r}, allowed: a number above 0 and below 1")
        if not self.recipe:
            for name in ("num_steps", "candidates", "threshold"):
                value, none = getattr(self, name), getattr(JudgeConfig, name)
                if value != none:
                    raise InputError(f"judge.{name} is {value!r} and judge.recipe names no judge, allowed then: {none}")

    def resolved(self) -> Recipe:
        """Return the recipe with its length. Raises InputError for a name that is none."""
        recipe = get_recipe(self.recipe)
        return dataclasses.replace(recipe, num_steps=self.num_steps) if self.num_steps else recipe


def fit_judge(
    data: FrozenSet,
    config: JudgeConfig,
    out: Path,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
) -> Rejection | None:
    """Train the judge of a fit; the same call goes on after an interruption.

    Args:
        data: what the generator is fitted to.
        config: how; one without a recipe makes none.
        out: the classifier's folder, which `save_checkpoint` takes it from.
        seed: of the classifier.
        device: where to compute.
        progress: told how far it is.
        stop: asked before every step whether to stop.
        world: the processes of the fit. They train it together, or, where there are more of them than the recipe has
            batch-norm batches in a step, rank 0 alone.

    Returns:
        What the checkpoint's record has to name, None without a judge.

    Raises:
        InputError: the set does not fit the recipe, or `out` holds another classifier.
        NotFinished: `stop` said so.
    """
    if not config.recipe:
        return None
    recipe = config.resolved()
    go = functools.partial(train, data, recipe, seed=seed, out=out, device=device, progress=progress, stop=stop)
    if world.size <= recipe.num_parts:
        classifier_id = str(go(world=world)["classifier_id"])
    else:
        classifier_id = ""
        with world.agreed():
            if world.first:
                classifier_id = str(go()["classifier_id"])
        classifier_id = world.send(classifier_id.encode()).decode()
    return Rejection(candidates=config.candidates, classifier_id=classifier_id, threshold=config.threshold)
