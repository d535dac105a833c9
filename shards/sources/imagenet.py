"""The 1000 classes of ImageNet (ILSVRC 2012), in the order that everybody's labels have: by ascending wnid."""

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

NUM_CLASSES = 1000


def imagenet_classes() -> ClassList:
    """Return ids `n01440764`, ... with WordNet's first lemma of each as name (`tench`); two names are there twice.

    They come from timm's tables.

    Raises:
        InputError: timm is not installed.
    """
    try:
        from timm.data import ImageNetInfo  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "timm":
            raise
        raise InputError("the classes of ImageNet are read from timm: pip install 'caskit[train]'") from error
    info = ImageNetInfo("imagenet-1k")
    ids = tuple(info.label_names())  # type: ignore[no-untyped-call]
    names = tuple(text.partition(",")[0].strip() for text in info.label_descriptions())
    assert len(ids) == NUM_CLASSES and list(ids) == sorted(ids), "timm's table is not that of ILSVRC 2012"
    return ClassList(ids=ids, names=names)
