"""A folder of images, one folder per class: `PATH/train/CLASS/...` and `PATH/test/CLASS/...`, or just `PATH/CLASS/...`.

- A class's images are all its files, in folders below it too; names that begin with a dot are ignored. Whatever is not
  an image is an unreadable image, so nothing is left out without a word. Classes and files are sorted by name.
- A link to a file or to a class folder is followed; a link to a folder inside a class folder is refused (it may be a
  loop).
- PNG, JPEG and WebP files are stored as they are, by what they hold and not by their name; BMP, GIF, PPM and TIFF files
  of 8 bits become PNG. Moving pictures are refused.
- Samples are stored in the draw order of a replica with the same histogram and seed 0, so every run of shards holds all
  classes.
"""

import dataclasses
import io
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.quota import Quota
from caskit.shards.codecs import BROKEN_IMAGE, MAX_PIXELS, UndecodableImage, decode, encode, without_exif
from caskit.shards.sources.classes import labels_of_names
from caskit.shards.sources.source import StoredImage, UnreadableImage

FORM = "imagefolder"
SPLIT_FOLDERS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
OTHER_FORMATS = ("BMP", "GIF", "PPM", "TIFF")
READ_FORMATS = ("PNG", "JPEG", "WEBP", *OTHER_FORMATS)
MAX_FILE_BYTES = 2**28
ORIGINAL_BYTES: Mapping[str, Any] = {"name": "original"}
_OTHER_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}


def read_image(data: bytes) -> StoredImage:
    """Turn a file's bytes into those that are stored. Raises UndecodableImage."""
    pixels, extension = read_pixels(data), stored_extension(data)
    if extension is None:
        codec = Codec.of("png")
        data, extension = encode(pixels, codec), codec.extension
    height, width, channels = pixels.shape
    return StoredImage(data=data, extension=extension, width=width, height=height, channels=channels)


def read_pixels(data: bytes) -> np.ndarray:
    """Decode a file of any format that is read, [H, W, 1 or 3 or 4] uint8. Raises UndecodableImage."""
    extension = stored_extension(data)
    if extension is None:
        return decode_other(data)
    pixels = decode(data, extension=extension)
    _refuse_moving(data)
    return pixels


