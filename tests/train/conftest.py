import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caskit.manifests.classes import ClassList, sample_key
from caskit.manifests.errors import InputError
from caskit.manifests.ingest import Ingest
from caskit.manifests.replica import Replica
from caskit.manifests.roots import content_root
from caskit.manifests.sets import SetExpression, Source
from caskit.train.compiling import require_compiler


class FakeSet:
    """A frozen real set in memory, with what training asks of one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, num_classes: int = 3, split: str = "train") -> None:
        self.images, self.labels, self.kind, self.split, self.plan = (
            images,
            labels.astype(np.int64),
            "real",
            split,
            None,
        )
        self.reconstruction = self.imported = None
        self.classes = ClassList.from_names([f"class {label}" for label in range(num_classes)])
        self.store = SimpleNamespace(location="/sets/fake")
        num = len(images)
        self.table = pa.table({"height": [images.shape[1]] * num, "width": [images.shape[2]] * num})
        ordinals = [int((self.labels[:i] == label).sum()) for i, label in enumerate(self.labels)]
        self.keys = [sample_key(self.classes.ids[y], o) for y, o in zip(self.labels.tolist(), ordinals, strict=True)]
        self.ingest = Ingest(
            dataset="fake",
            split=split,
            classes=self.classes,
            histogram=tuple(np.bincount(self.labels, minlength=num_classes).tolist()),
            files={},
            codec={"name": "original"},
            samples_per_shard=100,
        )
        samples = sorted(
            (int(y), o, k, hashlib.sha256(image.tobytes()).digest())
            for y, o, k, image in zip(self.labels, ordinals, self.keys, images, strict=True)
        )
        root = content_root(((key, label, digest) for label, _, key, digest in samples), num_classes)
        self.replica = Replica(
            kind="real",
            origin_sha256=self.ingest.ingest_id,
            num_samples=num,
            num_classes=num_classes,
            num_shards=self.ingest.num_shards,
            class_list_sha256=self.classes.digest,
            content_root=root,
            rows_root=root,
            packing_root=root,
        )
        self.expression = SetExpression(sources=(Source(replica_id=self.replica.replica_id),))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        return int(self.images.shape[3])

    def image(self, sample_id: int) -> np.ndarray:
        return self.images[sample_id]

    def rows(self, ids: np.ndarray) -> list[bytes]:
        return [self.images[sample].tobytes() for sample in ids.tolist()]

    def decoded(self, sample_id: int, row: bytes) -> np.ndarray:
        return np.frombuffer(row, dtype=np.uint8).reshape(self.images.shape[1:])

    @property
    def stored_bytes(self) -> int:
        return self.images.nbytes

    def arrays(self, *, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.images.nbytes <= max_bytes
        return self.images.copy(), self.labels.copy()


def stripes(num: int, *, seed: int = 0, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that a small network tells apart: noise brighter at the top, in the middle, at the bottom."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num) % 3
    images = generator.integers(0, 120, (num, size, size, 1))
    third = np.arange(size) * 3 // size
    images += 100 * (third[None, :] == labels[:, None])[:, :, None, None]
    return images.astype(np.uint8), labels


@pytest.fixture
def make_set() -> Callable[..., Any]:
    """Return a function of (num, seed, ...) that makes a fake frozen set of stripes."""

    def make(num: int = 60, *, seed: int = 0, size: int = 8, **options: Any) -> FakeSet:
        images, labels = stripes(num, seed=seed, size=size)
        return FakeSet(images, labels, **options)

    return make


@pytest.fixture(scope="session")
def cxx() -> None:
    """Skip where no kernel can be made: none of our packages brings a C++ compiler, so `make test` does not either."""
    try:
        require_compiler()
    except InputError as error:
        # Reason: `make test` has to pass where only Python, make and git are installed, so without a C++ compiler.
        # Compiling is an option of `caskit train` that is refused there, and the refusal is tested everywhere
        # (test_compiling.py, test_compiled_ranks.py). pytest's summary (-ra) prints what was left out and why.
        pytest.skip(f"torch.compile makes its kernels with a C++ compiler, this machine has none ({error})")
