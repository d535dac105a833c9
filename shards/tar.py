"""What a tar of samples is, byte for byte, and how one is read so strictly that it has one possible form.

writing.py writes them. A lenient reader stops at the first header it cannot parse and calls it the end (webdataset
reads 50 of 100 samples after one flipped header bit). Here every header must equal, byte for byte, the one its name and
size give.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import BinaryIO, Protocol, TypeVar

import numpy as np

from caskit.manifests.errors import IntegrityError

BLOCK_BYTES = 512
RECORD_BYTES = 20 * BLOCK_BYTES  # a tar ends at a multiple of this
MAX_NAME_BYTES = 100  # of a USTAR name field
MAX_MEMBER_BYTES = 2**28  # a bound for tars that another lab wrote
LABEL_EXTENSION = "cls"
IMAGE_EXTENSIONS = ("png", "jpg", "webp")
MEMBER_NAME = re.compile(rb"([A-Za-z0-9][A-Za-z0-9_-]*)\.(cls|png|jpg|webp)\0*")
_LABEL = re.compile(rb"0|[1-9][0-9]{0,15}")
_ZEROS = bytes(RECORD_BYTES)
# The header around name, size and checksum: mode 0444, uid, gid and mtime 0, a plain file, no owner names.
_BEFORE_SIZE = b"0000444\0" + b"0000000\0" * 2
_BEFORE_CHECKSUM = b"\0" + b"00000000000\0"
_AFTER_CHECKSUM = b"0" + bytes(100) + b"ustar\00000" + bytes(247)
_CONSTANT_SUM = sum(_BEFORE_SIZE) + sum(_BEFORE_CHECKSUM) + 8 * ord(" ") + sum(_AFTER_CHECKSUM)

SizeT = TypeVar("SizeT", int, np.ndarray)


class Hash(Protocol):
    """What of a hashlib object is used here."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar: `<key>.<extension>`, where its header and its `nbytes` bytes of payload begin."""

    key: str
    extension: str
    header_offset: int
    payload_offset: int
    nbytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a tar: its label and its stored image bytes, which begin at `payload_offset`."""

    key: str
    label: int
    extension: str
    payload_offset: int
    image: bytes


def canonical_header(name: bytes, nbytes: int) -> bytes:
    """Return the one USTAR header, 512 bytes, that a member of this name (at most 100 bytes) and size may have."""
    size = b"%011o" % nbytes
    checksum = b"%06o\0 " % (_CONSTANT_SUM + sum(name) + sum(size))
    filled_name = name.ljust(MAX_NAME_BYTES, b"\0")
    return b"".join((filled_name, _BEFORE_SIZE, size, _BEFORE_CHECKSUM, checksum, _AFTER_CHECKSUM))


def padded(nbytes: SizeT) -> SizeT:
    """Round a payload, or [n] of them, up to whole blocks."""
    return -(-nbytes // BLOCK_BYTES) * BLOCK_BYTES


def tar_size(members_end: int) -> int:
    """Return the size of a tar whose last payload ends, padded, at `members_end`."""
    return -(-(members_end + 2 * BLOCK_BYTES) // RECORD_BYTES) * RECORD_BYTES


def layout(nbytes: np.ndarray) -> tuple[np.ndarray, int]:
    """Return where the images of a shard begin and how long its tar is, from the images' sizes alone.

    Args:
        nbytes: [N] int64, in the order of the shard.

    Returns:
        payload offsets [N] int64, and the size of the tar in bytes.
    """
    before = 3 * BLOCK_BYTES  # the label's header and its one block, the image's header
    ends = np.cumsum(before + -(-nbytes // BLOCK_BYTES) * BLOCK_BYTES)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])[: len(nbytes)]
    return starts + before, tar_size(int(ends[-1]) if len(ends) else 0)


def read_payloads(fileobj: BinaryIO, *, name: str, digest: Hash | None = None) -> Iterator[tuple[Member, bytes]]:
    """Read a tar once from its first byte to its last; yields its members with their bytes.

    Args:
        fileobj: a buffered file at position 0.
        name: what the tar is called in errors.
        digest: takes in every byte of the file.

    Raises:
        IntegrityError: a byte that is not what it must be, or the file ends early or late. What was yielded before
            stands only if the iteration ends without it.
    """
    offset, last_key = 0, ""
    while True:
        header = fileobj.read(BLOCK_BYTES)
        if digest is not None:
            digest.update(header)
        if len(header) < BLOCK_BYTES:
            raise IntegrityError(f"{name}: cut at byte {offset + len(header)}, after {_after(last_key)}")
        if header == _ZEROS[:BLOCK_BYTES]:
            break
        member = _parse_header(header, offset, name=name, last_key=last_key)
        block = fileobj.read(padded(member.nbytes))
        if digest is not None:
            digest.update(block)
        if len(block) < padded(member.nbytes):
            raise IntegrityError(f"{name}: cut at byte {member.payload_offset + len(block)}, inside key {member.key}")
        if block[member.nbytes :].strip(b"\0"):
            raise IntegrityError(f"{name}: key {member.key}: bytes behind its .{member.extension} are not zero")
        yield member, block[: member.nbytes]
        offset, last_key = member.payload_offset + len(block), member.key
    rest = tar_size(offset) - offset - BLOCK_BYTES
    tail = fileobj.read(rest + 1)
    if digest is not None:
        digest.update(tail)
    if len(tail) < rest:
        raise IntegrityError(f"{name}: cut at byte {offset + BLOCK_BYTES + len(tail)}, after {_after(last_key)}")
    if len(tail) > rest or tail.strip(b"\0"):
        raise IntegrityError(f"{name}: bytes at its end, after {_after(last_key)}, that are no part of the tar")


def read_members(fileobj: BinaryIO, *, name: str) -> Iterator[Member]:
    """Yield the members of a tar as `read_payloads` does, without their bytes."""
    for member, _ in read_payloads(fileobj, name=name):
        yield member


def read_samples(fileobj: BinaryIO, *, name: str, digest: Hash | None = None) -> Iterator[Sample]:
    """Yield the samples of a tar as `read_payloads` does; each must be a label followed by an image of the same key."""
    members = read_payloads(fileobj, name=name, digest=digest)
    for member, payload in members:
        if member.extension != LABEL_EXTENSION or _LABEL.fullmatch(payload) is None:
            raise IntegrityError(f"{name}: key {member.key}: label due, found .{member.extension} {payload[:20]!r}")
        image, image_bytes = next(members, (None, b""))
        if image is None or image.key != member.key or image.extension == LABEL_EXTENSION:
            found = "the end" if image is None else f"{image.key}.{image.extension}"
            raise IntegrityError(f"{name}: key {member.key}: its image was due, found {found}")
        yield Sample(member.key, int(payload), image.extension, image.payload_offset, image_bytes)


def _after(last_key: str) -> str:
    return f"key {last_key}" if last_key else "no key"


def _parse_header(header: bytes, offset: int, *, name: str, last_key: str) -> Member:
    match = MEMBER_NAME.fullmatch(header, 0, MAX_NAME_BYTES)
    size = header[124:135]
    if match is None or size.strip(b"01234567"):
        raise IntegrityError(f"{name}: header at byte {offset}, after {_after(last_key)}, is damaged or not ours")
    key, extension = match[1].decode(), match[2].decode()
    nbytes = int(size, 8)
    if header != canonical_header(header[: match.end(2)], nbytes):
        raise IntegrityError(
            f"{name}: key {key}: header of .{extension} at byte {offset}, after {_after(last_key)}, "
            "is damaged or not ours"
        )
    if nbytes > MAX_MEMBER_BYTES:
        raise IntegrityError(f"{name}: key {key}: .{extension} has {nbytes} bytes, at most {MAX_MEMBER_BYTES} are read")
    return Member(key, extension, offset, offset + BLOCK_BYTES, nbytes)
