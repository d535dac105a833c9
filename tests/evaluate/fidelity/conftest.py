"""Sets of coloured noise, a small network that stands in for Inception, and torch-fidelity's own command line."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from caskit.evaluate.fidelity.extractor import Identity, Outputs, as_rgb
from caskit.evaluate.fidelity.subset import take_subset
from caskit.manifests.classes import ClassList
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource
from caskit.train.images import Images

NAMES = ("red", "green", "blue")
CLASSES = ClassList.from_names(NAMES)


def pictures(labels: np.ndarray, seed: int, *, size: int, channels: int, tint: int) -> np.ndarray:
    """Noise, smooth and with a tint of its class: [num, size, size, channels] uint8."""
    generator, num = np.random.default_rng(seed), len(labels)
    coarse = generator.integers(0, 150, (num, size // 4, size // 4, channels)).repeat(4, axis=1).repeat(4, axis=2)
    images = coarse + generator.integers(0, 40, (num, size, size, channels))
    images[np.arange(num), :, :, labels % channels] += tint
    return images.astype(np.uint8)


@pytest.fixture
def make_sets(tmp_path: Path) -> Callable[..., tuple[FrozenSet, FrozenSet]]:
    """Return a function that makes a set that stands for a replica, and a real one, both in several shards."""

    def make(num: int, num_real: int, *, size: int = 32, channels: int = 3, seed: int = 0) -> tuple[Any, Any]:
        name = f"{num}-{num_real}-{size}-{channels}-{seed}"
        labels = np.arange(num) % len(NAMES)
        images = pictures(labels, seed + 1, size=size, channels=channels, tint=40)
        np.savez(tmp_path / f"{name}.npz", images if channels == 3 else images[..., 0], labels)
        import_source(recognise(tmp_path / f"{name}.npz", Options(classes=CLASSES)), tmp_path / f"replica-{name}")
        labels = np.sort(np.arange(num_real) % len(NAMES))  # stored class by class: no beginning is balanced
        images = pictures(labels, seed + 2, size=size, channels=channels, tint=60)
        source = ArraySource(
            dataset="noise", split="train", classes=CLASSES, files={}, labels=labels, pixels=images,
            numbers=np.arange(num_real), file="noise",
        )  # fmt: skip
        ingest(source, tmp_path / f"real-{name}", samples_per_shard=50)
        return open_set(str(tmp_path / f"replica-{name}")), open_set(str(tmp_path / f"real-{name}"))

    return make


@pytest.fixture
def write_pngs(tmp_path: Path) -> Callable[[FrozenSet], Path]:
    """Return a function that unpacks a set as files whose names sort in the order in which caskit measures them."""

    def write(data: FrozenSet) -> Path:
        folder = tmp_path / f"png-{data.replica.replica_id[:16]}"
        folder.mkdir()
        for place, sample in enumerate(take_subset(data, None).ids.tolist()):
            image = data.image(sample)
            Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / f"{place:06d}.png")
        return folder

    return write


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
