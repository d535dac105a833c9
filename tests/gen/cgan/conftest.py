"""A tiny labelled set, shared with the tests of biggan_deep, and a tiny fit to it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from caskit.gen.adversarial.config import CollapseConfig, StandingConfig
from caskit.gen.cgan import FitConfig, fit
from caskit.gen.cgan.config import NetworkConfig

SHARED = Path(__file__).parents[1] / "biggan_deep" / "tiny_gan.py"
NETWORK = NetworkConfig(
    channels=(12, 8, 8), discriminator_channels=(8, 12, 16), halvings=2, start_size=2, latent_size=6
)
CONFIG = FitConfig(
    preset="tiny",
    network=NETWORK,
    num_steps=12,
    batch_size=16,
    accumulation=2,
    discriminator_steps=2,
    generator_rate=2e-3,
    discriminator_rate=2e-3,
    ema_decay=0.9,
    storage="float16",
    collapse=CollapseConfig(check_every=4, grace=4, window=10, min_diversity=0.0, max_diversity=1e3),
    standing=StandingConfig(num_batches=3, batch_size=16),
)


@pytest.fixture(scope="session")
def tiny_set() -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("cgan_shared_tiny_gan", SHARED)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TinySet  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def config() -> FitConfig:
    return CONFIG


@pytest.fixture(scope="session")
def fitted(tiny_set: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny_set(), CONFIG, tmp_path_factory.mktemp("cgan") / "fit", device=torch.device("cpu"))
