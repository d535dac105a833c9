"""A folder with ImageNet in one of its layouts, opened as a source per split.

Whatever the layout, the class list is that of `imagenet_classes`, and tars, folders and WebDataset tars of the same
images give the same samples under the same keys: by class and file name, in draw order. Parquet files are stored in
the order of their rows, because a row elsewhere costs a whole row group; Hugging Face shuffled them before.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.sources import imagefolder
from caskit.shards.sources.foreign import ForeignSource, Items
from caskit.shards.sources.ilsvrc import hub
from caskit.shards.sources.ilsvrc.tars import (
    TRAIN_TAR,
    VALIDATION_NAME,
    VALIDATION_TAR,
    list_train,
    list_validation,
)
from caskit.shards.sources.ilsvrc.truth import Truth, read_truth
from caskit.shards.sources.imagefolder import ImageFolder
from caskit.shards.sources.imagenet import imagenet_classes
from caskit.shards.sources.packed import PackedImages
from caskit.shards.sources.parts import split_of
from caskit.shards.sources.reading import Arrays, Reading
from caskit.shards.sources.source import Source, StoredImage

DATASET = "imagenet"
LICENCE = "other"  # its terms of access
COUNTS = {"train": 1_281_167, "validation": 50_000}
OUT = {"train": "train", "validation": "test"}  # the set to score on, whose ingest.json says validation
_FOLDERS = {"train": ("train",), "validation": ("val", "validation")}
_TARS = {"train": TRAIN_TAR, "validation": VALIDATION_TAR}
_WNID_NAME = re.compile(r"(n[0-9]{8})_")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archive:
    """How a folder is opened.

    Attributes:
        folder: holds one of the layouts for each split.
        classes: ImageNet's.
        store: what makes stored images of the input's bytes.
        stored_as: what ingest.json says about them.
        reading: how large files are read.
    """

    folder: Path
    classes: ClassList
    store: Callable[[bytes], StoredImage]
    stored_as: Mapping[str, Any]
    reading: Reading

    def find(self, split: str) -> list[tuple[str, Callable[[], Source]]]:
        """Return what there is of a split: a name for people, and what opens it."""
        found: list[tuple[str, Callable[[], Source]]] = []
        if (self.folder / _TARS[split]).is_file():
            opener = self._train_tar if split == "train" else self._validation_tar
            found.append((_TARS[split], opener))
        for name in _FOLDERS[split]:
            if (self.folder / name).is_dir():
                found.append((f"{name}/", functools.partial(self._class_folders, name, split)))
        for suffix, opener_of in ((".parquet", self._parquet), (".tar", self._webdataset)):
            names = _files(self.folder, suffix, split)
            if names:
                found.append((names[0], functools.partial(opener_of, names, split)))
        return found

    def _train_tar(self) -> Source:
        path = self.folder / TRAIN_TAR
        digest, listed = self.reading.index(
            path,
            lambda file, size: list_train(file, size, str(path), self.classes),
            f"ilsvrc-train {self.classes.digest}",
        )
        return self._packed(
            "train", (TRAIN_TAR,), {**listed, "file": np.zeros_like(listed["label"])}, {TRAIN_TAR: digest}
        )

    def _validation_tar(self) -> Source:
        path, truth = self.folder / VALIDATION_TAR, read_truth(self.folder, self.classes)
        digest, listed = self.reading.index(
            path, lambda file, size: list_validation(file, size, str(path)), "ilsvrc-validation"
        )
        names = [name.decode("ascii") for name in listed["names"].tolist()]
        labels = _true_labels(names, truth, str(path))
        arrays = {**listed, "label": labels, "file": np.zeros_like(labels)}
        return self._packed("validation", (VALIDATION_TAR,), arrays, {VALIDATION_TAR: digest, **truth.files})

    def _webdataset(self, names: Sequence[str], split: str) -> Source:
        parts, files = list[Arrays](), dict[str, str]()
        for number, name in enumerate(names):
            path = self.folder / name
            files[name], listed = self.reading.index(
                path,
                lambda file, size, path=path: hub.list_webdataset(file, size, path, self.classes),  # type: ignore[misc]
                f"ilsvrc-webdataset {self.classes.digest}",
            )
            parts.append({**listed, "file": np.full_like(listed["label"], number)})
        return self._packed(
            split, tuple(names), {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}, files
        )

    def _packed(self, split: str, names: tuple[str, ...], listed: Arrays, files: Mapping[str, str]) -> Source:
        order = np.lexsort((listed["names"], listed["label"]))
        listed = {name: values[order] for name, values in listed.items()}
        same = (listed["names"][1:] == listed["names"][:-1]) & (listed["label"][1:] == listed["label"][:-1])
        if same.any():
            twice = listed["names"][int(np.flatnonzero(same)[0])].decode("ascii")
            raise InputError(f"{self.folder}: {twice} is in {names[0]} and the files beside it twice")
        images = PackedImages.of(self.folder, names, listed, self.store)
        return self._source(split, images, listed["label"], files)

    def _parquet(self, names: Sequence[str], split: str) -> Source:
        files = {name: self.reading.sha256(self.folder / name) for name in names}
        images, labels = hub.open_parquet(self.folder, names, self.classes, self.store)
        return self._source(split, images, labels, files, in_order=True)

    def _source(
        self, split: str, images: Items, labels: np.ndarray, files: Mapping[str, str], *, in_order: bool = False
    ) -> Source:
        return ForeignSource(
            dataset=DATASET,
            split=split,
            classes=self.classes,
            files=files,
            settings={},
            codec=self.stored_as,
            items=images,
            item_labels=labels,
            kept=np.arange(len(labels)),
            licence=LICENCE,
            in_order=in_order,
        )

    def _class_folders(self, name: str, split: str) -> Source:
        root = self.folder / name
        with os.scandir(root) as entries:
            flat = split == "validation" and any(VALIDATION_NAME.fullmatch(entry.name) for entry in entries)
        made = self._flat(root) if flat else imagefolder.choose(root, split, self.classes)
        for label, files in enumerate(made.class_files if not flat else ()):
            for file in files:
                match = _WNID_NAME.match(file.rpartition("/")[2])
                if match is not None and match[1] != self.classes.ids[label]:
                    raise InputError(
                        f"{root / file}: an image of {match[1]} in the folder of {self.classes.ids[label]}"
                    )
        return dataclasses.replace(made, dataset=DATASET, licence=LICENCE, store=self.store, codec=self.stored_as)

    def _flat(self, root: Path) -> ImageFolder:
        """Open validation images that lie in one folder, as Kaggle has them."""
        truth = read_truth(self.folder, self.classes)
        names = sorted(name for name in os.listdir(root) if not name.startswith("."))
        wrong = next((name for name in names if VALIDATION_NAME.fullmatch(name) is None), None)
        if wrong is not None:
            raise InputError(f"{root / wrong}: images are named ILSVRC2012_val_00000001.JPEG")
        by_class: list[list[str]] = [[] for _ in self.classes.ids]
        for name, label in zip(names, _true_labels(names, truth, str(root)).tolist(), strict=True):
            by_class[label].append(name)
        return ImageFolder.of(root, "validation", self.classes, by_class)


def load(
    folder: Path | None,
    *,
    store: Callable[[bytes], StoredImage],
    stored_as: Mapping[str, Any],
    partial: bool,
    reading: Reading,
) -> dict[str, Source]:
    """Return `train` and `test` of a folder, those that are there; `test` is the validation split.

    Args:
        folder: see the package's docstring for what it may hold.
        store: what makes stored images of the input's bytes.
        stored_as: what ingest.json says about them.
        partial: take what is there; else the splits must have all of their 1,281,167 and 50,000 images.
        reading: how large files are read.

    Raises:
        InputError: nothing that is known is there, two layouts of one split are, or it is not whole.
    """
    if folder is None:
        raise InputError(f"{DATASET} cannot be fetched, its terms must be accepted first: --from DIR names its files")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    archive = Archive(folder=folder, classes=imagenet_classes(), store=store, stored_as=stored_as, reading=reading)
    sources: dict[str, Source] = {}
    for split, out in OUT.items():
        found = archive.find(split)
        if len(found) > 1:
            raise InputError(f"{folder}: holds its {split} images as {found[0][0]} and as {found[1][0]}, move one away")
        if found:
            sources[out] = found[0][1]()
            _check_count(sources[out], folder, partial)
    if not sources:
        raise InputError(
            f"{folder}: holds no {TRAIN_TAR}, {VALIDATION_TAR}, train/ or val/, nor .parquet or .tar files with train "
            "or validation in their names"
        )
    return sources


def _check_count(source: Source, folder: Path, partial: bool) -> None:
    num, due = len(source.labels), COUNTS[source.split]
    if num != due and not partial:
        raise InputError(
            f"{folder}: holds {num} {source.split} images, ILSVRC 2012 has {due}; --partial takes what is there"
        )


def _true_labels(names: Sequence[str], truth: Truth, where: str) -> np.ndarray:
    """Return the labels of validation images by their names, [N] int64."""
    if len(truth.labels) != len(names):
        source = ", ".join(truth.files)
        raise InputError(f"{where}: holds {len(names)} images, {source} has labels of {len(truth.labels)}")
    stems = [name.removesuffix(".JPEG") for name in names]
    unknown = next((stem for stem in stems if stem not in truth.labels), None)
    if unknown is not None:
        raise InputError(f"{where}: {unknown} has no label in {', '.join(truth.files)}")
    return np.asarray([truth.labels[stem] for stem in stems], dtype=np.int64)


def _files(folder: Path, suffix: str, split: str) -> list[str]:
    """Return the files of a split in the folder and in `data` below it, relative to it, sorted by name."""
    found = []
    for place in (folder, folder / "data"):
        names = sorted(os.listdir(place)) if place.is_dir() else []
        paths = [
            place / name for name in names if name.lower().endswith(suffix) and not name.startswith((".", "ILSVRC"))
        ]
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return [name for name in found if split_of(name) == split]
