"""The real data sets that caskit can ingest, by the names that `caskit data NAME` takes."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.manifests.errors import InputError
from caskit.shards.cache import cache_folder
from caskit.shards.sources.source import Source

if TYPE_CHECKING:
    from caskit.shards.sources.resizing import Resize

SOURCES = {
    "fashion-mnist": "caskit.shards.sources.fashion_mnist",
    "digits": "caskit.shards.sources.digits",
    "cifar10": "caskit.shards.sources.cifar10",
    "cifar100": "caskit.shards.sources.cifar100",
}
IMAGENET = "imagenet"
IMAGEFOLDER = "imagefolder:"


def load(
    name: str,
    *,
    from_path: Path | None = None,
    cache_dir: Path | None = None,
    split: str = "train",
    resize: "Resize | None" = None,
    partial: bool = False,
    told: Callable[[str, int, int], None] = lambda name, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Mapping[str, Source]:
    """Return the splits of a data set by the folder they are written to: `train`, `test`, and what else it has.

    Args:
        name: a name of `SOURCES`, `imagenet`, or `imagefolder:PATH`.
        from_path: the input, a folder with files or an archive, instead of finding it.
        cache_dir: where fetched files are kept, `$XDG_CACHE_HOME/caskit/data` by default.
        split: what the images of an imagefolder without split folders are.
        resize: the size that images of imagenet and imagefolder are stored at; None stores the input's own bytes.
        partial: take what is there of imagenet.
        told: called with a large file's name, how many bytes of it are read, and its size.
        stop: asked while large files are read.

    Raises:
        InputError: unknown name, or no input.
        NotFinished: stopped on request.
    """
    from caskit.shards.sources import imagefolder

    cache_dir = cache_dir if cache_dir is not None else cache_folder("data")
    if partial and name != IMAGENET:
        raise InputError(f"--partial is for {IMAGENET}, not for {name}")
    if name.startswith(IMAGEFOLDER):
        if from_path is not None:
            raise InputError(f"{name} names its folder itself, --from is for other data sets")
        splits = imagefolder.load(Path(name.removeprefix(IMAGEFOLDER)), split)
        if resize is None:
            return splits
        return {
            out: dataclasses.replace(source, store=resize, codec=resize.stored_as) for out, source in splits.items()
        }
    if name == IMAGENET:
        from caskit.shards.sources.ilsvrc import archive
        from caskit.shards.sources.reading import Reading

        return archive.load(
            from_path,
            store=imagefolder.read_image if resize is None else resize,
            stored_as=imagefolder.ORIGINAL_BYTES if resize is None else resize.stored_as,
            partial=partial,
            reading=Reading(cache_dir=cache_dir, told=told, stop=stop),
        )
    if name not in SOURCES:
        known = ", ".join((*SOURCES, IMAGENET))
        raise InputError(f"data set {name!r} is not known, use one of {known}, {IMAGEFOLDER}PATH")
    if resize is not None:
        raise InputError(f"{name} is stored as it is, a resolution is for {IMAGENET} and {IMAGEFOLDER}PATH")
    sources: Mapping[str, Source] = importlib.import_module(SOURCES[name]).load(from_path, cache_dir)
    return sources
