"""A Hugging Face dataset in Parquet files: a column of images, {bytes, path} or bytes alone, and a column of labels.

Read with pyarrow alone. Images are stored as they are, so a PNG or JPEG keeps its bytes; as the samples are stored in
another order than the rows, they are first copied, once, into a scratch file without a name.
"""

import dataclasses
import itertools
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.codecs import UndecodableImage
from caskit.shards.digest import sha256_file
from caskit.shards.records import check_row_groups
from caskit.shards.sources import huggingface
from caskit.shards.sources.classes import labels_of_names, unique_classes
from caskit.shards.sources.foreign import ForeignSource
from caskit.shards.sources.imagefolder import MAX_FILE_BYTES, read_image
from caskit.shards.sources.labels import MAX_TEXT_CHARACTERS, prompt_settings, resolve
from caskit.shards.sources.parts import choose_files, list_files
from caskit.shards.sources.source import StoredImage

FORM = "parquet"
MAX_ROWS = 2**31
# Images are compressed already: bytes far beyond the file's are repetitions of a few, made to fill a disk.
MAX_EXPANSION = 100
_BATCH_ROWS = 16
_SLACK_BYTES = 2**26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns are read, and the class names that the file has for its labels."""

    image: str
    label: str
    names: list[str] | None

    @property
    def settings(self) -> dict[str, str]:
        """How the source is read, for the record; names may come from a file beside, and decide labels."""
        named = {} if self.names is None else {"names_sha256": sha256_hex(canonical_json(self.names))}
        return {"image_field": self.image, "label_field": self.label, **named}


def load(
    path: Path,
    *,
    split: str | None,
    classes: ClassList | None = None,
    label_field: str | None = None,
    image_field: str | None = None,
    prompts: Mapping[str, str] | None = None,
) -> ForeignSource:
    """Open a Parquet file, or a folder of them with README.md or dataset_info.json beside.

    Args:
        path: the file or the folder.
        split: which split, see `choose_files`.
        classes: the class list, in which names are looked up and which numbers without names number.
        label_field: the column of labels; None where only one can be meant.
        image_field: the column of images; None where there is one.
        prompts: where labels are prompts, their class names.

    Raises:
        InputError: there are no labels, a label is none, or the files are not of this form.
    """
    folder = path if path.is_dir() else path.parent
    names = list_files(path, ".parquet") if path.is_dir() else [path.name]
    names, split = choose_files(folder, names, split)
    files = [open_file(folder / name) for name in names]
    schema = files[0].schema_arrow
    columns = find_columns(schema, folder, label_field, image_field, prompts is not None)
    for name, file in zip(names, files, strict=True):
        for column in (columns.image, columns.label):
            if (
                column not in file.schema_arrow.names
                or file.schema_arrow.field(column).type != schema.field(column).type
            ):
                raise InputError(f"{folder / name}: column {column} is not as in {names[0]}")
    values = [
        value for name, file in zip(names, files, strict=True) for value in read_labels(file, columns, folder / name)
    ]
    items = Rows(
        folder=folder, files=tuple(names), counts=tuple(file.metadata.num_rows for file in files), columns=columns
    )
    if not values:
        raise InputError(f"{path}: holds no rows")
    if columns.names is not None and prompts is None:
        values = [_name(columns.names, value, items, place) for place, value in enumerate(values)]
        if classes is None:
            classes = unique_classes(columns.names, f"{path}: {columns.label}")
        else:
            labels_of_names(sorted({str(value) for value in values}), classes, f"{path}: {columns.label}")
    classes, labels = resolve(
        values, classes=classes, prompts=prompts, where=lambda place: f"{folder}/{items.name(place)}"
    )
    for file in files:
        file.close()
    return ForeignSource(
        dataset=FORM,
        split=split,
        classes=classes,
        files={name: sha256_file(folder / name) for name in names},
        settings=columns.settings | prompt_settings(prompts),
        codec={"name": "original"},
        items=items,
        item_labels=labels,
        kept=np.arange(len(labels)),
        licence=huggingface.licence(folder),
    )


def find_columns(
    schema: pa.Schema, folder: Path, label_field: str | None, image_field: str | None, prompted: bool
) -> Columns:
    """Return the columns of images and labels: those named, else the only ones that can be meant."""
    features = huggingface.schema_features(schema.metadata, str(folder))
    images = [field.name for field in schema if _is_image(field.type)]
    if image_field is None and len(images) != 1:
        found = ", ".join(images or schema.names[:16])
        raise InputError(f"{folder}: columns {found}; which holds the images ({{bytes, path}})? name it: image field")
    image = images[0] if image_field is None else image_field
    if image not in schema.names or not (_is_image(schema.field(image).type) or _is_bytes(schema.field(image).type)):
        raise InputError(f"{folder}: column {image} holds no images, columns are {', '.join(schema.names[:16])}")
    labelled = [name for name in schema.names if huggingface.label_names(features.get(name)) is not None]
    label = label_field or (labelled[0] if len(labelled) == 1 else None)
    if label is None and not labelled and "label" in schema.names:
        label = "label"
    if label is None or label not in schema.names:
        asked = "" if label_field is None else f"no column {label_field}; "
        known = ", ".join(labelled or schema.names[:16])
        raise InputError(f"{folder}: {asked}labels are required: which of {known} holds them? name it: label field")
    kind = schema.field(label).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{folder}: column {label} is {kind}, labels are integers or texts")
    names = huggingface.label_names(features.get(label))
    if names is None and pa.types.is_integer(kind) and not prompted:
        names = huggingface.folder_names(folder, label)
    return Columns(image=image, label=label, names=names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of the files, one after another; `file#row` in `source`."""

    folder: Path
    files: tuple[str, ...]
    counts: tuple[int, ...]
    columns: Columns
    _state: dict[str, Any] = dataclasses.field(init=False, default_factory=dict)
    _lock: Any = dataclasses.field(init=False, default_factory=threading.Lock)

    def name(self, place: int) -> str:
        """See Items."""
        ends = np.cumsum(self.counts)
        file = int(np.searchsorted(ends, place, side="right"))
        return f"{self.files[file]}#{place - int(ends[file]) + self.counts[file]}"

    def read(self, place: int) -> StoredImage:
        """See Items."""
        with self._lock:
            if "file" not in self._state:
                self._state["offsets"], self._state["file"] = self._copy()
        start, end = self._state["offsets"][place : place + 2]
        if end == start:
            raise UndecodableImage("has no bytes, and a path alone is not followed")
        if end - start > MAX_FILE_BYTES:
            raise UndecodableImage(f"{end - start} bytes, at most {MAX_FILE_BYTES} are read")
        return read_image(os.pread(self._state["file"], end - start, start))

    def _copy(self) -> tuple[list[int], int]:
        """Copy every image into a scratch file; returns where each begins and the last ends, and the file's number."""
        most = _SLACK_BYTES + MAX_EXPANSION * sum((self.folder / name).stat().st_size for name in self.files)
        offsets = [0]
        with tempfile.TemporaryFile() as scratch:
            for name in self.files:
                with open_file(self.folder / name) as file:
                    for data in read_images(file, self.columns.image, self.folder / name):
                        offsets.append(offsets[-1] + len(data))
                        if offsets[-1] > most:
                            raise InputError(f"{self.folder / name}: images of more than {most} bytes in all")
                        scratch.write(data)
            if len(offsets) != sum(self.counts) + 1:
                raise InputError(f"{self.folder}: {len(offsets) - 1} images for {sum(self.counts)} labels")
            scratch.flush()
            return offsets, os.dup(scratch.fileno())  # the file has no name and lives as long as this number

    def __del__(self) -> None:
        if "file" in self._state:
            os.close(self._state["file"])


