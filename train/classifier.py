"""The classifier and one step of its training, of timm's layers, optimizers and schedules."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import timm
import torch
from timm.layers import BatchNormAct2d, SelectAdaptivePool2d, get_act_layer  # type: ignore[attr-defined]
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler import CosineLRScheduler, PolyLRScheduler  # type: ignore[attr-defined]
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.nn import functional

from caskit.manifests.errors import InputError
from caskit.train.augment import Augmenter
from caskit.train.ema import Ema
from caskit.train.order import Order
from caskit.train.precision import autocast
from caskit.train.recipes import Recipe


class Block(nn.Module):
    """Convolution, pooling, batch norm, activation: pooling first leaves the others a quarter of the work."""

    def __init__(self, inputs: int, outputs: int, *, pool: bool, activation: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = BatchNormAct2d(outputs, act_layer=activation)

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H, W], or to half the height and width."""
        features: Tensor = self.norm(self.pool(self.conv(images)))
        return features


def _convnet(recipe: Recipe, num_classes: int, channels: int) -> nn.Module:
    try:
        get_act_layer(recipe.activation)
    except KeyError as error:
        raise InputError(f"recipe: activation is {recipe.activation!r}, not one of timm's") from error
    inputs = (channels, *recipe.widths[:-1])
    blocks = [
        Block(i, o, pool=number < recipe.num_poolings, activation=recipe.activation)
        for number, (i, o) in enumerate(zip(inputs, recipe.widths, strict=True))
    ]
    return nn.Sequential(
        *blocks,
        SelectAdaptivePool2d(pool_type="fastavg", flatten=True),  # a mean: its gradient is deterministic on GPUs
        nn.Dropout(recipe.dropout),
        nn.Linear(recipe.widths[-1], num_classes),
    )


def build_model(recipe: Recipe, num_classes: int, channels: int) -> nn.Module:
    """Return the recipe's network with fresh weights from torch's random state, in channels-last memory.

    It maps normalised images [N, channels, H, W] float32 to logits [N, num_classes].
    """
    if recipe.model == "convnet":
        model = _convnet(recipe, num_classes, channels)
    else:
        name = recipe.model.removeprefix("timm:")
        if not timm.is_model(name):
            raise InputError(f"recipe: model is {recipe.model!r}, timm {timm.__version__} has no {name!r}")
        model = timm.create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=channels, drop_rate=recipe.dropout
        )
    model.to(memory_format=torch.channels_last)
    return model


def normalise(images: np.ndarray, recipe: Recipe, device: torch.device) -> Tensor:
    """Turn [N, H, W, C] uint8 into what the network reads, [N, C, H, W] float32 in channels-last memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    return tensor.to(torch.float32, memory_format=torch.channels_last).sub_(255 * recipe.mean).div_(255 * recipe.std)


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return timm's optimizer of that name; biases and norms are not decayed."""
    return create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )


def build_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer) -> Scheduler:
    """Return timm's schedule over updates: a line up, then a cosine or a line down to zero after the last step."""
    warmup_steps = round(recipe.warmup * recipe.num_steps)
    options: dict[str, Any] = {
        "t_initial": recipe.num_steps - warmup_steps,
        "warmup_t": warmup_steps,
        "warmup_prefix": True,
        "t_in_epochs": False,
    }
    if recipe.decay == "cosine":
        return CosineLRScheduler(optimizer, **options)
    return PolyLRScheduler(optimizer, power=1.0, **options)


class ClassifierTask:
    """Training a classifier, for `engine.run`. A step's data and augmentation follow from (seed, step)."""

    def __init__(
        self,
        recipe: Recipe,
        batch: Callable[[np.ndarray], np.ndarray],
        labels: np.ndarray,
        *,
        num_classes: int,
        channels: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Build the network from the seed.

        Args:
            recipe: how to train.
            batch: returns the images of sample ids, [n] int64 -> [n, H, W, C] uint8.
            labels: [N] int64 by sample_id.
            num_classes: of the class list.
            channels: of the images.
            seed: of weights, order and augmentation.
            device: where to compute.
        """
        self.recipe, self.device, self.num_steps = recipe, device, recipe.num_steps
        self._batch, self._labels = batch, labels
        torch.manual_seed(seed)
        self.model = build_model(recipe, num_classes, channels).to(device)
        self.optimizer = build_optimizer(recipe, self.model)
        self.schedule = build_schedule(recipe, self.optimizer)
        self.ema = Ema(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.order = Order(len(labels), recipe.batch_size, seed)
        self.augmenter = Augmenter(len(labels), seed, flip=recipe.flip, shift=recipe.shift)

    @property
    def classifier(self) -> nn.Module:
        """The network that is kept: the average where there is one, else the last weights."""
        return self.model if self.ema is None else self.ema.model

    def data(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a step's augmented images [batch_size, H, W, C] uint8 and labels [batch_size] int64."""
        parts = self.order.batch(step)
        images = [self.augmenter.apply(self._batch(ids), epoch, ids) for epoch, ids in parts]
        return np.concatenate(images), self._labels[np.concatenate([ids for _, ids in parts])]

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update; returns the mean loss of the batch, its top-1 and the learning rate."""
        recipe = self.recipe
        arrays, targets = self.data(step)
        images, labels = normalise(arrays, recipe, self.device), torch.from_numpy(targets).to(self.device)
        self.schedule.step_update(step + 1 if recipe.warmup else step)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total_loss, correct = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        parts = zip(torch.split(images, recipe.bn_batch), torch.split(labels, recipe.bn_batch), strict=True)
        for part_images, part_labels in parts:
            with autocast(self.device, recipe.precision):
                logits = self.model(part_images)
            loss = functional.cross_entropy(logits.float(), part_labels, label_smoothing=recipe.label_smoothing)
            share = len(part_labels) / recipe.batch_size
            (loss * share).backward()  # type: ignore[no-untyped-call]
            total_loss += loss.detach() * share
            correct += (logits.argmax(dim=1) == part_labels).sum()
        learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model)
        return {"loss": total_loss, "top1": correct / recipe.batch_size, "learning_rate": learning_rate}

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