def stored_extension(data: bytes) -> str | None:
    """Return the extension for bytes that a shard can hold as they are, None for other formats."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def decode_other(data: bytes) -> np.ndarray:
    """Decode a BMP, GIF, PPM or TIFF file of 8 bits a channel, [H, W, 1 or 3 or 4] uint8. Raises UndecodableImage."""
    try:
        with Image.open(io.BytesIO(data), formats=OTHER_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UndecodableImage(f"{image.width}x{image.height} pixels, at most {MAX_PIXELS} are decoded")
            if getattr(image, "n_frames", 1) > 1:
                raise UndecodableImage("holds more than one picture")
            transparent = image.mode in ("RGBA", "PA", "LA") or "transparency" in image.info
            mode = "RGBA" if transparent else _OTHER_MODES.get(image.mode)
            if mode is None:
                raise UndecodableImage(f"pixel mode {image.mode} is not 8 bits a channel")
            pixels = np.asarray(image.convert(mode), dtype=np.uint8)
    except (*BROKEN_IMAGE, Image.DecompressionBombError) as error:
        if isinstance(error, UndecodableImage):
            raise
        # Pillow's "cannot identify" prints the buffer's address, which would differ from run to run.
        unknown = isinstance(error, UnidentifiedImageError)
        raise UndecodableImage(f"no image ({', '.join(READ_FORMATS)})" if unknown else str(error)) from error
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _refuse_moving(data: bytes) -> None:
    with Image.open(io.BytesIO(without_exif(data)), formats=("PNG", "JPEG", "WEBP")) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a JPEG with further views behind it
            raise UndecodableImage("holds more than one picture")


def load(path: Path, split: str = "train") -> dict[str, "ImageFolder"]:
    """Find the splits of a folder.

    `val` or `validation` stands where `test` is missing: it is the set to score on; its ingest.json says `validation`.

    Args:
        path: the folder.
        split: what the images are when the folder has no split folders.

    Returns:
        `train` and, if there, `test` and `validation`; all with the class list of `train`.
    """
    names = _folders(path)
    splits = {name: SPLIT_FOLDERS[name] for name in names if name in SPLIT_FOLDERS}
    if "train" not in splits or not _folders(path / "train"):
        classes, files = _classes(path)
        return {split: ImageFolder.of(path, split, ClassList.of_names(classes), files)}
    if len(splits) < len(names):
        others = ", ".join(name for name in names if name not in splits)
        raise InputError(f"{path}: holds split folders ({', '.join(splits)}) and others ({others}); move one kind away")
    if len(set(splits.values())) < len(splits):
        raise InputError(f"{path}: holds both val and validation, keep one")
    classes, files = _classes(path / "train")
    class_list = ClassList.of_names(classes)
    sources = {"train": ImageFolder.of(path / "train", "train", class_list, files)}
    for name in (name for name in splits if name != "train"):
        split_classes, split_files = _classes(path / name)
        unknown = sorted(set(split_classes) - set(classes))
        if unknown:
            raise InputError(f"{path / name}: class folder {unknown[0]} is not in {path / 'train'}")
        by_class = dict(zip(split_classes, split_files, strict=True))
        aligned = [by_class.get(class_name, []) for class_name in classes]
        folder = splits[name] if "test" in splits.values() else "test"
        sources[folder] = ImageFolder.of(path / name, splits[name], class_list, aligned)
    return sources


def choose(path: Path, split: str | None, classes: ClassList | None) -> "ImageFolder":
    """Return one split of a folder, with a class list from elsewhere if there is one.

    Args:
        path: the folder; one with split folders need not have `train`.
        split: which split, or what the images of a folder without split folders are; None where only one can be meant.
        classes: the class list, in which the names of the class folders are looked up; a class may have no folder.

    Raises:
        InputError: several splits and none was chosen, no such split, or a class folder that is no class.
    """
    names = _folders(path)
    splits = {name: SPLIT_FOLDERS[name] for name in names if name in SPLIT_FOLDERS and _folders(path / name)}
    if not splits:
        return _listed(path, split or "train", classes)
    if len(splits) < len(names):
        others = ", ".join(name for name in names if name not in splits)
        raise InputError(f"{path}: holds split folders ({', '.join(splits)}) and others ({others}); move one kind away")
    chosen = [name for name, held in splits.items() if held == split] if split is not None else list(splits)
    if len(chosen) != 1:
        wanted = "which split is meant" if split is None else f"it has no split {split}, or two"
        raise InputError(f"{path}: holds split folders ({', '.join(splits)}): {wanted}, choose one")
    if classes is None and "train" in splits:
        classes = ClassList.of_names(_classes(path / "train")[0])
    return _listed(path / chosen[0], splits[chosen[0]], classes)


def _listed(root: Path, split: str, classes: ClassList | None) -> "ImageFolder":
    names, files = _classes(root)
    if classes is None:
        return ImageFolder.of(root, split, ClassList.of_names(names), files)
    aligned: list[list[str]] = [[] for _ in classes.ids]
    for label, found in zip(labels_of_names(names, classes, str(root)).tolist(), files, strict=True):
        aligned[label] = found
    return ImageFolder.of(root, split, classes, aligned)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images of one split.

    Attributes:
        root: folder of the class folders.
        class_files: per label, the files' paths relative to `root`, sorted.
        labels, ordinals: [N] int64, class and place in `class_files` of every sample.
        store: what makes stored images of files' bytes; one with another result than `read_image` says so in `codec`.
    """

    root: Path
    split: str
    classes: ClassList
    class_files: list[list[str]]
    labels: np.ndarray
    ordinals: np.ndarray
    dataset: str = FORM
    licence: str | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    store: Callable[[bytes], StoredImage] = read_image
    codec: Mapping[str, Any] = dataclasses.field(default_factory=lambda: ORIGINAL_BYTES)

    @classmethod
    def of(cls, root: Path, split: str, classes: ClassList, class_files: list[list[str]]) -> "ImageFolder":
        """Order the files of a split. Raises InputError when there is none."""
        if not any(class_files):
            raise InputError(f"{root}: holds no image, needs a folder per class with images in it")
        order = Quota(histogram=tuple(len(files) for files in class_files), seed=0)
        labels, ordinals = order.assign(0, order.num)
        return cls(root=root, split=split, classes=classes, class_files=class_files, labels=labels, ordinals=ordinals)

    @property
    def files(self) -> Mapping[str, str]:
        """No input file is pinned: the rows hold every image's digest."""
        return {}

    def path(self, sample_id: int) -> str:
        """Return the file's path relative to `root`."""
        path: str = self.class_files[self.labels[sample_id]][self.ordinals[sample_id]]
        return path

    def size_bytes(self, sample_id: int) -> int | None:
        """Return the file's size, -1 if it is gone; None where other bytes than the file's are stored."""
        if self.codec != ORIGINAL_BYTES:
            return None
        try:
            return (self.root / self.path(sample_id)).stat().st_size
        except OSError:
            return -1

    def read(self, sample_id: int) -> StoredImage:
        """Read one file and decode it once. Raises UnreadableImage."""
        path = self.root / self.path(sample_id)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise UnreadableImage(str(path), f"{path.stat().st_size} bytes, at most {MAX_FILE_BYTES} are read")
            return self.store(path.read_bytes())
        except (UndecodableImage, OSError) as error:
            raise UnreadableImage(str(path), str(error)) from error

    def without(self, sample_ids: Collection[int]) -> "ImageFolder":
        """Return the source without some files; class folders that lose all of theirs stay classes."""
        dropped = {self.path(sample_id) for sample_id in sample_ids}
        left = [[file for file in files if file not in dropped] for files in self.class_files]
        made = ImageFolder.of(self.root, self.split, self.classes, left)
        return dataclasses.replace(self, class_files=made.class_files, labels=made.labels, ordinals=made.ordinals)


def _folders(path: Path) -> list[str]:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder, imagefolder:PATH needs a folder of class folders")
    return sorted(name for name in os.listdir(path) if not name.startswith(".") and (path / name).is_dir())


def _classes(root: Path) -> tuple[list[str], list[list[str]]]:
    """Return the sorted class folders and for each the sorted files below it, relative to `root`."""
    classes = _folders(root)
    for name in os.listdir(root):
        if name.lower().endswith((".png", ".jpg", ".jpeg", ".webp")) and name not in classes and name[0] != ".":
            raise InputError(f"{root / name}: an image outside a class folder")
    if not classes:
        raise InputError(f"{root}: holds no class folders")
    files = [_files(root, name) for name in classes]
    for name, found in zip(classes, files, strict=True):
        if not found:
            raise InputError(f"{root / name}: this class folder holds no file")
    return classes, files


def _files(root: Path, class_name: str) -> list[str]:
    found = []
    for folder, names, files in os.walk(root / class_name):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in names:
            if os.path.islink(os.path.join(folder, name)):
                raise InputError(
                    f"{os.path.join(folder, name)}: a link to a folder inside a class folder is not followed"
                )
        found += [os.path.relpath(os.path.join(folder, name), root) for name in files if not name.startswith(".")]
    for path in found:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"{root}: file name {path!r} is not UTF-8") from error
    return sorted(Path(path).as_posix() for path in found)
