"""A tiny labelled set, a tiny fit of it, and the streams to sample it with."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.streams import Streams
from caskit.gen.vqvae2 import FitConfig, Settings, Vqvae2Generator, fit, load
from caskit.manifests.seeds import stream_key

TINY = Path(__file__).with_name("tiny_fit.py")


def load_tiny() -> Any:
    """Import the script beside this file, which is in no package."""
    spec = importlib.util.spec_from_file_location("vqvae2_tiny_fit", TINY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = load_tiny()


@pytest.fixture(scope="session")
def tiny_set() -> Callable[..., Any]:
    make: Callable[..., Any] = tiny.TinySet
    return make


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., FitConfig]:
    base: FitConfig = tiny.tiny_config()
    return lambda **changes: dataclasses.replace(base, **changes)


@pytest.fixture(scope="session")
def make_streams() -> Callable[..., Streams]:
    def make(labels: np.ndarray, *, seed: int = 0, first: int = 0) -> Streams:
        return Streams([stream_key(seed, int(label), first + i, 0) for i, label in enumerate(labels)])

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., FitConfig]) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "tiny"
    return fit(tiny.TinySet(), tiny_config(), folder, device=torch.device("cpu"))


@pytest.fixture
def generator(tiny_checkpoint: Path) -> Vqvae2Generator:
    return load(load_checkpoint(tiny_checkpoint), Settings(), torch.device("cpu"))
