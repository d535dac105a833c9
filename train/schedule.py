"""The learning rate of every optimizer step.

`cosine` and `linear` are timm's: the line up ends with the step before the fall, and the first step has more than zero.
`steps` and `quadratic` are closed forms of the step number, as the code of the paper's classifier has them
(tensorflow/tpu, models/official/resnet/{resnet_main,lars_util}.py): the first step has zero.
"""

import math
from collections.abc import Callable

import torch
from timm.scheduler import CosineLRScheduler, PolyLRScheduler  # type: ignore[attr-defined]

from caskit.train.recipes import Recipe

DROP = 0.1


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate of step 0, 1, ... for `steps` and `quadratic`.

    Both rise by `peak * step / (warmup * num_steps)`, where the number of steps of the warm-up need not be whole.
    `steps` then has the peak times 0.1 for each drop passed. `quadratic` is TensorFlow's polynomial decay of power 2
    from the peak to `final_rate`, over one step more than are left when the warm-up ends.
    """
    peak, rising = recipe.learning_rate, recipe.warmup * recipe.num_steps
    if recipe.decay == "steps":
        if step < rising:
            return peak * step / rising
        return peak * DROP ** sum(step >= drop for drop in recipe.drops)
    assert recipe.decay == "quadratic", f"{recipe.decay} is timm's"
    if rising and step <= rising:
        return peak * step / rising
    before = math.floor(rising)
    passed = max(1, step - before) / (recipe.num_steps - before + 1)
    return (peak - recipe.final_rate) * (1 - passed) ** 2 + recipe.final_rate


def build_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer) -> Callable[[int], None]:
    """Return what sets the rate of step 0, 1, ... in all groups of an optimizer; it has no state but the step."""
    if recipe.decay in ("steps", "quadratic"):

        def set_rate(step: int) -> None:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step) * group.get("lr_scale", 1.0)

        return set_rate
    warmup_steps = round(recipe.warmup * recipe.num_steps)
    length, later = recipe.num_steps - warmup_steps, 1 if recipe.warmup else 0
    if recipe.decay == "cosine":
        cosine = CosineLRScheduler(
            optimizer,
            t_initial=length,
            lr_min=recipe.final_rate,
            warmup_t=warmup_steps,
            warmup_prefix=True,
            t_in_epochs=False,
        )
        return lambda step: cosine.step_update(step + later)
    line = PolyLRScheduler(
        optimizer,
        t_initial=length,
        lr_min=recipe.final_rate,
        power=1.0,
        warmup_t=warmup_steps,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    return lambda step: line.step_update(step + later)
