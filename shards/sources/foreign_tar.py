"""The members of a tar that another program wrote, without unpacking it: plain files, their names, where they lie.

`tarfile` takes the first header that it cannot parse for the end, and half of the samples are gone without a word. Here
every header's checksum must hold, and behind the last member there are zeros or nothing that counts as an end.
"""

import dataclasses
import os
import re
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from caskit.manifests.errors import InputError
from caskit.shards.tar import BLOCK_BYTES, padded

MAX_MEMBERS = 2**26
MAX_EXTENDED_BYTES = 2**20  # of a long name or a PAX header
_PIECE_BYTES = 2**20
_MAX_OPEN_FILES = 64
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")  # gzip, bzip2, xz, zstd
_PLAIN = (b"0", b"\0", b"7")
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
_PAX_LENGTH = re.compile(rb"([0-9]{1,9}) ")
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")


class Forward(Protocol):
    """What a tar is read from: a file that need not go back."""

    def seek(self, offset: int, /) -> Any:
        """Go to a byte."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return up to that many bytes."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignMember:
    """One plain file of a tar: its name as written, and its bytes."""

    name: str
    offset: int
    nbytes: int


def list_members(path: Path) -> Iterator[ForeignMember]:
    """Yield the plain files of a tar in order, see `read_members`."""
    with path.open("rb") as file:
        yield from read_members(file, path.stat().st_size, str(path))


def read_members(file: Forward, size: int, where: str, start: int = 0) -> Iterator[ForeignMember]:
    """Yield the plain files of a tar, or of a tar inside another file, in order; folders are passed over.

    Args:
        file: read from front to back, nothing before an earlier position is asked for again.
        size: bytes of the tar.
        where: what to call it in errors.
        start: where in the file it begins; offsets of members count from the file's beginning.

    Raises:
        InputError: a header is damaged, a member is no plain file or leads out of the folder, or the tar is cut.
    """
    offset, end, last, extended = start, start + size, "no member", dict[str, str]()
    for _ in range(MAX_MEMBERS):
        file.seek(offset)
        header = file.read(max(min(BLOCK_BYTES, end - offset), 0))
        if offset == start and header.startswith(_PACKED):
            raise InputError(f"{where}: compressed, unpack it first; plain tars are read")
        if len(header) < BLOCK_BYTES:
            raise InputError(f"{where}: cut at byte {offset - start + len(header)}, after {last}, without an end")
        if not header.strip(b"\0"):
            _check_end(file, end - offset - BLOCK_BYTES, where, last)
            return
        kind, nbytes = header[156:157], _size(header, where, offset - start, last)
        data = offset + BLOCK_BYTES
        nbytes = int(extended.get("size", nbytes)) if kind in _PLAIN else nbytes
        offset = data + padded(nbytes)
        if data + nbytes > end:
            raise InputError(f"{where}: cut inside the member after {last}: {end - data} of {nbytes} bytes")
        if kind in (b"x", b"L", b"g"):
            extended |= _extension(file, kind, nbytes, where, last)
            continue
        name = extended.get("path") or _name(header, where, last)
        extended = {}
        if kind == b"5":
            continue
        if kind not in _PLAIN:
            raise InputError(f"{where}: {name!a} is {_KINDS.get(kind, 'no plain file')}, which is not followed")
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise InputError(f"{where}: the name {name[:100]!a} leads out of the folder")
        last = ascii(name)
        yield ForeignMember(name, data, nbytes)
    raise InputError(f"{where}: holds more than {MAX_MEMBERS} members")


class TarReader:
    """Reads pieces of tars; the first ones stay open. Thread-safe."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._files: dict[int, FileIO] = {}
        self._lock = threading.Lock()

    def read(self, tar: int, offset: int, nbytes: int) -> bytes:
        """Return some bytes of tar number `tar`."""
        with self._lock:
            if tar not in self._files and len(self._files) < _MAX_OPEN_FILES:
                self._files[tar] = FileIO(self._paths[tar])
        if tar in self._files:
            return os.pread(self._files[tar].fileno(), nbytes, offset)
        with FileIO(self._paths[tar]) as file:
            return os.pread(file.fileno(), nbytes, offset)

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            file.close()


def _size(header: bytes, where: str, offset: int, last: str) -> int:
    """Return a member's size, once its header's checksum holds."""
    stated, field = _octal(header[148:156]), header[124:136]
    plain = header[:148] + b" " * 8 + header[156:]
    size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)
    holds = stated == sum(plain) or stated == sum(byte - 256 if byte > 127 else byte for byte in plain)  # old: signed
    if not holds or size is None or size >= 2**62:
        raise InputError(f"{where}: the header at byte {offset}, after {last}, is damaged, or this is no tar")
    return size


def _octal(field: bytes) -> int | None:
    match = _OCTAL.fullmatch(field)
    return None if match is None else int(match[1] or b"0", 8)


def _name(header: bytes, where: str, last: str) -> str:
    name, prefix = (header[start:end].partition(b"\0")[0] for start, end in ((0, 100), (345, 500)))
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return _text(name, where, last)


def _text(name: bytes, where: str, last: str) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: the name after {last} is not UTF-8") from error


def _extension(file: Forward, kind: bytes, nbytes: int, where: str, last: str) -> dict[str, str]:
    """Return what a long name or a PAX header says about the next member: its path, its size."""
    if nbytes > MAX_EXTENDED_BYTES:
        raise InputError(f"{where}: an extended header of {nbytes} bytes, after {last}, allowed: {MAX_EXTENDED_BYTES}")
    data = file.read(nbytes)
    if kind == b"L":
        return {"path": _text(data.rstrip(b"\0"), where, last)}
    found: dict[str, str] = {}
    while data.strip(b"\0"):
        match = _PAX_LENGTH.match(data)
        length = 0 if match is None else int(match[1])
        if match is None or not match.end() < length <= len(data):
            raise InputError(f"{where}: the extended header after {last} is damaged")
        key, _, value = data[match.end() : length].rstrip(b"\n").partition(b"=")
        if kind == b"x" and key in (b"path", b"size"):
            found[key.decode()] = _text(value, where, last)
        data = data[length:]
    if not found.get("size", "0").isdecimal() or len(found.get("size", "0")) > 18:
        raise InputError(f"{where}: the extended header after {last} has no whole size")
    return found


def _check_end(file: Forward, left: int, where: str, last: str) -> None:
    while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
        if piece.strip(b"\0"):
            raise InputError(f"{where}: bytes behind its end, after {last}: a block was wiped, or two tars were joined")
        left -= len(piece)
