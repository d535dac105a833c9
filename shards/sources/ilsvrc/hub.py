"""ImageNet as Hugging Face has it: Parquet files with numbered labels, or WebDataset tars of `KEY.jpg` and `KEY.cls`.

Both number the classes by ascending wnid. That is checked where they say more: the names of the Parquet label column,
and the wnid that a key begins with.
"""

import collections
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.codecs import UndecodableImage
from caskit.shards.sources.foreign_tar import ForeignMember, TarReader, read_members
from caskit.shards.sources.imagefolder import MAX_FILE_BYTES
from caskit.shards.sources.labels import shown
from caskit.shards.sources.parquet import find_columns, open_file, read_images, read_labels
from caskit.shards.sources.reading import Arrays, HashedFile
from caskit.shards.sources.source import StoredImage
from caskit.shards.sources.webdataset import CLASS, list_samples

MAX_GROUP_BYTES = 2**30  # of the images in one row group, which is held in memory; 100 rows are usual
_GROUPS = 2  # held at a time: reading ahead crosses from one into the next
_KEY = re.compile(r"[A-Za-z0-9_./-]{1,100}")
_NUMBER = re.compile(rb"\s*([0-9]{1,3})\s*")
_MAX_LABEL_BYTES = 16
_AGREE = 0.9  # of the class names; their spelling differs in places, another order would agree in one or two


class RowGroups:
    """The images of Parquet files in the order of their rows, some row groups held at a time; `file#row` in `source`.

    Made for reading in order: a row elsewhere costs a whole group.
    """

    def __init__(self, folder: Path, files: Sequence[str], column: str, store: Callable[[bytes], StoredImage]) -> None:
        self._folder, self._files, self._column, self._store = folder, tuple(files), column, store
        self._groups: list[tuple[int, int]] = []  # file and number in it
        rows: list[int] = []
        for number, name in enumerate(self._files):
            with open_file(folder / name) as file:
                sizes = _group_sizes(file, column, folder / name)
            self._groups += [(number, group) for group in range(len(sizes))]
            rows += sizes
        self._ends = np.cumsum(rows, dtype=np.int64)
        self._starts = self._ends - np.asarray(rows, dtype=np.int64)
        first = {number: at for at, (number, group) in enumerate(self._groups) if group == 0}
        self._file_starts = {number: int(self._starts[at]) for number, at in first.items()}
        self._held: collections.OrderedDict[int, list[bytes]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def name(self, place: int) -> str:
        """See Items."""
        number = self._groups[self._group(place)][0]
        return f"{self._files[number]}#{place - self._file_starts[number]}"

    def read(self, place: int) -> StoredImage:
        """See Items."""
        group = self._group(place)
        with self._lock:
            if group not in self._held:
                self._held[group] = self._load(group)
                if len(self._held) > _GROUPS:
                    self._held.popitem(last=False)
            data = self._held[group][place - int(self._starts[group])]
        if not data:
            raise UndecodableImage("has no bytes, and a path alone is not followed")
        if len(data) > MAX_FILE_BYTES:
            raise UndecodableImage(f"{len(data)} bytes, at most {MAX_FILE_BYTES} are read")
        return self._store(data)

    def _group(self, place: int) -> int:
        return int(np.searchsorted(self._ends, place, side="right"))

    def _load(self, group: int) -> list[bytes]:
        number, in_file = self._groups[group]
        path = self._folder / self._files[number]
        due = int(self._ends[group] - self._starts[group])
        with open_file(path) as file:
            images = list(read_images(file, self._column, path, [in_file]))
        if len(images) != due:
            raise InputError(f"{path}: row group {in_file} has {len(images)} images, its footer says {due}")
        return images


def _group_sizes(file: Any, column: str, path: Path) -> list[int]:
    """Return the rows of every row group. Raises InputError for one that does not fit into memory."""
    metadata, sizes = file.metadata, []
    for group in range(metadata.num_row_groups):
        found = metadata.row_group(group)
        columns = (found.column(number) for number in range(found.num_columns))
        nbytes = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] == column)
        if not 0 <= nbytes <= MAX_GROUP_BYTES or found.num_rows < 1:
            raise InputError(
                f"{path}: row group {group} has {found.num_rows} rows with {nbytes} bytes of images, at most "
                f"{MAX_GROUP_BYTES} are held in memory; write it with smaller row groups"
            )
        sizes.append(int(found.num_rows))
    return sizes


