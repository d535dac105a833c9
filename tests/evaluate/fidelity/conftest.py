"""Sets of coloured noise, a small network that stands in for Inception, and torch-fidelity's own command line."""

import functools
import json
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caskit.evaluate.fidelity.extractor import Identity, Outputs, as_rgb
from caskit.shards.dataset import FrozenSet
from caskit.train.images import Images

PARITY = runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "fidelity_parity.py"))


@pytest.fixture
def make_sets(tmp_path: Path) -> Callable[..., tuple[FrozenSet, FrozenSet]]:
    """Return a function that makes a set that stands for a replica, and a real one, as the benchmark does."""
    made: Callable[..., tuple[FrozenSet, FrozenSet]] = functools.partial(PARITY["make_sets"], tmp_path)
    return made


@pytest.fixture
def write_pngs(tmp_path: Path) -> Callable[[FrozenSet], Path]:
    """Return a function that unpacks a set as files whose names sort in the order in which caskit measures them."""

    def write(data: FrozenSet) -> Path:
        found: Path = PARITY["unpack"](data, tmp_path / f"png-{data.replica.replica_id[:16]}")
        return found

    return write


@pytest.fixture
def parity() -> dict[str, Any]:
    """What benchmarks/fidelity_parity.py defines: the comparison with torch-fidelity on many images."""
    return PARITY


class SmallNetwork(nn.Module):
    """Two convolutions on uint8 RGB of any size: features [n, 12] and logits [n, 7], fixed weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(16, 3, 5, 5, generator=generator) / 8
        self.second = torch.randn(12, 16, 3, 3, generator=generator) / 8
        self.head = torch.randn(12, 7, generator=generator)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(torch.conv2d((images.float() - 128) / 64, self.first, stride=2))
        features = torch.relu(torch.conv2d(hidden, self.second, stride=2)).mean(dim=(2, 3))
        return features, 4 * (features - features.mean(dim=1, keepdim=True)) @ self.head


class StandIn:
    """The small network as an extractor that counts the images it is shown."""

    one_size = True
    identity = Identity(name="stand-in", digest="ab" * 32, resize="none", usual_resize="none")

    def __init__(self) -> None:
        self.network, self.seen = SmallNetwork(), 0

    def check(self, images: Images, location: str) -> None:
        """Take any images."""

    def __call__(self, images: Sequence[np.ndarray]) -> Outputs:
        """Return features and logits."""
        self.seen += len(images)
        batch = torch.from_numpy(np.stack([as_rgb(image) for image in images]).transpose(0, 3, 1, 2).copy())
        features, logits = self.network(batch)
        return Outputs(features=features.numpy(), logits=logits.numpy())


@pytest.fixture
def stand_in() -> StandIn:
    """An extractor that takes milliseconds."""
    return StandIn()


@pytest.fixture
def fidelity_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, float]]:
    """Return a function that runs torch-fidelity's command line on two folders and returns the JSON it prints."""
    from torch_fidelity import fidelity

    def run(first: Path, second: Path, *options: str) -> dict[str, float]:
        words = ["fidelity", "--cpu", "--json", "--silent", "--save-cpu-ram", "--isc", "--fid", "--kid"]
        monkeypatch.setattr(sys, "argv", [*words, "--input1", str(first), "--input2", str(second), *options])
        capsys.readouterr()
        fidelity.main()
        found: dict[str, float] = json.loads(capsys.readouterr().out)
        return found

    return run
