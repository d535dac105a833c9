import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from caskit.manifests.errors import InputError
from caskit.train.classifier import ClassifierTask, build_model, build_optimizer, build_schedule, normalise
from caskit.train.recipes import Recipe

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(20) % 3


def tiny(**changes: Any) -> Recipe:
    base = Recipe(
        name="tiny",
        widths=(4, 6),
        num_poolings=1,
        resolution=8,
        num_steps=10,
        batch_size=8,
        bn_batch=8,
        learning_rate=0.1,
        optimizer="momentum",
        momentum=0.0,
        weight_decay=0.0,
    )
    return dataclasses.replace(base, **changes)


def make_task(recipe: Recipe, seed: int = 0) -> ClassifierTask:
    return ClassifierTask(recipe, lambda ids: IMAGES[ids], LABELS, num_classes=3, channels=1, seed=seed, device=CPU)


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_map_images_to_logits(channels: int) -> None:
    for recipe in (tiny(), tiny(model="timm:test_resnet", resolution=64)):
        model = build_model(recipe, 5, channels).eval()
        images = np.zeros((2, recipe.resolution, recipe.resolution, channels), dtype=np.uint8)
        assert model(normalise(images, recipe, CPU)).shape == (2, 5)


def test_unknown_parts() -> None:
    with pytest.raises(InputError, match="has no 'resnet1e9'"):
        build_model(tiny(model="timm:resnet1e9"), 3, 1)
    with pytest.raises(InputError, match="activation is 'step'"):
        build_model(tiny(activation="step"), 3, 1)


def test_normalise() -> None:
    tensor = normalise(IMAGES, tiny(mean=0.25, std=0.5), CPU)
    expected = (IMAGES.astype(np.float64) / 255 - 0.25) / 0.5
    np.testing.assert_allclose(tensor.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    assert normalise(np.repeat(IMAGES, 3, axis=3), tiny(), CPU).is_contiguous(memory_format=torch.channels_last)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = make_task(tiny(), seed=1).model.state_dict()
    torch.rand(3)
    second, third = make_task(tiny(), seed=1).model.state_dict(), make_task(tiny(), seed=2).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["0.conv.weight"], third["0.conv.weight"])


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_schedule_is_a_line_up_and_a_fall_to_zero(decay: str) -> None:
    recipe = tiny(num_steps=100, warmup=0.2, learning_rate=0.5, decay=decay)
    optimizer = build_optimizer(recipe, build_model(recipe, 3, 1))
    schedule = build_schedule(recipe, optimizer)
    rates = []
    for step in range(101):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:21] == pytest.approx([0.5 * step / 20 for step in range(21)])
    falls = [(step - 20) / 80 for step in range(20, 101)]
    closed_form = {"linear": [1 - f for f in falls], "cosine": [(1 + math.cos(math.pi * f)) / 2 for f in falls]}[decay]
    assert rates[20:] == pytest.approx([0.5 * c for c in closed_form])


def test_norms_and_biases_are_not_decayed() -> None:
    recipe = tiny(weight_decay=0.1)
    model = build_model(recipe, 3, 1)
    decayed = {
        id(parameter)
        for group in build_optimizer(recipe, model).param_groups
        for parameter in group["params"]
        if group["weight_decay"] > 0
    }
    assert {name for name, p in model.named_parameters() if id(p) in decayed} == {
        "0.conv.weight",
        "1.conv.weight",
        "4.weight",
    }


def test_a_step_is_plain_gradient_descent() -> None:
    recipe = tiny(warmup=0.0, label_smoothing=0.1)
    task, reference = make_task(recipe), make_task(recipe)
    arrays, targets = reference.data(0)
    logits = reference.model(normalise(arrays, recipe, CPU))
    loss = functional.cross_entropy(logits, torch.from_numpy(targets), label_smoothing=0.1)
    loss.backward()
    metrics = task.step(0)
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-6)
    assert float(metrics["top1"]) == pytest.approx((logits.argmax(1).numpy() == targets).mean())
    assert metrics["learning_rate"] == 0.1
    for ours, theirs in zip(task.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)


def test_bn_batch_splits_statistics_but_not_the_update() -> None:
    recipe = tiny(warmup=0.0, bn_batch=4)
    task, reference = make_task(recipe), make_task(recipe)
    arrays, targets = reference.data(0)
    images, labels = normalise(arrays, recipe, CPU), torch.from_numpy(targets)
    halves = [functional.cross_entropy(reference.model(images[h]), labels[h]) for h in (slice(0, 4), slice(4, 8))]
    (sum(halves) / 2).backward()
    task.step(0)
    for ours, theirs in zip(task.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)


def test_the_average_is_what_is_kept() -> None:
    task = make_task(tiny(ema_decay=0.9))
    task.step(0)
    assert task.ema is not None and task.classifier is task.ema.model
    assert make_task(tiny()).classifier is not None and make_task(tiny()).ema is None


def test_batches_follow_the_order_and_end_an_epoch_inside() -> None:
    task = make_task(tiny())
    seen = np.concatenate([task.data(step)[0] for step in range(5)])
    assert len(seen) == 40
    for epoch in (seen[:20], seen[20:]):
        assert {image.tobytes() for image in epoch} == {image.tobytes() for image in IMAGES}
