"""Programs that know nothing of caskit read its sets: every sample once, with its label and its pixels."""

import gc
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import webdataset
from PIL import Image
from timm.data.readers.reader_wds import ReaderWds

from caskit.manifests.codec import Codec

# The readers leave the tars open; collecting them inside the test keeps that theirs.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture
def expected(tiny: Any) -> dict[str, tuple[int, np.ndarray]]:
    """Key to label and pixels of the replica that every test here reads."""
    plan = tiny.plan()
    keys = {f"c0{label}_{ordinal:06d}": label for label, ordinal in tiny.assign(plan)}
    return {key: (label, tiny.image(key)[:, :, 0]) for key, label in keys.items()}


@pytest.fixture
def root(tiny: Any, tmp_path: Path) -> Path:
    tiny.frozen(tmp_path / "set", tiny.plan())
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
    gc.collect()


def check(found: list[tuple[str, int, np.ndarray]], expected: dict[str, tuple[int, np.ndarray]]) -> None:
    assert sorted(key for key, _, _ in found) == sorted(expected)
    for key, label, pixels in found:
        assert label == expected[key][0]
        np.testing.assert_array_equal(pixels, expected[key][1])


def test_plain_webdataset(root: Path, expected: dict[str, tuple[int, np.ndarray]]) -> None:
    shards = [str(path) for path in sorted((root / "shards").iterdir())]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    found = [(s["__key__"], int(s["cls"]), np.array(Image.open(io.BytesIO(s["png"])))) for s in samples]
    check(found, expected)
    order = [key for key, _, _ in found]
    assert order == list(expected)  # the order of the plan


def test_timm_reader(root: Path, expected: dict[str, tuple[int, np.ndarray]]) -> None:
    for is_training in (False, True):
        reader = ReaderWds(str(root), split="train", is_training=is_training, batch_size=1, input_img_mode="L")
        assert len(reader) == len(expected)
        found = [(label, np.array(image).tobytes()) for image, label in reader]
        assert sorted(found) == sorted((label, pixels.tobytes()) for label, pixels in expected.values())


def test_datasets_as_webdataset(root: Path, tmp_path: Path, expected: dict[str, tuple[int, np.ndarray]]) -> None:
    files = {"train": str(root / "shards/*.tar")}
    samples = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    check([(s["__key__"], s["cls"], np.array(s["png"])) for s in samples], expected)


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_by_the_card(
    root: Path, tmp_path: Path, expected: dict[str, tuple[int, np.ndarray]], streaming: bool
) -> None:
    samples = datasets.load_dataset(str(root), split="train", cache_dir=str(tmp_path / "cache"), streaming=streaming)
    assert samples.features["cls"].names == ["shirt", "bag | purse", "<boot>"]
    check([(s["__key__"], s["cls"], np.array(s["png"])) for s in samples], expected)


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_other_codecs(tiny: Any, tmp_path: Path, codec: str) -> None:
    _, replica = tiny.frozen(tmp_path / "set", tiny.plan(codec=Codec.of(codec)))
    root = str(tmp_path / "set")
    samples = datasets.load_dataset(root, split="train", cache_dir=str(tmp_path / "cache"))
    assert samples.num_rows == replica.num_samples
    reader = ReaderWds(root, split="train")
    assert sorted(label for _, label in reader) == sorted(samples["cls"])


@pytest.mark.parametrize("kind", ["coded", "real", "original"])
def test_sets_of_other_kinds(tiny: Any, tmp_path: Path, kind: str) -> None:
    origins = {
        "coded": lambda: tiny.plan(record_codes=True),
        "real": lambda: tiny.ingest(),
        "original": lambda: tiny.ingest(codec={"name": "original"}),
    }
    origin = origins[kind]()
    tiny.frozen(tmp_path / "set", origin)
    root, split = tmp_path / "set", "train" if kind == "coded" else "test"
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "shards/shard-000003.tar: OK" in done.stdout
    labels = sorted(label for label, _ in tiny.assign(origin))
    reader = ReaderWds(str(root), split=split, input_img_mode="L")
    found = [(label, np.array(image).shape) for image, label in reader]
    assert sorted(label for label, _ in found) == labels and {shape for _, shape in found} == {(4, 5)}
    samples = datasets.load_dataset(str(root), split=split, cache_dir=str(tmp_path / "cache"))
    assert sorted(samples["cls"]) == labels
    for one in samples:
        assert sum(one.get(name) is not None for name in ("png", "jpg", "webp")) == 1
        if one.get("png") is not None:
            np.testing.assert_array_equal(np.array(one["png"]), tiny.image(one["__key__"])[:, :, 0])
