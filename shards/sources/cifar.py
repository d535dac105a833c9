"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their binary archives: colour images of 32x32, 50,000 + 10,000.

    cifar10    cifar-10-binary.tar.gz: data_batch_1.bin ... data_batch_5.bin and test_batch.bin, batches.meta.txt
    cifar100   cifar-100-binary.tar.gz: train.bin and test.bin, fine_label_names.txt

The archive (packed or not) or the folder that it unpacks to. The archives for Python hold pickles and are never read.
A record is its label bytes (CIFAR-100: coarse, then fine, which is the label), then 1024 bytes of red, green and blue.
"""

import dataclasses
import gzip
import io
import zlib
from pathlib import Path

import numpy as np

from caskit.manifests.canonical import sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.sources.classes import unique_classes
from caskit.shards.sources.foreign_tar import read_members
from caskit.shards.sources.source import ArraySource

SIDE, PIXEL_BYTES = 32, 3 * 32 * 32
ADDRESS = "https://www.cs.toronto.edu/~kriz"
_OTHER_BYTES = 2**20  # of names, a readme, and what a tar adds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archive:
    """The form of one of the two archives.

    Attributes:
        dataset: its name in caskit.
        file: the archive's name.
        folder: what it unpacks to.
        images_per_file: in every file of `train` and `test`.
        train, test: the files of each split, in order.
        names: the file with the class names, one a line.
        label_bytes: before the pixels of each image; the last of them is the label.
        num_classes: how many there are.
        coarse: how many coarse classes there are, where there is a byte for them.
    """

    dataset: str
    file: str
    folder: str
    images_per_file: dict[str, int]
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int
    num_classes: int
    coarse: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file of images."""
        return {name: num * (self.label_bytes + PIXEL_BYTES) for name, num in self.images_per_file.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches(ArraySource):
    """Images of several files of equal length; `file#number` in `source` counts in each file.

    Attributes:
        batches: the files' names.
        per_batch: images in each.
    """

    batches: tuple[str, ...]
    per_batch: int

    def path(self, sample_id: int) -> str:
        """See Source."""
        batch, number = divmod(int(self.numbers[sample_id]), self.per_batch)
        return f"{self.batches[batch]}#{number}"


def load(form: Archive, path: Path | None) -> dict[str, ArraySource]:
    """Return the train and test split.

    Args:
        form: which of the two.
        path: the archive or the folder; None is an error that says where to get it.

    Raises:
        InputError: a file is missing, of another size, or holds a label that is none; the classes are not even.
    """
    if path is None:
        raise InputError(
            f"{form.dataset}: --from FILE names {form.file} (the binary version, from {ADDRESS}/{form.file}), or the "
            "folder that it unpacks to"
        )
    files = _read_folder(form, path) if path.is_dir() else _read_archive(form, path)
    classes = _classes(form, files[form.names], f"{path}: {form.names}")
    return {
        split: _source(form, split, names, files, classes, str(path))
        for split, names in (("train", form.train), ("test", form.test))
    }


def _source(
    form: Archive, split: str, names: tuple[str, ...], files: dict[str, bytes], classes: ClassList, where: str
) -> ArraySource:
    width = form.label_bytes + PIXEL_BYTES
    records = np.concatenate([np.frombuffer(files[name], dtype=np.uint8).reshape(-1, width) for name in names])
    labels = records[:, form.label_bytes - 1].astype(np.int64)
    for column, most in ((form.label_bytes - 1, form.num_classes), (0, form.coarse or form.num_classes)):
        wrong = np.flatnonzero(records[:, column] >= most)
        if len(wrong):
            batch, number = divmod(int(wrong[0]), form.images_per_file[names[0]])
            value = records[wrong[0], column]
            raise InputError(f"{where}: {names[batch]}: image {number}: label is {value}, allowed: 0..{most - 1}")
    counts = np.bincount(labels, minlength=form.num_classes)
    if len(set(counts.tolist())) > 1:
        label, due = int(np.argmax(counts != len(labels) // form.num_classes)), len(labels) // form.num_classes
        raise InputError(
            f"{where}: class {classes.names[label]} has {counts[label]} {split} images, {form.dataset} has {due}"
        )
    return Batches(
        dataset=form.dataset,
        split=split,
        classes=classes,
        files={name: sha256_hex(files[name]) for name in (*names, form.names)},
        labels=labels,
        pixels=records[:, form.label_bytes :].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1),
        numbers=np.arange(len(labels)),
        file=form.file,
        batches=names,
        per_batch=form.images_per_file[names[0]],
    )


def _classes(form: Archive, data: bytes, where: str) -> ClassList:
    try:
        names = [line.strip() for line in data.decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not ASCII text") from error
    if len(names) != form.num_classes:
        raise InputError(f"{where}: {len(names)} names, {form.dataset} has {form.num_classes} classes")
    return unique_classes(names, where)


def _read_folder(form: Archive, folder: Path) -> dict[str, bytes]:
    place = folder / form.folder if (folder / form.folder).is_dir() else folder
    files: dict[str, bytes] = {}
    for name in (form.names, *form.sizes):
        if not (place / name).is_file():
            raise InputError(f"{place}: holds no {name}; {form.dataset} is read from the binary version, {form.file}")
        most = form.sizes.get(name, _OTHER_BYTES)
        with (place / name).open("rb") as file:
            files[name] = file.read(most + 1)
        _check_size(form, name, len(files[name]), str(place))
    return files


def _read_archive(form: Archive, path: Path) -> dict[str, bytes]:
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    most = sum(form.sizes.values()) + _OTHER_BYTES
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(most + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from error
    if len(data) > most:
        raise InputError(f"{path}: more than {most} bytes unpacked, {form.file} has fewer")
    files: dict[str, bytes] = {}
    for member in read_members(io.BytesIO(data), len(data), str(path)):
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        if name.startswith(("data_batch_", "test_batch", "train", "test")) and not name.endswith(".bin"):
            raise InputError(
                f"{path}: holds {name}, a pickle; {form.dataset} is read from the binary version, {form.file}"
            )
        if name not in (form.names, *form.sizes) or folder != form.folder:
            continue
        if name in files:
            raise InputError(f"{path}: holds {name} twice")
        _check_size(form, name, member.nbytes, str(path))
        files[name] = data[member.offset : member.offset + member.nbytes]
    for name in (form.names, *form.sizes):
        if name not in files:
            raise InputError(f"{path}: holds no {form.folder}/{name}; is this {form.file}?")
    return files


def _check_size(form: Archive, name: str, nbytes: int, where: str) -> None:
    due = form.sizes.get(name)
    if due is not None and nbytes != due:
        raise InputError(f"{where}: {name} has {nbytes} bytes, must have {due}")
    if nbytes > _OTHER_BYTES and due is None:
        raise InputError(f"{where}: {name} has {nbytes} bytes, at most {_OTHER_BYTES} are read")
