"""Other readers as read_shards.py uses them: functions of (forms, decoded, workers) to one of the epoch number."""

import contextlib
import functools
import importlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm.data.readers.reader_wds as timm_wds
import webdataset
from PIL import Image
from readers.forms import Forms
from torch.utils.data import DataLoader, IterableDataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import pil_loader

BATCH = 256
Samples = Iterator[tuple[Any, int]]  # bytes or [H, W, C] uint8, with labels
Epoch = Callable[[int], Iterable[tuple[Any, int]]]


def decode_pillow(data: bytes) -> np.ndarray:
    """Decode as everybody's tutorials do, [H, W, 3] uint8."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def in_batches(samples: Samples) -> Samples:
    """Put decoded images together to batches of one array, as a training step takes them, and hand out their views."""
    while chosen := list(itertools.islice(samples, BATCH)):
        batch = np.stack([image for image, _ in chosen])
        yield from zip(batch, [label for _, label in chosen], strict=True)


class Begun(IterableDataset[Any]):
    """Makes a DataLoader's data set of what begins an iterator."""

    def __init__(self, begin: Callable[[], Samples]) -> None:
        self._begin = begin

    def __iter__(self) -> Samples:
        return self._begin()


def in_workers(data: Any, workers: int, *, shuffle: bool | None = None) -> Samples:
    """Read by worker processes, collated to batches as training wants them."""
    loader: DataLoader[Any] = DataLoader(data, batch_size=BATCH, num_workers=workers, shuffle=shuffle)
    for images, labels in loader:
        yield from zip(images, labels.tolist(), strict=True)


def epochs(begin: Callable[[], Samples], decoded: bool, workers: int) -> Epoch:
    """Make an epoch of what begins an iterator."""

    def epoch(_: int) -> Samples:
        if workers:
            return in_workers(Begun(begin), workers)
        return in_batches(begin()) if decoded else begin()

    return epoch


def image_folder(forms: Forms, decoded: bool, workers: int) -> Epoch:
    """Torchvision's ImageFolder."""
    loader = (lambda path: np.asarray(pil_loader(path))) if decoded else (lambda path: Path(path).read_bytes())
    data = ImageFolder(str(forms.folder), loader=loader)

    def epoch(number: int) -> Samples:
        if workers:
            return in_workers(data, workers, shuffle=True)
        order = np.random.default_rng(number).permutation(len(data))
        samples = (data[index] for index in order.tolist())
        return in_batches(samples) if decoded else samples

    return epoch


def web_dataset(forms: Forms, decoded: bool, workers: int) -> Epoch:
    """Webdataset over the set's tars, its shuffle buffer of timm's size."""
    tars = sorted(map(str, (forms.set / "shards").glob("*.tar")))

    def begin() -> Samples:
        data = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(8192, initial=2048)
        if decoded:
            data = data.decode("rgb8")
        image = "png" if forms.side < 64 else "jpg"
        for picture, label in data.to_tuple(image, "cls"):
            yield picture, int(label)

    return epochs(begin, decoded, workers)


def timm_reader(forms: Forms, decoded: bool, workers: int) -> Epoch:
    """Timm's own reader of the set's tars; for stored bytes its decoding is left out."""

    def begin() -> Samples:
        reader = timm_wds.ReaderWds(str(forms.set), split="train", is_training=True, batch_size=1)
        with patched(timm_wds, "_decode", None if decoded else stored_sample):
            for image, label in reader:
                yield (np.asarray(image) if decoded else image), int(label)

    return epochs(begin, decoded, workers)


def stored_sample(sample: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Stand for timm's `_decode`."""
    image = timm_wds.getfirst(sample, options["image_key"])
    return {"jpg": image, "target": int(sample["cls"]), "json": None}


@contextlib.contextmanager
def patched(module: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute for a while, unless the value is None."""
    before = getattr(module, name)
    if value is not None:
        setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@functools.cache
def mosaic_set(folder: Path) -> Any:
    """Open shards of mosaicml-streaming; it allows one data set a folder and process."""
    streaming: Any = importlib.import_module("streaming")
    streaming.base.util.clean_stale_shared_memory()  # of a process that was here before
    return streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)


def mosaic(forms: Forms, decoded: bool, workers: int) -> Epoch:
    """mosaicml-streaming over shards of its own."""
    data = mosaic_set(forms.mds)

    def begin() -> Samples:
        for sample in data:
            yield (decode_pillow(sample["image"]) if decoded else sample["image"]), int(sample["label"])

    return epochs(begin, decoded, workers)


def lit(forms: Forms, decoded: bool, workers: int) -> Epoch:
    """Litdata over shards of its own; its image type is decoded by torchvision."""
    litdata: Any = importlib.import_module("litdata")
    data = litdata.StreamingDataset(str(forms.lit / ("image" if decoded else "bytes")), shuffle=True)

    def begin() -> Samples:
        for sample in data:
            image = sample["image"]
            yield (image.permute(1, 2, 0).numpy() if decoded else image), int(sample["label"])

    return epochs(begin, decoded, workers)


PEERS: dict[str, Callable[[Forms, bool, int], Epoch]] = {
    "image folder": image_folder,
    "webdataset": web_dataset,
    "timm": timm_reader,
    "mosaicml-streaming": mosaic,
    "litdata": lit,
}
