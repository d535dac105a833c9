"""The real data sets that caskit can ingest, by the names that `caskit data NAME` takes."""

import importlib
from collections.abc import Mapping
from pathlib import Path

from caskit.manifests.errors import InputError
from caskit.shards.cache import cache_folder
from caskit.shards.sources import imagefolder
from caskit.shards.sources.source import Source

SOURCES = {"fashion-mnist": "caskit.shards.sources.fashion_mnist", "digits": "caskit.shards.sources.digits"}
IMAGEFOLDER = "imagefolder:"


def load(
    name: str, *, from_dir: Path | None = None, cache_dir: Path | None = None, split: str = "train"
) -> Mapping[str, Source]:
    """Return the splits of a data set by the folder they are written to: `train`, `test`, and what else it has.

    Args:
        name: a name of `SOURCES`, or `imagefolder:PATH`.
        from_dir: folder with the input files, instead of finding them.
        cache_dir: where fetched files are kept, `$XDG_CACHE_HOME/caskit/data` by default.
        split: what the images of an imagefolder without split folders are.

    Raises:
        InputError: unknown name, or no input.
    """
    if name.startswith(IMAGEFOLDER):
        if from_dir is not None:
            raise InputError(f"{name} names its folder itself, --from is for other data sets")
        return imagefolder.load(Path(name.removeprefix(IMAGEFOLDER)), split)
    if name not in SOURCES:
        raise InputError(f"data set {name!r} is not known, use one of {', '.join(SOURCES)}, {IMAGEFOLDER}PATH")
    sources: Mapping[str, Source] = importlib.import_module(SOURCES[name]).load(
        from_dir, cache_dir if cache_dir is not None else cache_folder("data")
    )
    return sources
