"""The recipe's network, of timm's layers and models, and what it reads."""

from typing import Any

import numpy as np
import timm
import torch
from timm.layers import BatchNormAct2d, SelectAdaptivePool2d, get_act_layer  # type: ignore[attr-defined]
from torch import Tensor, nn

from caskit.manifests.errors import InputError
from caskit.train.cifar_resnet import CifarResNet
from caskit.train.crops import centre_crops
from caskit.train.initial import tf_resnet
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


def _timm_model(recipe: Recipe, num_classes: int, channels: int) -> nn.Module:
    name = recipe.model.removeprefix("timm:")
    if not timm.is_model(name):
        raise InputError(f"recipe: model is {recipe.model!r}, timm {timm.__version__} has no {name!r}")
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels, "drop_rate": recipe.dropout}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = recipe.resolution
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value}" for key, value in options.items())
        raise InputError(f"recipe: timm's model {name!r} cannot be made with {shown}: {error}") from error


def build_model(recipe: Recipe, num_classes: int, channels: int) -> nn.Module:
    """Return the recipe's network with fresh weights from torch's random state, in channels-last memory.

    It maps normalised images [N, channels, H, W] float32 to logits [N, num_classes].

    Raises:
        InputError: timm has no such model, or cannot make it for these images.
    """
    if recipe.model == "convnet":
        model = _convnet(recipe, num_classes, channels)
    elif recipe.model.startswith("cifar-resnet"):
        depth = int(recipe.model.removeprefix("cifar-resnet"))
        model = CifarResNet(depth, num_classes, channels, dropout=recipe.dropout)
    else:
        model = _timm_model(recipe, num_classes, channels)
    if recipe.initial == "tf-resnet":
        tf_resnet(model)
    model.to(memory_format=torch.channels_last)
    return model


def normalise(images: np.ndarray | Tensor, recipe: Recipe, device: torch.device) -> Tensor:
    """Turn [N, H, W, C] in units of 255 into what the network reads, [N, C, H, W] float32 in channels-last memory."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    # A copy even of float32: what follows is in place.
    pixels = images.to(device).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if not recipe.channel_mean:
        return pixels.sub_(255 * recipe.mean).div_(255 * recipe.std).permute(0, 3, 1, 2)
    # Row by row: torch takes a number per channel three pixels' values at a time, several times slower, the same bits.
    mean, std = (
        torch.tensor([255 * value for value in values], device=device).repeat(pixels.shape[2])
        for values in (recipe.channel_mean, recipe.channel_std)
    )
    pixels.flatten(2).sub_(mean).div_(std)
    return pixels.permute(0, 3, 1, 2)


def prepare(images: list[np.ndarray] | np.ndarray, recipe: Recipe, device: torch.device) -> Tensor:
    """Return what a trained network reads of images, each [H, W, C] uint8: cropped as tests are, normalised."""
    return normalise(centre_crops(images, recipe), recipe, device)
