import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.plan import Plan
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.ingest import ingest
from caskit.shards.sources.source import ArraySource

NUM_CLASSES = 3


@pytest.fixture
def make_real(tmp_path: Path) -> Callable[..., FrozenSet]:
    """Return a function that ingests a real set of noisy stripes, one class per place, and opens it."""

    def make(
        split: str,
        *,
        num: int = 48,
        seed: int = 0,
        size: int = 8,
        names: tuple[str, ...] = ("a", "b", "c"),
        samples_per_shard: int = 1000,
    ) -> FrozenSet:
        generator = np.random.default_rng(seed)
        labels = np.arange(num) % len(names)
        pixels = generator.integers(0, 155, (num, size, size, 1))
        third = np.arange(size) * NUM_CLASSES // size
        pixels += 100 * (third[None, :] == labels[:, None])[:, :, None, None]
        source = ArraySource(
            dataset="stripes",
            split=split,
            classes=ClassList.from_names(names),
            files={},
            labels=labels,
            pixels=pixels.astype(np.uint8),
            numbers=np.arange(num),
            file="stripes",
        )
        folder = tmp_path / f"set-{split}-{seed}-{size}-{'-'.join(names)}-{samples_per_shard}"
        ingest(source, folder, samples_per_shard=samples_per_shard)
        return open_set(str(folder))

    return make


@pytest.fixture
def as_synthetic() -> Callable[[FrozenSet], FrozenSet]:
    """Return a function that makes a set pass for a generator's."""

    def convert(data: FrozenSet) -> FrozenSet:
        synthetic = copy.copy(data)
        synthetic.kind, synthetic.split, synthetic.ingest, synthetic._divisible = "synthetic", None, None, True
        synthetic.plan = Plan(
            classes=data.classes,
            family="stripes",
            preset="noisy",
            checkpoint_id="c" * 64,
            sampler={},
            sampler_version=1,
            quota="balanced",
            histogram=tuple(np.bincount(data.labels).tolist()),
            seed=3,
            height=8,
            width=8,
            channels=1,
            codec=Codec.of("png"),
        )
        return synthetic

    return convert
