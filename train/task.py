"""One step of a classifier's training, by one process or several, for `engine.run`.

A step's batch is cut into parts of `bn_batch` images. A part is what a forward pass sees and a batch norm measures: its
samples, augmentation, mixing and dropout follow from (seed, step, part) alone, and the processes share out whole parts.
So another number of processes sees the same samples in the same batch-norm batches; its sums of gradients are over the
same parts in another order and differ in their last bits only.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.manifests.errors import InputError
from caskit.train.classifier import build_model, normalise
from caskit.train.compiling import compiled
from caskit.train.crops import Source
from caskit.train.distributed import World
from caskit.train.draws import Draws
from caskit.train.ema import Ema
from caskit.train.engine import ALONE, step_seed
from caskit.train.mixing import mix, present
from caskit.train.optimizers import build_optimizer
from caskit.train.precision import autocast
from caskit.train.prefetch import Prefetch
from caskit.train.recipes import Recipe
from caskit.train.running import RunningStatistics
from caskit.train.samples import Read, TrainingImages
from caskit.train.schedule import build_schedule


class ClassifierTask:
    """Training a classifier."""

    def __init__(
        self,
        recipe: Recipe,
        read: Read,
        labels: np.ndarray,
        *,
        num_classes: int,
        channels: int,
        seed: int,
        device: torch.device,
        world: World = ALONE,
        num_workers: int = 0,
        ahead: bool = True,
        source: Source | None = None,
    ) -> None:
        """Build the network from the seed.

        Args:
            recipe: how to train.
            read: see `TrainingImages`.
            labels: [N] int64 by sample_id.
            num_classes: of the class list.
            channels: of the images.
            seed: of weights, order and augmentation.
            device: where to compute.
            world: the processes that share each step.
            num_workers: processes that make images ahead, see `Prefetch`; no bit depends on it.
            ahead: whether a thread does where there are none; no bit depends on it.
            source: see `TrainingImages`.

        Raises:
            InputError: there are more processes than parts in a step.
        """
        self.recipe, self.device, self.num_steps = recipe, device, recipe.num_steps
        self.world, self.seed, self.num_classes = world, seed, num_classes
        if world.size > recipe.num_parts:
            raise InputError(
                f"recipe {recipe.name} has {recipe.num_parts} batch-norm batches of {recipe.bn_batch} images a step, "
                f"{world.size} processes are too many; a smaller bn_batch is another recipe"
            )
        self.images = TrainingImages(recipe, read, labels, channels=channels, seed=seed, source=source)
        self._ahead = Prefetch(self.images, self.parts, self.num_steps, num_workers, ahead=ahead)
        self.waited_s = 0.0  # for images, on this process
        torch.manual_seed(seed)
        self.model = build_model(recipe, num_classes, channels).to(device)
        self._wrapped = world.wrap(compiled(self.model) if recipe.compile else self.model)
        self.optimizer = build_optimizer(recipe, self.model)
        self._set_rate = build_schedule(recipe, self.optimizer)
        self.ema = Ema(self.model, recipe.ema_decay) if recipe.ema_decay else None

    @property
    def classifier(self) -> nn.Module:
        """The network that is kept: the average where there is one, else the last weights."""
        return self.model if self.ema is None else self.ema.model

    @property
    def parts(self) -> range:
        """The parts of every step that are this process's, as many as of the others or one more."""
        return range(self.world.rank, self.recipe.num_parts, self.world.size)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update.

        Returns:
            The mean loss of the batch, its top-1 and the learning rate.
        """
        self._set_rate(step)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total_loss, correct = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        statistics = RunningStatistics(self.model, self.recipe.num_parts)
        for part in self.parts:
            statistics.begin()
            last = part == self.parts[-1]
            with contextlib.nullcontext() if last else self._unshared():
                loss, hits = self._part(step, part)
            statistics.end()
            total_loss += loss
            correct += hits
        statistics.write(self.world)
        learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model)
        # The engine averages over the processes.
        size = self.world.size
        return {
            "loss": total_loss * size,
            "top1": correct * size / self.recipe.batch_size,
            "learning_rate": learning_rate,
        }

    def _unshared(self) -> contextlib.AbstractContextManager[None]:
        """Return the block in which gradients are added up here and not yet over the processes."""
        if isinstance(self._wrapped, nn.parallel.DistributedDataParallel):
            return self._wrapped.no_sync()
        return contextlib.nullcontext()

    def _part(self, step: int, part: int) -> tuple[Tensor, Tensor]:
        """Add a part's gradient; return its part of the batch's mean loss, and how many images are told right."""
        recipe = self.recipe
        asked = time.perf_counter()
        pixels, targets = self._ahead.load(step, part)
        self.waited_s += time.perf_counter() - asked
        torch.manual_seed(step_seed(self.seed, step, part))
        images, labels = normalise(pixels, recipe, self.device), targets.to(self.device)
        shares: Tensor = labels
        if recipe.mixup or recipe.cutmix:
            draws = Draws(self.seed, "mix", step, part)
            images, shares = mix(
                images, labels, self.num_classes, mixup=recipe.mixup, cutmix=recipe.cutmix, draws=draws
            )
        with autocast(self.device, recipe.precision):
            logits = self._wrapped(images)
        loss = self._loss(logits.float(), shares) * (len(labels) / recipe.batch_size)
        self._ahead.make_next()
        # DistributedDataParallel divides by the number of processes; the shares of all parts sum to one already.
        (loss * self.world.size).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), (logits.argmax(dim=1) == labels).sum()

    def _loss(self, logits: Tensor, shares: Tensor) -> Tensor:
        """Return the mean loss for labels [n] int64 or shares of classes [n, classes]."""
        if self.recipe.loss == "cross-entropy":
            return functional.cross_entropy(logits, shares, label_smoothing=self.recipe.label_smoothing)
        if shares.ndim == 1:
            shares = functional.one_hot(shares, self.num_classes).float()
        return functional.binary_cross_entropy_with_logits(logits, present(shares))

    def state_dict(self) -> dict[str, Any]:
        """Return network, optimizer and average; the schedule has no state but the step."""
        state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
