"""A fabricated ILSVRC 2012: its 1000 classes, its file formats and its quirks, in images of a few pixels.

Every image is one colour that spells its label, so a label can be read from the pixels of a set,
whatever it was made from.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from PIL import Image

from caskit.manifests.classes import ClassList
from caskit.shards.sources.imagenet import imagenet_classes

NUM_VALIDATION = 150
STEP = 25  # between two digits of a label: more than JPEG changes a flat colour by
GREY, CMYK, ROTATED, DAMAGED_EXIF, TWICE = 3, 4, 5, 6, 7  # labels whose first training image is one of a kind
PNG_NAME = "n02105855_2933.JPEG"  # ImageNet's own: a PNG of four channels
ORIENTATION = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def colour(label: int) -> tuple[int, int, int]:
    """Spell a label as red, green and blue: its three decimal digits."""
    return label // 100 * STEP, label // 10 % 10 * STEP, label % 10 * STEP


def spelled(pixels: np.ndarray) -> int:
    """Read the label of [H, W, 3] pixels back, from the pixel in the middle."""
    digits = np.rint(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(float) / STEP).astype(int)
    return int(digits[0] * 100 + digits[1] * 10 + digits[2])


def jpeg(image: Image.Image, *, exif: bytes = b"", jfif: bool = True) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    data = buffer.getvalue()
    if jfif:
        return data
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


def segment(exif: bytes, data: bytes) -> bytes:
    """Put an EXIF block in front of a JPEG's others."""
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def members(tar: Path, entries: Iterable[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(tar, "w", format=kind) as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return tar


class Tree:
    """The images and what they are; `write_*` lays them out as their distributors do.

    Attributes:
        train: file name to (label, bytes), one or two a class, and three where an image is there twice.
        validation: likewise, of some classes, in an order of their own.
        ilsvrc_ids: ILSVRC id of every label.
    """

    def __init__(self) -> None:
        self.classes: ClassList = imagenet_classes()
        order = np.random.default_rng(12)
        self.ilsvrc_ids = (order.permutation(1000) + 1).tolist()
        self.train: dict[str, tuple[int, bytes]] = {}
        for label, wnid in enumerate(self.classes.ids):
            for number in (10, 9) if label < 20 else (10,):
                self.train[f"{wnid}_{number}.JPEG"] = (label, self.image(label, (7 + number, 8)))
        self.quirks()
        self.validation = {
            f"ILSVRC2012_val_{number:08d}.JPEG": (label, self.image(label, (9, 6)))
            for number, label in enumerate(order.permutation(1000)[:NUM_VALIDATION].tolist(), start=1)
        }

    def image(self, label: int, size: tuple[int, int]) -> bytes:
        return jpeg(Image.new("RGB", size, colour(label)))

    def name(self, label: int) -> str:
        return f"{self.classes.ids[label]}_10.JPEG"

    def quirks(self) -> None:
        plain = {label: Image.new("RGB", (12, 8), colour(label)) for label in (CMYK, ROTATED, DAMAGED_EXIF)}
        made = {
            GREY: jpeg(Image.new("L", (12, 8), 77)),
            CMYK: jpeg(plain[CMYK].convert("CMYK")),
            ROTATED: jpeg(self.half_black(plain[ROTATED]), exif=ORIENTATION),
            DAMAGED_EXIF: segment(b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01", jpeg(plain[DAMAGED_EXIF], jfif=False)),
        }
        for label, data in made.items():
            self.train[self.name(label)] = (label, data)
        twice = self.classes.ids[TWICE]
        self.train[f"{twice}_11.JPEG"] = self.train[f"{twice}_9.JPEG"]
        label = self.classes.ids.index(PNG_NAME.partition("_")[0])
        buffer = io.BytesIO()
        Image.new("RGBA", (11, 8), (*colour(label), 128)).save(buffer, "PNG")
        self.train[PNG_NAME] = (label, buffer.getvalue())

    def half_black(self, image: Image.Image) -> Image.Image:
        image.paste((0, 0, 0), (0, 0, image.width, image.height // 2))
        return image

    @property
    def labels(self) -> dict[str, int]:
        """The label of every image by its name."""
        return {name: label for name, (label, _) in (self.train | self.validation).items()}

    def class_tars(self) -> list[tuple[str, bytes]]:
        """Return the class tars, in an order of their own, each with its images in one of theirs."""
        found = []
        for label in np.random.default_rng(3).permutation(1000).tolist():
            wnid, buffer = self.classes.ids[label], io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
                for name, (of, data) in reversed(self.by_class[label]):
                    assert of == label
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            found.append((f"{wnid}.tar", buffer.getvalue()))
        return found

    @property
    def by_class(self) -> list[list[tuple[str, tuple[int, bytes]]]]:
        found: list[list[tuple[str, tuple[int, bytes]]]] = [[] for _ in self.classes.ids]
        for name, image in sorted(self.train.items()):
            found[image[0]].append((name, image))
        return found

    def write_tars(self, folder: Path) -> Path:
        """Write the two tars and the packed devkit."""
        folder.mkdir(parents=True, exist_ok=True)
        members(folder / "ILSVRC2012_img_train.tar", self.class_tars(), tarfile.GNU_FORMAT)
        shuffled = list(self.validation.items())
        np.random.default_rng(4).shuffle(shuffled)  # type: ignore[arg-type]
        members(folder / "ILSVRC2012_img_val.tar", [(name, data) for name, (_, data) in shuffled])
        self.write_devkit(folder)
        return folder

    def write_devkit(self, folder: Path, **changes: Any) -> Path:
        inside = [(f"ILSVRC2012_devkit_t12/data/{name}", data) for name, data in self.truth(**changes).items()]
        tar = members(folder / "devkit.tar", [("ILSVRC2012_devkit_t12/readme.txt", b"read me"), *inside])
        packed = folder / "ILSVRC2012_devkit_t12.tar.gz"
        packed.write_bytes(gzip.compress(tar.read_bytes(), mtime=0))
        tar.unlink()
        return packed

    def truth(self, **changes: Any) -> dict[str, bytes]:
        """Return the devkit's two files that tell labels."""
        lines = "".join(f"{self.ilsvrc_ids[label]}\n" for label, _ in self.validation.values())
        return {"ILSVRC2012_validation_ground_truth.txt": lines.encode(), "meta.mat": self.meta(**changes)}

    def meta(self, *, packed: bool = True, leave_out: int = 0) -> bytes:
        """Return meta.mat: the 1000 classes by ILSVRC id, then some of those above them."""
        by_id = {number: label for label, number in enumerate(self.ilsvrc_ids)}
        fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
        rows = np.zeros((1005 - leave_out, 1), dtype=[(name, object) for name in fields])
        for at in range(len(rows)):
            number = at + 1
            label = by_id.get(number)
            wnid = f"n{number:08d}" if label is None else self.classes.ids[label]
            name = "" if label is None else self.classes.names[label]
            children = np.zeros((0, 0)) if label is not None else np.array([[1.0, 2.0, 300.0]])
            rows[at, 0] = (float(number), wnid, name, "gloss ü", float(children.size), children, 0.0)
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"unused": np.eye(3), "synsets": rows}, do_compression=packed)
        return buffer.getvalue()

    def write_folders(self, folder: Path) -> Path:
        for split, images in (("train", self.train), ("val", self.validation)):
            for name, (label, data) in images.items():
                place = folder / split / self.classes.ids[label]
                place.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)
        return folder

    def write_parquet(self, folder: Path, *, names: list[str] | None = None) -> Path:
        """Write Hugging Face's layout: two files of shuffled rows for training, one for validation, names by lemmas."""
        (folder / "data").mkdir(parents=True)
        names = names or [f"{name}, so called" for name in self.classes.names]
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        train = list(self.train.items())
        np.random.default_rng(5).shuffle(train)  # type: ignore[arg-type]
        halves = {"train-00000-of-00002": train[:500], "train-00001-of-00002": train[500:]}
        for stem, rows in {**halves, "validation-00000-of-00001": list(self.validation.items())}.items():
            image = [{"bytes": data, "path": name} for name, (_, data) in rows]
            label = pa.array([label for _, (label, _) in rows], type=pa.int64())
            table = pa.table({"image": image, "label": label}).replace_schema_metadata(metadata)
            pq.write_table(table, folder / "data" / f"{stem}.parquet", row_group_size=100)
        return folder

    def write_webdataset(self, folder: Path, *, labels: Mapping[str, int] | None = None) -> Path:
        folder.mkdir(parents=True)
        labels = labels or self.labels
        train = list(self.train.items())
        np.random.default_rng(6).shuffle(train)  # type: ignore[arg-type]
        parts = {
            "imagenet1k-train-0000.tar": train[:600],
            "imagenet1k-train-0001.tar": train[600:],
            "imagenet1k-validation-00.tar": list(self.validation.items()),
        }
        for tar, images in parts.items():
            entries = []
            for name, (_, data) in images:
                key = name.removesuffix(".JPEG")
                beside = json.dumps({"label": labels[name], "filename": name}).encode()
                entries += [(f"{key}.cls", str(labels[name]).encode()), (f"{key}.jpg", data), (f"{key}.json", beside)]
            members(folder / tar, entries)
        return folder


@pytest.fixture(scope="package")
def tree() -> Tree:
    return Tree()


@pytest.fixture(scope="package")
def tars(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tars and the devkit; a test that changes them copies them first."""
    return tree.write_tars(tmp_path_factory.mktemp("ilsvrc") / "tars")
