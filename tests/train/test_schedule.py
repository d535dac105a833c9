import math

import pytest
import torch

from caskit.train.presets import NUM_IMAGENET, cas_resnet50, cas_resnet50_tpu128, cifar_resnet56
from caskit.train.recipes import Recipe
from caskit.train.schedule import build_schedule, learning_rate


def rates(recipe: Recipe, steps: range) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    set_rate = build_schedule(recipe, optimizer)
    found = []
    for step in steps:
        set_rate(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("decay", ["linear", "cosine"])
@pytest.mark.parametrize("final_rate", [0.0, 0.1])
def test_a_line_up_and_a_fall(decay: str, final_rate: float) -> None:
    recipe = Recipe(
        name="r", resolution=8, num_steps=100, warmup=0.2, learning_rate=0.5, decay=decay, final_rate=final_rate
    )
    found = rates(recipe, range(100))
    assert found[:20] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    falls = [(step + 1 - 20) / 80 for step in range(20, 100)]
    closed_form = {"linear": [1 - f for f in falls], "cosine": [(1 + math.cos(math.pi * f)) / 2 for f in falls]}[decay]
    assert found[20:] == pytest.approx([final_rate + (0.5 - final_rate) * c for c in closed_form])


def test_the_papers_learning_rates_number_by_number() -> None:
    """resnet_main.py: 0.1 * 1024 / 256 after 5 epochs of warm-up, a tenth at epochs 30, 60, 80 of 1,281,167."""
    recipe = cas_resnet50()
    peak, steps_per_epoch = 0.1 * 1024 / 256, 1_281_167 / 1024
    factors = [(5, 1.0), (30, 0.1), (60, 0.01), (80, 0.001)]

    def published(step: int) -> float:
        epoch = step / steps_per_epoch
        rate = peak * epoch / 5
        for start, factor in factors:
            rate = rate if epoch < start else peak * factor
        return rate

    edges = [round(start * steps_per_epoch) + near for start, _ in factors for near in range(-3, 4)]
    steps = sorted({*range(0, recipe.num_steps, 997), *edges, recipe.num_steps - 1})
    assert [learning_rate(recipe, step) for step in steps] == pytest.approx(
        [published(step) for step in steps], rel=1e-12
    )
    assert learning_rate(recipe, 0) == 0
    assert recipe.num_steps == 112_590
    assert recipe.num_steps * 1024 / NUM_IMAGENET == pytest.approx(90, abs=0.02)
    assert rates(recipe, range(6250, 6260)) == [learning_rate(recipe, step) for step in range(6250, 6260)]


def test_the_128_cores_learning_rates_number_by_number() -> None:
    """lars_util.poly_rate_schedule at 16,384 images, with the end of 1e-4 that tf.train.polynomial_decay has."""
    recipe = cas_resnet50_tpu128()

    def published(step: int) -> float:
        epoch = step / (1_281_167 / 16_384)
        before = 5 * 1_281_167 // 16_384
        if epoch <= 5:
            return 25.0 * epoch / 5
        passed = max(1, step - before) / (7116 - before + 1)
        return (25.0 - 0.0001) * (1 - passed) ** 2 + 0.0001

    steps = range(7116)
    assert [learning_rate(recipe, step) for step in steps] == pytest.approx([published(s) for s in steps], rel=1e-12)
    assert (recipe.batch_size, recipe.num_steps, recipe.label_smoothing) == (16_384, 7116, 0.1)


def test_the_learning_rates_of_he_et_al() -> None:
    recipe = cifar_resnet56()
    found = [learning_rate(recipe, step) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert [round(steps * 128 / 45_000) for steps in (32_000, 48_000, 64_000)] == [91, 137, 182]
