"""What trainings will take, told before they start."""

import time
from collections.abc import Sequence

import torch

from caskit.evaluate.trainings import Training
from caskit.train.device import num_threads
from caskit.train.recipes import Recipe
from caskit.train.training import open_images

PROBE_STEPS = 3


def images_per_s(training: Training, recipe: Recipe, device: torch.device) -> float:
    """Measure the training speed on this machine by a few steps of a classifier that is thrown away.

    Raises InputError for images that the recipe is not for.
    """
    from caskit.train.task import ClassifierTask  # on use: timm takes seconds to import

    images = open_images(training.data, recipe)
    with num_threads(recipe.threads):
        task = ClassifierTask(
            recipe,
            images.batch if recipe.crop == "none" else images.each,
            training.data.labels,
            num_classes=len(training.data.classes),
            channels=images.channels,
            seed=0,
            device=device,
            source=images,
        )
        started = 0.0
        for step in range(1 + PROBE_STEPS):  # the first one allocates
            float(task.step(step)["loss"])  # waits for a GPU
            started = started or time.perf_counter()
    return PROBE_STEPS * recipe.batch_size / (time.perf_counter() - started)


def cost_line(trainings: Sequence[Training], recipe: Recipe) -> str:
    """Say how many trainings are left and of how many images, before any is started."""
    left = sum(not training.finished for training in trainings)
    each = recipe.num_steps * recipe.batch_size
    done = len(trainings) - left
    text = (
        f"{left} trainings of {recipe.num_steps:,} steps of {recipe.batch_size} images, {left * each:,} images in all"
    )
    return f"{text}; {done} done before" if done else text
