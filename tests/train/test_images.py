from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from caskit.manifests.errors import InputError
from caskit.shards.dataset import open_set
from caskit.shards.ingest import ingest
from caskit.shards.mixture import Mixture
from caskit.shards.sources import imagefolder, load
from caskit.train.images import Images
from caskit.train.recipes import Recipe
from caskit.train.samples import TrainingImages
from caskit.train.training import open_images

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


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real set of 30 images of several sizes and kinds, as their files are."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(30):
        height, width = 40 + number, 70 - number
        pixels = generator.integers(0, 40, (height, width, 3)) + 5 * np.arange(height)[:, None, None] % 200
        image = Image.fromarray(pixels.astype(np.uint8))
        path = folder / "in" / "train" / f"class{number % 3}" / f"{number:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 5 == 0:
            image.save(path.with_suffix(".png"))
        elif number % 5 == 1:
            image.convert("L").save(path.with_suffix(".jpg"))
        else:
            image.save(path.with_suffix(".jpg"), subsampling=("4:2:0", "4:4:4", "4:2:2")[number % 3])
    ingest(imagefolder.load(folder / "in")["train"], folder / "set", samples_per_shard=8)
    return folder / "set"


def test_what_is_held_follows_from_the_sizes(photos: Path, make_set: Callable[..., Any]) -> None:
    data, alike = open_set(str(photos)), make_set(4)
    hold = ("pixels", "rows")
    for limit, held in ((data.stored_bytes, "rows"), (data.stored_bytes - 1, "nothing")):
        images = Images(data, one_size=False, hold=hold, max_memory_bytes=limit)
        assert (images.held, images.held_bytes) == (held, limit if held == "rows" else 0)
    assert Images(data, one_size=False).held == "nothing", "unless it is asked for"
    assert Images(alike, hold=hold).held == "pixels"
    assert Images(alike, hold=("rows",)).held == "rows"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("hold", [(), ("rows",)])
def test_every_reader_gives_the_same_images(photos: Path, hold: tuple[str, ...], threads: int) -> None:
    data = open_set(str(photos))
    images = Images(data, one_size=False, hold=hold, threads=threads)
    ids = np.array([5, 29, 0, 0, 12, 17, 3])
    assert images.rows(ids) == [data.read(sample_id) for sample_id in ids.tolist()]
    for pixels, sample_id in zip(images.each(ids), ids.tolist(), strict=True):
        assert np.array_equal(pixels, data.image(sample_id))


def recipe(**changes: Any) -> Recipe:
    options: dict[str, Any] = {"batch_size": 8, "bn_batch": 4, "num_steps": 10, "learning_rate": 0.1}
    return Recipe(name="tiny", resolution=12, crop="uniform-area", **{**options, **changes})


def parts(data: Any, chosen: Recipe, limit: int) -> tuple[np.ndarray, np.ndarray, str]:
    images = open_images(data, chosen, memory_bytes=limit)
    made = TrainingImages(chosen, images.each, data.labels, channels=3, seed=1, source=images)
    found = [made.load(step, part) for step in range(10) for part in (0, 1)]
    return np.stack([pixels for pixels, _ in found]), np.stack([labels for _, labels in found]), images.held


def test_training_images_do_not_depend_on_what_is_held(photos: Path) -> None:
    """Crops, at full size and reduced, in an order of all samples and in one by blocks."""
    data, seen = open_set(str(photos)), []
    for changes in ({}, {"decode": "reduced"}, {"shuffle_block": 4, "shuffle_window": 2}):
        chosen = recipe(**changes)
        held, read = parts(data, chosen, 2**20), parts(data, chosen, 0)
        assert (held[2], read[2]) == ("rows", "nothing")
        assert all(np.array_equal(a, b) for a, b in zip(held[:2], read[:2], strict=True))
        seen.append(held)
    full, reduced, blocks = seen
    assert np.array_equal(full[1], reduced[1]), "the same order"
    difference = np.abs(full[0].astype(int) - reduced[0])
    assert 0 < difference.mean() < 12 and not np.array_equal(full[1], blocks[1])


def test_pixels_are_not_held_for_reduced_images(tmp_path: Path) -> None:
    ingest(load("digits")["test"], tmp_path / "set")
    data = open_set(str(tmp_path / "set"))
    assert open_images(data, recipe(decode="reduced")).held == "rows"
    assert open_images(data, recipe()).held == "pixels"


def test_the_disk_is_told_of_every_window_once(photos: Path) -> None:
    data, chosen, told = open_set(str(photos)), recipe(shuffle_block=4, shuffle_window=2), []
    images = open_images(data, chosen, memory_bytes=0)
    made = TrainingImages(chosen, images.each, data.labels, channels=3, seed=1, source=images)
    data.expect = lambda ids: told.append(ids.tolist())  # type: ignore[method-assign, assignment]
    for step in range(4):
        for part in (0, 1):
            made.load(step, part)
    assert sorted(sample for window in told[:4] for sample in window) == list(range(30)), "30 samples are four windows"
    held = open_images(data, chosen)
    told.clear()
    TrainingImages(chosen, held.each, data.labels, channels=3, seed=1, source=held).load(0, 0)
    assert not told


def test_a_mixture_gives_the_rows_of_its_sets(photos: Path, tmp_path: Path) -> None:
    ingest(load("digits")["test"], tmp_path / "set")
    first, second = open_set(str(photos)), open_set(str(tmp_path / "set"))
    mixed = Mixture.__new__(Mixture)  # its constructor asks for equal classes, which these have not
    mixed.parts, mixed._ends = (first, second), np.cumsum([len(first), len(second)])
    ids = np.array([31, 2, 30, 29, 0])
    expected = [second.read(1), first.read(2), second.read(0), first.read(29), first.read(0)]
    assert mixed.rows(ids) == expected
    for sample_id, row in zip(ids.tolist(), expected, strict=True):
        assert np.array_equal(mixed.decoded(sample_id, row), mixed.image(sample_id))
    assert mixed.stored_bytes == first.stored_bytes + second.stored_bytes
    mixed.expect(ids)