def open_parquet(
    folder: Path, names: Sequence[str], classes: ClassList, store: Callable[[bytes], StoredImage]
) -> tuple[RowGroups, np.ndarray]:
    """Return the images of some Parquet files and their labels, [N] int64, in the order of the rows.

    Raises:
        InputError: the columns are not those of ImageNet, a label is none, or names are in another order.
    """
    labels: list[np.ndarray] = []
    column = ""
    for name in names:
        with open_file(folder / name) as file:
            columns = find_columns(file.schema_arrow, folder, None, None, False)
            if column not in ("", columns.image):
                raise InputError(f"{folder / name}: images are in column {columns.image}, in {names[0]} in {column}")
            column = columns.image
            if not pa.types.is_integer(file.schema_arrow.field(columns.label).type):
                raise InputError(f"{folder / name}: column {columns.label} holds texts, ImageNet's labels are 0..999")
            _check_names(columns.names, classes, f"{folder / name}: {columns.label}")
            values = list(read_labels(file, columns, folder / name))
        wrong = next((row for row, value in enumerate(values) if not 0 <= int(value) < len(classes)), None)
        if wrong is not None:
            raise InputError(f"{folder / name}#{wrong}: label is {values[wrong]}, allowed: 0..{len(classes) - 1}")
        labels.append(np.asarray(values, dtype=np.int64))
    return RowGroups(folder, names, column, store), np.concatenate(labels)


def _check_names(names: list[str] | None, classes: ClassList, where: str) -> None:
    """Compare the names that a file has for its labels with the class list: wnids, or their lemmas."""
    if names is None:
        return
    if len(names) != len(classes):
        raise InputError(f"{where} has {len(names)} names, ImageNet has {len(classes)} classes")
    agree = [
        name == class_id or name.partition(",")[0].strip().lower() == class_name.lower()
        for name, class_id, class_name in zip(names, classes.ids, classes.names, strict=True)
    ]
    if sum(agree) < _AGREE * len(classes):
        first = agree.index(False)
        raise InputError(
            f"{where} has its names in another order than by wnid: label {first} is {shown(names[first])}, in ImageNet "
            f"{shown(classes.names[first])}"
        )


def list_webdataset(file: HashedFile, size: int, path: Path, classes: ClassList) -> Arrays:
    """List the samples of one tar of `KEY.jpg` and `KEY.cls`, by label and key.

    Returns:
        `label`, `offset`, `nbytes` [N] int64 and `names` [N] ASCII bytes.

    Raises:
        InputError: a sample is not of that form, its label is none, or its key begins with another wnid.
    """
    found: list[tuple[int, str, ForeignMember]] = []
    reader = TarReader((path,))
    for place in list_samples(read_members(file, size, str(path)), 0, CLASS, str(path)):
        if _KEY.fullmatch(place.key) is None:
            raise InputError(f"{path}: key {shown(place.key)} is longer than 100 characters, or not plain ASCII")
        text = reader.read(0, place.label.offset, place.label.nbytes) if place.label.nbytes <= _MAX_LABEL_BYTES else b""
        match = _NUMBER.fullmatch(text)
        if match is None or int(match[1]) >= len(classes):
            raise InputError(f"{path}: key {shown(place.key)}: .cls must be a label, 0..{len(classes) - 1}")
        label, begins = int(match[1]), place.key.rpartition("/")[2].partition("_")[0]
        if re.fullmatch(r"n[0-9]{8}", begins) and begins != classes.ids[label]:
            raise InputError(
                f"{path}: key {shown(place.key)} has label {label}, which is {classes.ids[label]}: these labels "
                "are not in the order of the wnids"
            )
        found.append((label, place.key, place.image))
    if not found:
        raise InputError(f"{path}: holds no samples")
    found.sort(key=lambda item: item[:2])
    return {
        "label": np.asarray([label for label, _, _ in found], dtype=np.int64),
        "offset": np.asarray([image.offset for _, _, image in found], dtype=np.int64),
        "nbytes": np.asarray([image.nbytes for _, _, image in found], dtype=np.int64),
        "names": np.asarray([key.encode("ascii") for _, key, _ in found]),
    }
