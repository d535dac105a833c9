import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from caskit.manifests.errors import InputError
from caskit.train.classifier import normalise
from caskit.train.distributed import World
from caskit.train.order import Order
from caskit.train.recipes import Recipe
from caskit.train.samples import TrainingImages
from caskit.train.task import ClassifierTask

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (20, 12, 16, 3), dtype=np.uint8)
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


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = make_task(tiny(), seed=1).model.state_dict()
    torch.rand(3)
    second, third = make_task(tiny(), seed=1).model.state_dict(), make_task(tiny(), seed=2).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["0.conv.weight"], third["0.conv.weight"])


def test_a_step_is_plain_gradient_descent() -> None:
    recipe = tiny(warmup=0.0, label_smoothing=0.1)
    task, reference = make_task(recipe), make_task(recipe)
    arrays, targets = reference.images.load(0, 0)
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
    before = [buffer.clone() for buffer in reference.model.buffers()]
    left = []
    for part in (0, 1):
        for buffer, found in zip(reference.model.buffers(), before, strict=True):
            buffer.copy_(found)
        arrays, targets = reference.images.load(0, part)
        logits = reference.model(normalise(arrays, recipe, CPU))
        (functional.cross_entropy(logits, torch.from_numpy(targets)) / 2).backward()
        left.append([buffer.clone() for buffer in reference.model.buffers()])
    task.step(0)
    for ours, theirs in zip(task.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)
    for ours, first, second in zip(task.model.buffers(), *left, strict=True):
        torch.testing.assert_close(ours, ((first + second) / 2).to(ours.dtype))


def test_the_average_is_what_is_kept() -> None:
    task = make_task(tiny(ema_decay=0.9))
    task.step(0)
    assert task.ema is not None and task.classifier is task.ema.model
    assert make_task(tiny()).classifier is not None and make_task(tiny()).ema is None


def test_batches_follow_the_order_and_end_an_epoch_inside() -> None:
    task = make_task(tiny())
    seen = np.concatenate([task.images.load(step, 0)[0] for step in range(5)])
    assert len(seen) == 40
    for epoch in (seen[:20], seen[20:]):
        assert {image.tobytes() for image in epoch} == {image.tobytes() for image in IMAGES}


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_parts_make_the_batch_of_the_order(num_parts: int) -> None:
    recipe = tiny(bn_batch=8 // num_parts)
    images, order = TrainingImages(recipe, lambda ids: IMAGES[ids], LABELS, channels=1, seed=3), Order(20, 8, 3)
    for step in range(6):
        parts = [images.ids(step, part) for part in range(num_parts)]
        assert all(sum(len(ids) for _, ids in part) == recipe.bn_batch for part in parts)
        seen = [(epoch, sample) for part in parts for epoch, ids in part for sample in ids.tolist()]
        assert seen == [(epoch, sample) for epoch, ids in order.batch(step) for sample in ids.tolist()]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_any_number_of_processes_sees_every_sample_once_an_epoch_in_the_same_parts(size: int) -> None:
    """What is computed by whom: each part by one process, so (epoch, sample) are those of one process alone."""
    recipe = tiny(bn_batch=2, num_steps=10)
    images = TrainingImages(recipe, lambda ids: IMAGES[ids], LABELS, channels=1, seed=3)
    seen: list[tuple[int, int]] = []
    for step in range(10):
        shares = [[*range(rank, recipe.num_parts, size)] for rank in range(size)]
        assert sorted(part for share in shares for part in share) == [0, 1, 2, 3]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        for share in shares:
            seen += [(e, i) for part in share for e, ids in images.ids(step, part) for i in ids.tolist()]
    assert sorted(seen) == [(epoch, sample) for epoch in range(4) for sample in range(20)]


def test_more_processes_than_parts_are_refused() -> None:
    with pytest.raises(InputError, match="recipe tiny has 2 batch-norm batches of 4 images a step, 3 processes are"):
        ClassifierTask(
            tiny(bn_batch=4),
            lambda ids: IMAGES[ids],
            LABELS,
            num_classes=3,
            channels=1,
            seed=0,
            device=CPU,
            world=World(rank=0, size=3),
        )


def test_crops_and_mixing_of_a_part_do_not_depend_on_what_came_before() -> None:
    recipe = tiny(
        crop="uniform-area", mixup=0.5, cutmix=1.0, loss="binary", flip="random", randaugment="rand-m6-mstd0.5-inc1"
    )
    options: dict[str, Any] = {"num_classes": 3, "channels": 3, "seed": 2, "device": CPU}
    task, other = (ClassifierTask(recipe, lambda ids: list(COLOURS[ids]), LABELS, **options) for _ in range(2))
    task.images.load(1, 0)
    state = np.random.get_state()[1].tolist()
    loaded = [t.images.load(4, 0)[0] for t in (task, other)]
    assert np.array_equal(*loaded) and loaded[0].shape == (8, 8, 8, 3) and loaded[0].dtype == np.uint8
    assert np.random.get_state()[1].tolist() == state
    assert not np.array_equal(loaded[0], task.images.load(5, 0)[0])
    assert float(task.step(4)["loss"]) == float(other.step(4)["loss"])


def test_the_binary_loss_counts_what_is_visible() -> None:
    """Wightman et al. 2021: a class of more than a fifth of the image is present, a mean over the classes."""
    task = make_task(tiny(loss="binary"))
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    for shares, present in (([0.7, 0.3, 0.0], [1, 1, 0]), ([0.9, 0.1, 0.0], [1, 0, 0])):
        expected = -sum(torch.log(torch.sigmoid(x if p else -x)) for x, p in zip(logits[0], present, strict=True)) / 3
        assert float(task._loss(logits, torch.tensor([shares]))) == pytest.approx(float(expected), rel=1e-6)
    assert float(task._loss(logits, torch.tensor([1]))) == float(task._loss(logits, torch.tensor([[0.0, 1.0, 0.0]])))


def test_label_smoothing_holds_for_mixed_targets() -> None:
    task = make_task(tiny(label_smoothing=0.1))
    logits, shares = torch.randn(4, 3), torch.softmax(torch.randn(4, 3), dim=1)
    smoothed = 0.9 * shares + 0.1 / 3
    expected = -(smoothed * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(task._loss(logits, shares), expected)
