"""Images that lie unpacked inside larger files, found by offset: tars, tars in tars."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caskit.shards.codecs import UndecodableImage
from caskit.shards.sources.foreign_tar import TarReader
from caskit.shards.sources.imagefolder import MAX_FILE_BYTES
from caskit.shards.sources.source import StoredImage


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedImages:
    """Images as pieces of files; `file#name` in `source`.

    Attributes:
        files: the files' names, for `source`.
        reader: reads them by number.
        file, offset, nbytes: [N] int64, where each image lies.
        names: [N] ASCII bytes, what each is called there.
        store: what makes stored images of their bytes.
    """

    files: tuple[str, ...]
    reader: TarReader
    file: np.ndarray
    offset: np.ndarray
    nbytes: np.ndarray
    names: np.ndarray
    store: Callable[[bytes], StoredImage]

    @classmethod
    def of(
        cls, folder: Path, files: tuple[str, ...], found: dict[str, np.ndarray], store: Callable[[bytes], StoredImage]
    ) -> "PackedImages":
        """Open what was listed: arrays `file`, `offset`, `nbytes` and `names`."""
        reader = TarReader(tuple(folder / name for name in files))
        columns = {name: found[name] for name in ("file", "offset", "nbytes", "names")}
        return cls(files=files, reader=reader, store=store, **columns)

    def name(self, place: int) -> str:
        """See Items."""
        return f"{self.files[self.file[place]]}#{self.names[place].decode('ascii')}"

    def read(self, place: int) -> StoredImage:
        """See Items."""
        nbytes = int(self.nbytes[place])
        if nbytes > MAX_FILE_BYTES:
            raise UndecodableImage(f"{nbytes} bytes, at most {MAX_FILE_BYTES} are read")
        return self.store(self.reader.read(int(self.file[place]), int(self.offset[place]), nbytes))
