"""Tars of samples in WebDataset's convention, written by others: `<key>.jpg` beside `<key>.cls`, `.json` or `.txt`.

- A key is a member's name up to the first dot behind the last slash, in one tar; every key has one image.
- The label is the `.cls` (a number or a name), or a field of the `.json`, as img2dataset writes it, or follows from the
  prompt in the `.txt` (or that field) by a table of prompts. Members of other endings are not read.
- What is no sample of that form is an error that names tar and key: nothing is left out without a word.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.codecs import UndecodableImage
from caskit.shards.digest import sha256_file
from caskit.shards.sources.classes import parse_json
from caskit.shards.sources.foreign import ForeignSource
from caskit.shards.sources.foreign_tar import ForeignMember, TarReader, list_members
from caskit.shards.sources.imagefolder import MAX_FILE_BYTES, read_image
from caskit.shards.sources.labels import MAX_TEXT_CHARACTERS, prompt_settings, resolve, shown
from caskit.shards.sources.parts import choose_files, list_files
from caskit.shards.sources.source import StoredImage

FORM = "webdataset"
IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "gif", "tif", "tiff")
CLASS, FIELDS, PROMPT = "cls", "json", "txt"
_TEXT_BYTES = {CLASS: 4 * MAX_TEXT_CHARACTERS, PROMPT: 4 * MAX_TEXT_CHARACTERS, FIELDS: 2**22}
_NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One sample: its tar, its key, and the members that are read of it."""

    tar: int
    key: str
    image: ForeignMember
    label: ForeignMember


def load(
    path: Path,
    *,
    split: str | None,
    classes: ClassList | None = None,
    label_field: str | None = None,
    prompts: Mapping[str, str] | None = None,
) -> ForeignSource:
    """Open a tar, or a folder of tars.

    Args:
        path: the file or the folder; folders below it are looked into as well.
        split: which split, see `choose_files`.
        classes: the class list, in which names are looked up and which numbers number.
        label_field: the field of the `.json` members that holds the label, or the prompt.
        prompts: from prompt to class name.

    Raises:
        InputError: a tar is damaged, a key has no image or no label, or a label is none.
    """
    folder = path if path.is_dir() else path.parent
    names = list_files(path, ".tar") if path.is_dir() else [path.name]
    names, split = choose_files(folder, names, split)
    ending = FIELDS if label_field is not None else PROMPT if prompts is not None else CLASS
    places = [place for tar, name in enumerate(names) for place in list_places(folder / name, tar, ending)]
    if not places:
        raise InputError(f"{path}: holds no samples")
    items = Members(
        folder=folder, tars=tuple(names), places=tuple(places), reader=TarReader(tuple(map(folder.joinpath, names)))
    )
    values = [items.value(place, label_field) for place in range(len(places))]
    if ending == CLASS and prompts is None and all(isinstance(v, str) and _NUMBER.fullmatch(v) for v in values):
        values = [int(value) for value in values]
    classes, labels = resolve(
        values, classes=classes, prompts=prompts, where=lambda place: f"{folder}/{items.name(place)}"
    )
    return ForeignSource(
        dataset=FORM,
        split=split,
        classes=classes,
        files={name: sha256_file(folder / name) for name in names},
        settings={"label": ending if label_field is None else f"{FIELDS}:{label_field}"} | prompt_settings(prompts),
        codec={"name": "original"},
        items=items,
        item_labels=labels,
        kept=np.arange(len(places)),
    )


def list_places(path: Path, tar: int, ending: str) -> Iterator[Place]:
    """Yield the samples of one tar, see `list_samples`."""
    yield from list_samples(list_members(path), tar, ending, str(path))


def list_samples(members: Iterator[ForeignMember], tar: int, ending: str, path: str) -> Iterator[Place]:
    """Yield the samples that members make, in the order of their first members.

    Args:
        members: of one tar.
        tar: its number.
        ending: of the members that hold labels.
        path: the tar's, for errors.

    Raises:
        InputError: a key has no image, two, or no label.
    """
    samples: dict[str, dict[str, ForeignMember]] = {}
    for member in members:
        folder, slash, base = member.name.rpartition("/")
        stem, dot, extension = base.partition(".")
        extension = extension.lower()
        if not stem or not dot:
            raise InputError(f"{path}: member {shown(member.name)} is not named KEY.EXTENSION")
        role = "image" if extension in IMAGE_ENDINGS else extension
        sample = samples.setdefault(folder + slash + stem, {})
        if role not in ("image", CLASS, FIELDS, PROMPT):
            continue
        if role in sample:
            raise InputError(f"{path}: key {shown(folder + slash + stem)} has two members .{extension} or two images")
        sample[role] = member
    for key, sample in samples.items():
        if "image" not in sample:
            raise InputError(f"{path}: key {shown(key)} has no image")
        if ending not in sample:
            others = ", ".join(f".{name}" for name in sample if name != "image") or "nothing"
            raise InputError(
                f"{path}: key {shown(key)} has no .{ending}, beside the image is {others}; labels are required: in "
                ".cls, in a field of .json (label field), or as prompts in .txt (table of prompts)"
            )
        yield Place(tar, key, sample["image"], sample[ending])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Members:
    """The samples of all tars; `tar#key` in `source`."""

    folder: Path
    tars: tuple[str, ...]
    places: tuple[Place, ...]
    reader: TarReader

    def name(self, place: int) -> str:
        """See Items."""
        found = self.places[place]
        return f"{self.tars[found.tar]}#{found.key}"

    def read(self, place: int) -> StoredImage:
        """See Items."""
        return read_image(self._bytes(place, self.places[place].image, MAX_FILE_BYTES))

    def value(self, place: int, label_field: str | None) -> int | str:
        """Return what the sample's label member says: a number, a name or a prompt. Raises InputError if it is none."""
        member, where = self.places[place].label, f"{self.folder}/{self.name(place)}"
        ending = FIELDS if label_field is not None else member.name.rpartition(".")[2].lower()
        try:
            data = self._bytes(place, member, _TEXT_BYTES[ending])
        except UndecodableImage as error:
            raise InputError(f"{where}: .{ending} has {error}") from error
        if label_field is None:
            try:
                return data.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise InputError(f"{where}: .{ending} is not UTF-8 text; a label is a number or a name") from error
        fields = parse_json(data, where)
        if not isinstance(fields, dict) or label_field not in fields:
            known = ", ".join(shown(name)[1:-1] for name in list(fields)[:12]) if isinstance(fields, dict) else "none"
            raise InputError(f"{where}: .json has no field {label_field}, fields are {known}")
        value = fields[label_field]
        if type(value) is int or (isinstance(value, str) and len(value) <= MAX_TEXT_CHARACTERS):
            return value
        raise InputError(f"{where}: field {label_field} is {shown(repr(value))}, a label is a whole number or a text")

    def _bytes(self, place: int, member: ForeignMember, most: int) -> bytes:
        if member.nbytes > most:
            raise UndecodableImage(f"{member.nbytes} bytes, at most {most} are read")
        return self.reader.read(self.places[place].tar, member.offset, member.nbytes)