def open_file(path: Path) -> pq.ParquetFile:
    """Open a Parquet file of others. Raises InputError for what is none."""
    try:
        file = pq.ParquetFile(
            path, thrift_string_size_limit=2**24, thrift_container_size_limit=2**22, arrow_extensions_enabled=False
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not 0 <= file.metadata.num_rows <= MAX_ROWS:
        raise InputError(f"{path}: has {file.metadata.num_rows} rows, at most {MAX_ROWS} are read")
    check_row_groups(file.metadata, str(path))
    return file


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a whole Parquet file ({' '.join(str(error).split())[:300]})")


def _batches(
    file: pq.ParquetFile, column: str, path: Path, rows: int, groups: Sequence[int] | None = None
) -> Iterator[pa.Array]:
    try:
        for batch in file.iter_batches(batch_size=rows, row_groups=groups, columns=[column], use_threads=False):
            batch.validate(full=True)
            yield batch.column(0)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def read_labels(file: pq.ParquetFile, columns: Columns, path: Path) -> Iterator[int | str]:
    """Yield every row's label. Raises InputError for one that is missing or too long."""
    row = itertools.count()
    for batch in _batches(file, columns.label, path, 4096):
        for value in batch.to_pylist():
            place = next(row)
            if value is None:
                raise InputError(f"{path}#{place}: {columns.label} is missing; labels are required")
            if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
                raise InputError(f"{path}#{place}: {columns.label} has more than {MAX_TEXT_CHARACTERS} characters")
            yield value


def read_images(file: pq.ParquetFile, column: str, path: Path, groups: Sequence[int] | None = None) -> Iterator[bytes]:
    """Yield every row's image bytes, or those of some row groups; none for a row that has none."""
    for batch in _batches(file, column, path, _BATCH_ROWS, groups):
        for value in batch.field("bytes") if pa.types.is_struct(batch.type) else batch:
            yield value.as_py() or b""


def _name(names: Sequence[str], value: int | str, items: Rows, place: int) -> int | str:
    """Return the name of a numbered label. Raises InputError for a number without one (-1 is unlabelled)."""
    if isinstance(value, str):
        return value
    if not 0 <= value < len(names):
        raise InputError(f"{items.folder}/{items.name(place)}: label is {value}, allowed: 0..{len(names) - 1}")
    return names[value]


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    return any(kind.field(n).name == "bytes" and _is_bytes(kind.field(n).type) for n in range(kind.num_fields))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
