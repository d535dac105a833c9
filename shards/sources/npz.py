"""An `.npz` of samples as ADM's evaluation reads it: `arr_0` uint8 [N, H, W, C] images, `arr_1` [N] integer labels.

The headers are read here, so that nothing is ever unpickled, and no size is believed before it agrees with the file.
Images are mapped, not loaded: those of a compressed file are unpacked once into a scratch file.
"""

import dataclasses
import errno
import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import MAX_SIDE
from caskit.shards.codecs import encode
from caskit.shards.digest import sha256_file
from caskit.shards.sources.classes import numbered_classes
from caskit.shards.sources.foreign import ForeignSource
from caskit.shards.sources.source import StoredImage

FORM = "npz"
IMAGES, LABELS = "arr_0.npy", "arr_1.npy"
MAX_MEMBERS = 64
MAX_UNPACKED_BYTES = 2**36  # of a compressed file; a plain one may be of any size
_CHANNELS = (1, 3, 4)
_READ_BYTES = 2**22
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # of a zip member: signature, ..., lengths of name and extra field
# zipfile answers encrypted members with RuntimeError, unknown compression and encryption methods with a kind of it.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError)
_DAMAGED = (*_BROKEN_ZIP, EOFError, ValueError, SyntaxError, MemoryError, TypeError)


def load(path: Path, *, split: str, classes: ClassList | None = None) -> ForeignSource:
    """Open an `.npz`.

    Args:
        path: the file.
        split: what the images are.
        classes: what the labels number; else classes called `0`, `1`, ... up to the highest label.

    Raises:
        InputError: there are no labels, or an array is of another shape or type, short, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = _members(archive, path)
            pixels = images.read(archive)
            numbers = np.asarray(labels.read(archive))
    except _DAMAGED as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a whole .npz file ({' '.join(str(error).split())})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a directory that points before the file's beginning gives
            raise
        raise InputError(f"{path}: not a whole .npz file (its directory points outside)") from error
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    classes = numbered_classes(numbers, classes, lambda place: f"{path}: arr_1: sample {place}")
    return ForeignSource(
        dataset=FORM,
        split=split,
        classes=classes,
        files={path.name: sha256_file(path)},
        settings={},
        codec=Codec.of("png").to_json(),
        items=Arrays(pixels=pixels, file=path.name),
        item_labels=numbers.astype(np.int64),
        kept=np.arange(len(numbers)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrays:
    """Images of one array, [N, H, W, C] uint8, encoded when they are read."""

    pixels: np.ndarray
    file: str
    png: Codec = dataclasses.field(default_factory=lambda: Codec.of("png"))

    def name(self, place: int) -> str:
        """Return `file#number`."""
        return f"{self.file}#{place}"

    def read(self, place: int) -> StoredImage:
        """Encode one image."""
        pixels = np.ascontiguousarray(self.pixels[place])
        height, width, channels = pixels.shape
        data = encode(pixels, self.png)
        return StoredImage(data=data, extension=self.png.extension, width=width, height=height, channels=channels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One array of the file: what its header says, and which bytes it takes, known to be those that it needs."""

    path: Path
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    header_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, archive: zipfile.ZipFile) -> np.ndarray:
        """Return the array, mapped. Raises BadZipFile where its checksum is another one."""
        packed = self.info.compress_type != zipfile.ZIP_STORED
        offset = self.header_bytes + (0 if packed else self._offset())
        with archive.open(self.info) as stream, self._scratch() if packed else self.path.open("rb") as file:
            while piece := stream.read(_READ_BYTES):  # to the end: then the archive compares the checksum
                if packed:
                    file.write(piece)
            file.flush()
            order: Any = "F" if self.fortran else "C"
            # The mapping outlives the file, also one that has no name.
            return np.memmap(cast(Any, file), dtype=self.dtype, mode="r", offset=offset, shape=self.shape, order=order)

    def _scratch(self) -> IO[bytes]:
        """Return a scratch file without a name. Raises InputError where the array would not fit."""
        folder = tempfile.gettempdir()
        room = min(shutil.disk_usage(folder).free, MAX_UNPACKED_BYTES)
        if self.nbytes > room:
            raise InputError(
                f"{self.path}: {self.info.filename} unpacks to {self.nbytes} bytes, {room} are allowed in {folder} "
                "(TMPDIR says where); files of np.savez are not unpacked"
            )
        return tempfile.TemporaryFile()

    def _offset(self) -> int:
        """Return where the member's bytes begin in the file; the archive has compared header and directory."""
        with self.path.open("rb") as file:
            file.seek(self.info.header_offset)
            fields = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        return self.info.header_offset + _LOCAL_HEADER.size + int(fields[-2]) + int(fields[-1])


def _members(archive: zipfile.ZipFile, path: Path) -> tuple[Member, Member]:
    """Return the headers of images and labels, compared with the file and with each other."""
    infos = archive.infolist()
    names = [info.filename for info in infos[:MAX_MEMBERS]]
    if len(infos) > MAX_MEMBERS or len(set(names)) < len(names):
        raise InputError(f"{path}: holds {len(infos)} members or one twice, needs arr_0 and arr_1")
    if IMAGES not in names:
        shown = ", ".join(ascii(name)[1:-1] for name in names[:8])
        raise InputError(f"{path}: holds {shown or 'nothing'}; needs arr_0 (uint8 images) and arr_1 (labels)")
    if LABELS not in names:
        raise InputError(
            f"{path}: holds images (arr_0) without labels (arr_1); labels are required: CAS trains a classifier on them"
        )
    images, labels = (_member(archive, archive.getinfo(name), path) for name in (IMAGES, LABELS))
    if images.dtype != np.uint8 or len(images.shape) not in (3, 4):
        found = f"{images.dtype} {list(images.shape)}"
        raise InputError(f"{path}: arr_0 is {found}, must be uint8 [N, H, W, C] or [N, H, W]")
    num, height, width, channels = (*images.shape, 1)[:4]
    if num < 1 or not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE) or channels not in _CHANNELS:
        raise InputError(
            f"{path}: arr_0 is {list(images.shape)}, must be [N, H, W, C] with N of 1 or more, sides of 1..{MAX_SIDE} "
            f"and C one of {', '.join(map(str, _CHANNELS))}"
        )
    if labels.dtype.kind not in "iu":
        raise InputError(f"{path}: arr_1 is {labels.dtype} {list(labels.shape)}, must be integer labels [N]")
    if labels.shape != (num,):
        raise InputError(f"{path}: arr_1 is {list(labels.shape)} for {num} images, must be one label each, [{num}]")
    return images, labels


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Member:
    where = f"{path}: {info.filename}"
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{where}: encrypted or packed in another way than numpy's")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise InputError(f"{where}: format version {version[0]}.{version[1]}, allowed: 1.0, 2.0")
        shape, fortran, dtype = readers[version](stream)
        header_bytes = stream.tell()
    if dtype.hasobject:
        raise InputError(f"{where}: holds Python objects (a pickle), which are never loaded; must be plain numbers")
    if any(type(size) is not int or size < 0 for size in shape):
        raise InputError(f"{where}: shape {shape} is none")
    member = Member(path=path, info=info, shape=shape, fortran=fortran, dtype=dtype, header_bytes=header_bytes)
    if info.file_size != header_bytes + member.nbytes:
        raise InputError(
            f"{where}: {info.file_size - header_bytes} bytes for {dtype} {list(shape)}, which takes {member.nbytes}"
        )
    return member
