import sys

import pytest

from caskit.manifests.errors import InputError
from caskit.shards.sources.imagenet import imagenet_classes


def test_the_classes_of_imagenet_in_the_usual_order() -> None:
    classes = imagenet_classes()
    assert len(classes) == 1000 and list(classes.ids) == sorted(classes.ids)
    known = {0: ("n01440764", "tench"), 1: ("n01443537", "goldfish"), 999: ("n15075141", "toilet tissue")}
    assert {label: (classes.ids[label], classes.names[label]) for label in known} == known


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(InputError, match="are read from timm: pip install"):
        imagenet_classes()
