"""CIFAR-100: a hundred classes (the fine labels), 500 training and 100 test images each."""

from pathlib import Path

from caskit.shards.sources import cifar
from caskit.shards.sources.source import ArraySource

FORM = cifar.Archive(
    dataset="cifar100",
    file="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    images_per_file={"train.bin": 50_000, "test.bin": 10_000},
    train=("train.bin",),
    test=("test.bin",),
    names="fine_label_names.txt",
    label_bytes=2,
    num_classes=100,
    coarse=20,
)


def load(from_path: Path | None, cache_dir: Path) -> dict[str, ArraySource]:
    """Return the train and test split, see `cifar.load`; nothing is fetched."""
    return cifar.load(FORM, from_path)
