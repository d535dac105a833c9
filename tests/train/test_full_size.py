"""The paper's classifier in its own size: two steps of `cas-resnet50` at batch 32."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from caskit.train.presets import cas_resnet50
from caskit.train.schedule import learning_rate
from caskit.train.task import ClassifierTask

NUM_CLASSES, BATCH, NUM = 1000, 32, 64


@pytest.mark.timeout(900)
def test_two_steps_of_the_papers_classifier_at_batch_32() -> None:
    """Nothing is smaller than the recipe says but the batch: 25.6 million weights, 224 pixels, 1000 classes, bfloat16.

    The warm-up begins at a rate of zero, so the first step leaves the weights as they were and the second one moves
    them (not those behind a last batch norm that begins at zero); on labels that say nothing the loss is that of
    guessing.
    """
    recipe = dataclasses.replace(cas_resnet50(), batch_size=BATCH, bn_batch=BATCH)
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (260 + i, 330 - i, 3), dtype=np.uint8) for i in range(8)]
    labels = random.permutation(NUM_CLASSES)[:NUM].astype(np.int64)
    task = ClassifierTask(
        recipe,
        lambda ids: [photos[sample % len(photos)] for sample in ids.tolist()],
        labels,
        num_classes=NUM_CLASSES,
        channels=3,
        seed=0,
        device=torch.device("cpu"),
    )
    groups = {group["weight_decay"]: len(group["params"]) for group in task.optimizer.param_groups}
    assert groups == {1e-4: 53 + 2, 0.0: 2 * 53}, "53 convolutions and the last layer decay, 53 batch norms do not"
    assert sum(parameter.numel() for parameter in task.model.parameters()) == 25_557_032
    images, _ = task.images.load(0, 0)
    assert images.shape == (BATCH, 224, 224, 3)
    first = [parameter.detach().clone() for parameter in task.model.parameters()]
    for step in range(2):
        found = task.step(step)
        assert found["learning_rate"] == learning_rate(cas_resnet50(), step)
        assert found["learning_rate"] == pytest.approx(0.4 * step / (5 * 1_281_167 / 1024), rel=1e-12)
        assert float(found["loss"]) == pytest.approx(math.log(NUM_CLASSES), abs=0.5)
        named = zip(first, task.model.named_parameters(), strict=True)
        moved = {name for before, (name, parameter) in named if not torch.equal(before, parameter)}
        assert moved >= {"conv1.weight", "fc.weight", "fc.bias", "layer1.0.bn3.weight"} if step else not moved
    assert all(bool(torch.isfinite(parameter).all()) for parameter in task.model.parameters())
    norm = next(module for module in task.model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert int(norm.num_batches_tracked or 0) == 2
