"""The 1000 classes of ImageNet (ILSVRC 2012), in the order that everybody's labels have: by ascending wnid."""

import importlib.util
from pathlib import Path

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

NUM_CLASSES = 1000
_IDS, _LEMMAS = "imagenet_synsets.txt", "imagenet_synset_to_lemma.txt"


def imagenet_classes() -> ClassList:
    """Return ids `n01440764`, ... with WordNet's first lemma of each as name (`tench`); two names are there twice.

    They come from timm's tables, which are read as files: timm itself, and so torch, is not imported.

    Raises:
        InputError: timm is not installed, or has no such tables.
    """
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the classes of ImageNet are read from timm: pip install 'caskit[train]'")
    folder = Path(next(iter(spec.submodule_search_locations)), "data", "_info")
    try:
        ids = tuple((folder / _IDS).read_text(encoding="utf-8").split())
        lines = (folder / _LEMMAS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; this timm has not the tables of ImageNet") from error
    lemmas = dict(line.split("\t", 1) for line in lines if "\t" in line)
    if len(ids) != NUM_CLASSES or list(ids) != sorted(set(ids)) or not lemmas.keys() >= set(ids):
        raise InputError(f"{folder}: this timm's tables are not those of ILSVRC 2012")
    return ClassList(ids=ids, names=tuple(lemmas[class_id].partition(",")[0].strip() for class_id in ids))
