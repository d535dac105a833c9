"""What is at a path: which form of labelled images, told from names and first bytes, and opened as a source.

imagefolder  a folder of class folders, or of `train`, `test`, ... with class folders in each
npz          ADM's `arr_0` images and `arr_1` labels
parquet      a Hugging Face dataset: a Parquet file, or a folder with some
webdataset   a tar, or a folder of tars, of WebDataset's convention; img2dataset's with a label field
caskit       a set of caskit's own, used as it is

    form_of(path)                 "caskit", "imagefolder", "npz", ...; InputError for anything else
    recognise(path, options)      the source, ready for `ingest`

Nothing is imported, unpickled or fetched, and no file outside the path is read but those that the options name.
"""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.ingest import SPLITS
from caskit.manifests.origin import ORIGIN_FILES
from caskit.shards.sources import imagefolder, npz, parquet, webdataset
from caskit.shards.sources.source import Source

CASKIT = "caskit"
READ = (
    "a folder of class folders, an .npz with arr_0 and arr_1, a Hugging Face dataset in .parquet files, "
    "WebDataset .tar files, a caskit set"
)
_SUFFIXES = {".npz": npz.FORM, ".parquet": parquet.FORM, ".tar": webdataset.FORM}
_PARQUET_MAGIC = b"PAR1"
_LOOKED_AT = 1000  # names of a folder that are looked at to tell what it is
_ZIP_MAGIC = b"PK\x03\x04"
_HINTS = {
    ".npy": "an .npy holds images without labels; np.savez(FILE, images, labels) writes an .npz with both",
    ".pt": "pickles are never read; np.savez(FILE, images, labels) writes an .npz",
    ".pth": "pickles are never read; np.savez(FILE, images, labels) writes an .npz",
    ".pkl": "pickles are never read; np.savez(FILE, images, labels) writes an .npz",
    ".zip": "unpack it first, a folder of class folders is read",
    ".tgz": "unpack it first, plain .tar files are read",
    ".gz": "unpack it first",
    ".arrow": "a Hugging Face dataset is read from .parquet files: Dataset.to_parquet(FILE) writes one",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a source does not say itself.

    Attributes:
        split: which split of a source with several; of a source with one, what it is. None: its only split, and
            otherwise `train`.
        classes: the class list, in which the source's names are looked up, or which its numbers number; None: the
            source's own.
        label_field: the column (parquet) or the field of the .json members (webdataset) that holds labels or prompts.
        image_field: the column that holds images (parquet).
        prompts: from prompt to class name, where labels are prompts (parquet, webdataset).
    """

    split: str | None = None
    classes: ClassList | None = None
    label_field: str | None = None
    image_field: str | None = None
    prompts: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            raise InputError(f"split is {self.split!r}, allowed: {', '.join(SPLITS)}")


def form_of(path: Path) -> str:
    """Return which form of labelled images is at a path, `caskit` or one of `manifests.imported.FORMS`.

    Raises:
        InputError: nothing is there, or nothing that is known; the message says what would be.
    """
    if path.is_dir():
        return _form_of_folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_file():
        raise InputError(f"{path}: neither a file nor a folder")
    with path.open("rb") as file:
        magic = file.read(4)
    suffix = path.suffix.lower()
    form = _SUFFIXES.get(suffix)
    if form is not None and magic == {npz.FORM: _ZIP_MAGIC, parquet.FORM: _PARQUET_MAGIC}.get(form, magic):
        return form
    hint = _HINTS.get(suffix)
    raise InputError(f"{path}: not recognised; {hint or f'what is read: {READ}'}")


def _form_of_folder(path: Path) -> str:
    if any((path / name).is_file() for name in ("replica.json", *ORIGIN_FILES.values())):
        return CASKIT
    entries = sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith("."))
    suffixes = _suffixes(path)
    if ".tar" in suffixes:  # before the rest: img2dataset leaves .parquet files beside its tars
        return webdataset.FORM
    if ".parquet" in suffixes:
        return parquet.FORM
    if ".arrow" in suffixes:
        raise InputError(f"{path}: not recognised; {_HINTS['.arrow']}")
    if any((path / name).is_dir() for name in entries):
        return imagefolder.FORM
    arrays = [name for name in entries if name.endswith(".npz")]
    if arrays:
        raise InputError(f"{path}: a folder of .npz files, name one of them: {path / arrays[0]}")
    shown = ", ".join(ascii(name)[1:-1] for name in entries[:3])
    raise InputError(f"{path}: not recognised, holds {shown or 'nothing'}; what is read: {READ}")


def _suffixes(path: Path, depth: int = 2) -> set[str]:
    """Return the suffixes of the files in a folder and those below it; of many names only the first are looked at."""
    with os.scandir(path) as entries:
        looked_at = [entry for entry in itertools.islice(entries, _LOOKED_AT) if not entry.name.startswith(".")]
    found = {os.path.splitext(entry.name)[1].lower() for entry in looked_at if not entry.is_dir()}
    for entry in looked_at if depth else ():
        if entry.is_dir(follow_symlinks=False):
            found |= _suffixes(Path(entry.path), depth - 1)
    return found


def recognise(path: Path, options: Options | None = None) -> Source:
    """Open what is at a path as a source of labelled images.

    Args:
        path: in any of the forms that `form_of` knows, but a caskit set, which is used as it is.
        options: what the source does not say itself.

    Raises:
        InputError: not recognised, without labels, or not what the options say.
    """
    options = options or Options()
    form = form_of(path)
    if form == CASKIT:
        raise InputError(f"{path}: a caskit set already, it is used as it is")
    if form == parquet.FORM:
        return parquet.load(
            path,
            split=options.split,
            classes=options.classes,
            label_field=options.label_field,
            image_field=options.image_field,
            prompts=options.prompts,
        )
    if options.image_field is not None:
        raise InputError(f"{path}: is {form}, only parquet has an image field")
    if form == webdataset.FORM:
        return webdataset.load(
            path,
            split=options.split,
            classes=options.classes,
            label_field=options.label_field,
            prompts=options.prompts,
        )
    if options.label_field is not None or options.prompts is not None:
        raise InputError(f"{path}: is {form}, only parquet and webdataset have a label field or prompts")
    if form == npz.FORM:
        return npz.load(path, split=options.split or "train", classes=options.classes)
    return imagefolder.choose(path, options.split, options.classes)
