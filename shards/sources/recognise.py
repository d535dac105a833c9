"""What is at a path: which form of labelled images, told from names and first bytes, and opened as a source.

    form_of(path)                 "caskit", "imagefolder", "npz", ...; InputError for anything else
    recognise(path, options)      the source, ready for `ingest`

Nothing is imported, unpickled or fetched, and no file outside the path is read but those that the options name.
"""

import dataclasses
import os
from pathlib import Path

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.ingest import SPLITS
from caskit.manifests.origin import ORIGIN_FILES
from caskit.shards.sources import imagefolder, npz
from caskit.shards.sources.source import Source

CASKIT = "caskit"
READ = "a folder of class folders, an .npz with arr_0 and arr_1, a caskit set"
_ZIP_MAGIC = b"PK\x03\x04"
_HINTS = {
    ".npy": "an .npy holds images without labels; np.savez(FILE, images, labels) writes an .npz with both",
    ".pt": "pickles are never read; np.savez(FILE, images, labels) writes an .npz",
    ".pth": "pickles are never read; np.savez(FILE, images, labels) writes an .npz",
    ".pkl": "pickles are never read; np.savez(FILE, images, labels) writes an .npz",
    ".zip": "unpack it first, a folder of class folders is read",
    ".tgz": "unpack it first, plain .tar files are read",
    ".gz": "unpack it first",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a source does not say itself.

    Attributes:
        split: which split of a source with several; of a source with one, what it is. None: its only split, and
            otherwise `train`.
        classes: the class list, in which the source's names are looked up, or which its numbers number; None: the
            source's own.
    """

    split: str | None = None
    classes: ClassList | None = None

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
    if suffix == ".npz" and magic == _ZIP_MAGIC:
        return npz.FORM
    hint = _HINTS.get(suffix)
    raise InputError(f"{path}: not recognised; {hint or f'what is read: {READ}'}")


def _form_of_folder(path: Path) -> str:
    if any((path / name).is_file() for name in ("replica.json", *ORIGIN_FILES.values())):
        return CASKIT
    entries = sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith("."))
    if any((path / name).is_dir() for name in entries):
        return imagefolder.FORM
    arrays = [name for name in entries if name.endswith(".npz")]
    if arrays:
        raise InputError(f"{path}: a folder of .npz files, name one of them: {path / arrays[0]}")
    shown = ", ".join(ascii(name)[1:-1] for name in entries[:3])
    raise InputError(f"{path}: not recognised, holds {shown or 'nothing'}; what is read: {READ}")


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
    if form == npz.FORM:
        return npz.load(path, split=options.split or "train", classes=options.classes)
    return imagefolder.choose(path, options.split, options.classes)
