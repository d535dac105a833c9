from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caskit.manifests.errors import InputError
from caskit.shards.dataset import open_set
from caskit.shards.ingest import ingest
from caskit.shards.sources import load
from caskit.train.images import Images

IDS = np.array([5, 0, 0, 39])


def test_memory_and_disk_give_the_same_images(make_set: Callable[..., Any]) -> None:
    data = make_set(40)
    for limit in (2**20, 100):
        images = Images(data, max_memory_bytes=limit)
        assert (images.height, images.width, images.channels) == (8, 8, 1)
        assert np.array_equal(images.batch(IDS), data.images[IDS])


def test_a_real_set(tmp_path: Path) -> None:
    source = load("digits")["test"]
    ingest(source, tmp_path / "set")
    data = open_set(str(tmp_path / "set"))
    held, read = Images(data), Images(data, max_memory_bytes=100)
    assert held.batch(IDS).shape == (4, 8, 8, 1)
    assert np.array_equal(held.batch(IDS), read.batch(IDS))


def test_images_of_several_sizes(make_set: Callable[..., Any]) -> None:
    data = make_set(4)
    data.table = pa.table({"height": [8, 8, 9, 8], "width": [8, 8, 7, 8]})
    with pytest.raises(InputError, match="images are from 7x8 to 8x9 pixels, this recipe needs images of one size"):
        Images(data)
