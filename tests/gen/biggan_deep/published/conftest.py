"""Weights of the parity reference: made by its own constructor, then changed so that every tensor matters."""

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.importing import PUBLISHED, import_generator
from caskit.gen.checkpoint import Checkpoint, save_checkpoint
from caskit.gen.foreign import read_state_dict
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.seeds import stream_key

NUM_CLASSES = 6
WIDTH = 8
CLOUD = ("boto3", "botocore", "botocore.exceptions")  # only its downloads use these


def network_of(preset: str, width: int = WIDTH) -> NetworkConfig:
    return NetworkConfig(width=width, multipliers=PUBLISHED[preset])


@pytest.fixture(scope="session")
def reference() -> Iterator[Any]:
    """Import pytorch-pretrained-biggan; the cloud client that it downloads with stands empty where it is missing."""
    added = [name for name in CLOUD if name not in sys.modules and not _there(name)]
    for name in added:
        sys.modules[name] = types.ModuleType(name)
    if "botocore.exceptions" in added:
        sys.modules["botocore.exceptions"].ClientError = OSError  # type: ignore[attr-defined]
    try:
        yield pytest.importorskip("pytorch_pretrained_biggan")
    finally:
        for name in added:
            del sys.modules[name]


def _there(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


@pytest.fixture(scope="session")
def make_reference(reference: Any) -> Callable[..., Any]:
    def make(config: NetworkConfig, num_classes: int = NUM_CLASSES) -> Any:
        torch.manual_seed(0)
        layers = [[doubles, before // config.width, after // config.width] for before, after, doubles in config.blocks]
        model = reference.BigGAN(
            reference.BigGANConfig(
                output_dim=config.image_size,
                channel_width=config.width,
                num_classes=num_classes,
                layers=layers,
                attention_layer_position=2 * config.attention_after,
            )
        )
        perturb(model)
        return model.eval()

    return make


@torch.no_grad()
def perturb(model: Any) -> None:
    """Move every tensor off its initial value, with all maps staying of the order of 1."""
    for module in model.modules():  # a constructor's vectors of a spectral norm are random, its norm then arbitrary
        for hook in module._forward_pre_hooks.values():
            module.train()
            for _ in range(10):
                hook(module, None)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            parameter.fill_(0.7)
        elif name == "generator.bn.weight":
            parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
        elif name.endswith("bias"):
            parameter.copy_(0.1 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("running_vars"):
            buffer.copy_(0.75 + 0.5 * torch.rand_like(buffer))
        elif name.endswith("running_means"):
            buffer.copy_(0.2 * torch.randn_like(buffer))


@pytest.fixture(scope="session")
def published(
    make_reference: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Any, Path]]:
    """Return the reference of a preset at a small width, and its file."""
    made: dict[str, tuple[Any, Path]] = {}

    def get(preset: str) -> tuple[Any, Path]:
        if preset not in made:
            model = make_reference(network_of(preset))
            path = tmp_path_factory.mktemp("published") / "pytorch_model.bin"
            torch.save(model.state_dict(), path)
            made[preset] = (model, path)
        return made[preset]

    return get


@pytest.fixture(scope="session")
def imported(published: Callable[[str], tuple[Any, Path]], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint with a table of statistics: the smallest preset at a small width, imported."""
    config = network_of("imagenet-128")
    _, path = published("imagenet-128")
    return save(tmp_path_factory.mktemp("imported"), config, import_small(path, config))


def import_small(path: Path, config: NetworkConfig) -> dict[str, Tensor]:
    return import_generator(read_state_dict(path), config, num_classes=NUM_CLASSES, name=path.name)


def save(folder: Path, config: NetworkConfig, tensors: dict[str, Tensor], **changes: Any) -> Checkpoint:
    fields: dict[str, Any] = {
        "family": "biggan_deep",
        "preset": "imagenet-128",
        "config": {"network": config.to_json(), "statistics": {"kind": "table", "num": 51}},
        "classes": ClassList.from_names([str(label) for label in range(len(tensors["embedding.weight"]))]),
        "height": config.image_size,
        "width": config.image_size,
        "channels": len(tensors["image.weight"]),
        "tensors": tensors,
    }
    return save_checkpoint(folder, **{**fields, **changes})


@pytest.fixture(scope="session")
def make_streams() -> Callable[[np.ndarray], Streams]:
    return lambda labels: Streams([stream_key(0, int(label), number, 0) for number, label in enumerate(labels)])
