"""CIFAR-10: ten classes, 5,000 training and 1,000 test images each."""

from pathlib import Path

from caskit.shards.sources import cifar
from caskit.shards.sources.source import ArraySource

TRAIN, TEST = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",)
FORM = cifar.Archive(
    dataset="cifar10",
    file="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    images_per_file=dict.fromkeys((*TRAIN, *TEST), 10_000),
    train=TRAIN,
    test=TEST,
    names="batches.meta.txt",
    label_bytes=1,
    num_classes=10,
)


def load(from_path: Path | None, cache_dir: Path) -> dict[str, ArraySource]:
    """Return the train and test split, see `cifar.load`; nothing is fetched."""
    return cifar.load(FORM, from_path)
