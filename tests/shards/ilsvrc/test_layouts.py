"""ImageNet in every layout that it is given in becomes the same set: counts, labels, names, quirks."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caskit.manifests.errors import InputError
from caskit.shards.codecs import decode
from caskit.shards.dataset import open_set
from caskit.shards.ingest import ingest
from caskit.shards.sources import load
from caskit.shards.sources.resizing import Resize
from caskit.shards.verify import verify

STEP, GREY, CMYK, ROTATED, DAMAGED_EXIF = 25, 3, 4, 5, 6
PNG_NAME = "n02105855_2933.JPEG"


def name_of(row: dict[str, Any]) -> str:
    """Return the image's file name from a row's source, `FILE#NAME` or a path."""
    name = row["source"].rpartition("#")[2].rpartition("/")[2]
    return name if name.endswith(".JPEG") else f"{name}.JPEG"


def spelled(pixels: np.ndarray) -> int:
    digits = np.rint(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(float) / STEP).astype(int)
    return int(digits[0] * 100 + digits[1] * 10 + digits[2])


def check(folder: Path, out: Path, tree: Any) -> dict[str, Any]:
    """Ingest both splits at the files' own bytes; compare every label with the truth and with the image's colour."""
    replicas = {}
    for split, source in load("imagenet", from_path=folder, partial=True).items():
        replicas[split] = ingest(source, out / split, samples_per_shard=500)
        data, images = open_set(str(out / split)), tree.train if split == "train" else tree.validation
        assert data.ingest is not None and data.ingest.dataset == "imagenet"
        assert data.split == {"train": "train", "test": "validation"}[split]
        assert data.classes == tree.classes and len(data) == len(images)
        assert data.ingest.histogram == tuple(np.bincount([label for label, _ in images.values()], minlength=1000))
        for row in data.table.select(["key", "sample_id", "label", "source"]).to_pylist():
            assert row["key"].startswith(tree.classes.ids[row["label"]])
            stored = data.read(row["sample_id"])
            if "#" not in row["source"] or not row["source"].partition("#")[2].isdigit():
                assert tree.labels[name_of(row)] == row["label"] and stored == images[name_of(row)][1]
            if row["label"] not in (GREY, ROTATED):
                pixels = decode(stored, extension="png" if stored[:4] == b"\x89PNG" else "jpg", channels=3)
                assert spelled(pixels) == row["label"]
    return replicas


def test_tars_folders_and_webdataset_are_the_same_set(tree: Any, tars: Path, tmp_path: Path) -> None:
    made = check(tars, tmp_path / "tars", tree)
    verify(str(tmp_path / "tars" / "train"), "deep")
    folders = check(tree.write_folders(tmp_path / "in-folders"), tmp_path / "folders", tree)
    shards = check(tree.write_webdataset(tmp_path / "in-wds"), tmp_path / "wds", tree)
    for split in ("train", "test"):
        assert made[split].content_root == folders[split].content_root == shards[split].content_root
    files = open_set(str(tmp_path / "tars" / "test")).ingest
    assert files is not None
    due = {"ILSVRC2012_img_val.tar", "ILSVRC2012_validation_ground_truth.txt", "meta.mat"}
    assert set(files.files) == due, "what decides a label is pinned, however it was packed"


def test_parquet_keeps_the_order_of_its_rows(tree: Any, tmp_path: Path) -> None:
    check(tree.write_parquet(tmp_path / "in"), tmp_path / "set", tree)
    data = open_set(str(tmp_path / "set" / "train"))
    sources = data.table.column("source").to_pylist()
    assert sources[:2] == ["data/train-00000-of-00002.parquet#0", "data/train-00000-of-00002.parquet#1"]
    assert sources[499:501] == ["data/train-00000-of-00002.parquet#499", "data/train-00001-of-00002.parquet#0"]


def resized(tree: Any, names: list[str], filter_name: str = "bicubic", side: int = 8) -> list[np.ndarray]:
    made = Resize(side=side, filter=filter_name)
    images = [made(tree.train[name][1]) for name in names]
    assert {(i.extension, i.width, i.height, i.channels) for i in images} == {("png", side, side, 3)}
    return [decode(image.data, extension="png") for image in images]


def test_every_quirk_at_a_resolution(tree: Any) -> None:
    names = [tree.name(label) for label in (GREY, CMYK, ROTATED, DAMAGED_EXIF)]
    grey, cmyk, rotated, damaged, png = resized(tree, [*names, PNG_NAME])
    assert (np.abs(grey.astype(int) - 77) <= 1).all(), "grey becomes three equal channels"
    label = tree.train[PNG_NAME][0]
    assert [spelled(image) for image in (cmyk, damaged, png)] == [CMYK, DAMAGED_EXIF, label]
    assert png.shape == (8, 8, 3), "transparency is dropped, the colour below it stays"
    assert rotated[:3].max() < 20 < rotated[5:].max(), "as stored: the upper half is black, not the left or right one"
    with Image.open(io.BytesIO(tree.train[tree.name(ROTATED)][1])) as image:
        assert image.getexif()[0x0112] == 6, "and the tag was there"


@pytest.mark.parametrize("filter_name", ["bicubic", "bilinear", "lanczos", "box", "adm"])
@pytest.mark.parametrize("size", [(40, 23), (23, 40), (5, 3), (64, 64), (100, 37)])
def test_the_centre_square_is_kept(filter_name: str, size: tuple[int, int]) -> None:
    """Outside the square is white, inside black: nothing white is left, whatever the filter."""
    pixels = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    short = min(size)
    top, left = (size[1] - short) // 2, (size[0] - short) // 2
    pixels[top : top + short, left : left + short] = 0
    made = Resize(side=8, filter=filter_name).pixels(pixels)
    assert made.shape == (8, 8, 3)
    inner = made if filter_name != "adm" else made[2:-2, 2:-2]  # adm resamples first, so the border sees outside
    assert inner.max() == 0


def test_resampling_is_antialiased_and_exact_where_it_can_be() -> None:
    stripes = np.zeros((64, 64, 1), dtype=np.uint8)
    stripes[:, ::2] = 255
    for name in ("bicubic", "bilinear", "lanczos", "box", "adm"):
        made = Resize(side=8, filter=name).pixels(stripes)[2:-2, 2:-2].astype(int)
        assert (np.abs(made - 127.5) < 8).all(), f"{name}: stripes thinner than a pixel become grey, not stripes"
    same = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for name in ("bicubic", "bilinear", "lanczos", "box", "adm"):
        assert (Resize(side=8, filter=name).pixels(same) == same).all()
    halves = np.random.default_rng(0).integers(0, 256, (16, 16, 1), dtype=np.uint8)
    mean = halves.reshape(8, 2, 8, 2).astype(float).mean(axis=(1, 3))
    for name in ("box", "adm"):
        assert (np.abs(Resize(side=8, filter=name).pixels(halves)[:, :, 0] - mean) <= 1).all(), (
            "Pillow rounds after each axis"
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"side": 0}, "resolution is 0, allowed: 1.."),
        ({"side": 8, "filter": "nearest"}, "filter is 'nearest', allowed: bicubic, bilinear, lanczos, box, adm"),
    ],
)
def test_sizes_that_are_none(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Resize(**fields)


def test_a_resized_set_says_how(tree: Any, tars: Path, tmp_path: Path) -> None:
    source = load("imagenet", from_path=tars, partial=True, resize=Resize(side=6, filter="adm"))["test"]
    replica = ingest(source, tmp_path / "set", samples_per_shard=400)
    data = open_set(str(tmp_path / "set"))
    images, labels = data.arrays()
    assert images.shape == (150, 6, 6, 3)
    assert [spelled(image) for image in images] == labels.tolist()
    assert data.ingest is not None
    assert data.ingest.codec["resize"] == {"side": 6, "crop": "centre", "filter": "adm"}
    assert "| images | 6x6, 3 channels, png; centre square, adm |" in (tmp_path / "set" / "README.md").read_text()
    other = load("imagenet", from_path=tars, partial=True, resize=Resize(side=6))["test"]
    with pytest.raises(InputError, match="another source; differs in codec"):
        ingest(other, tmp_path / "set", samples_per_shard=400)
    assert ingest(source, tmp_path / "set", samples_per_shard=400) == replica
