"""index.bin: the rows of a set in small blocks that can be fetched one by one, with the hashes that prove them.

A magic, then the root of every class, then an entry per block, then the blocks; docs/format.md, rule 7.12. Where each
of them stands follows from the histogram, so a reader asks for what it needs and for nothing else.
"""

import dataclasses
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from caskit.manifests.errors import IntegrityError
from caskit.manifests.merkle import MerkleTree, root_of_hashes
from caskit.manifests.roots import content_leaf
from caskit.manifests.rows import MAX_KEY_BYTES, canonical_row

FILE = "index.bin"
MAGIC = b"caskit-index/1\n\n"
BLOCK_ROWS = 64
DIGEST_BYTES = 32
ENTRY = struct.Struct(">QI32s")  # offset in the file, length, root over the block's samples
MAX_ROW_BYTES = 2**13
_NUMBERS = ("sample_id", "label", "ordinal", "shard", "index_in_shard", "tar_offset", "nbytes", "width", "height")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a block is, and the root of the tree over its samples."""

    offset: int
    length: int
    root: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexLayout:
    """Where the parts of the index of a set with this histogram stand."""

    histogram: tuple[int, ...]

    def num_blocks(self, label: int) -> int:
        """Return how many blocks a class has."""
        return -(-self.histogram[label] // BLOCK_ROWS)

    @property
    def roots(self) -> tuple[int, int]:
        """Start and length of the roots of the classes."""
        return len(MAGIC), DIGEST_BYTES * len(self.histogram)

    def entries(self, label: int) -> tuple[int, int]:
        """Return start and length of the entries of a class."""
        before = sum(self.num_blocks(other) for other in range(label))
        return sum(self.roots) + ENTRY.size * before, ENTRY.size * self.num_blocks(label)

    @property
    def blocks(self) -> int:
        """Where the first block begins."""
        start, length = self.entries(len(self.histogram) - 1)
        return start + length


def make_index(rows: Iterable[dict[str, Any]], histogram: Sequence[int]) -> bytes:
    """Return the bytes of index.bin.

    Args:
        rows: of a whole set, in the order of (label, ordinal).
        histogram: samples per class.
    """
    place = IndexLayout(histogram=tuple(histogram))
    roots, entries, blocks, offset = [], [], [], place.blocks
    waiting = iter(rows)
    for label, count in enumerate(histogram):
        inside = []
        for start in range(0, count, BLOCK_ROWS):
            block = [next(waiting) for _ in range(min(BLOCK_ROWS, count - start))]
            assert all(row["label"] == label for row in block), "rows stand in the order of (label, ordinal)"
            data = encode_block(block)
            inside.append(block_root(block))
            entries.append(ENTRY.pack(offset, len(data), inside[-1]))
            blocks.append(data)
            offset += len(data)
        roots.append(root_of_hashes(inside))
    return b"".join((MAGIC, *roots, *entries, *blocks))


def block_root(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return the root over consecutive samples of one class, a subtree of the class's tree."""
    tree = MerkleTree()
    for row in rows:
        tree.append(content_leaf(row["key"], row["label"], row["image_sha256"]))
    return tree.root()


def encode_block(rows: Sequence[dict[str, Any]]) -> bytes:
    """Compress some rows: how many, their lengths, then their first bytes, their second bytes, and so on.

    So bytes that are alike stand together, which makes a block as small as the rows are in a Parquet file.
    """
    encoded = [canonical_row(row) for row in rows]
    lengths = struct.pack(f">I{len(encoded)}I", len(encoded), *map(len, encoded))
    columns = (bytes(row[at] for row in encoded if at < len(row)) for at in range(max(map(len, encoded))))
    return zlib.compress(lengths + b"".join(columns), 9)


def decode_block(data: bytes, *, name: str) -> list[dict[str, Any]]:
    """Return the rows of a block, in bounded memory. Raises IntegrityError for what `encode_block` does not make."""
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, BLOCK_ROWS * (MAX_ROW_BYTES + 4) + 4)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("a block is longer than it may be")
        (count,) = struct.unpack_from(">I", plain)
        if not 1 <= count <= BLOCK_ROWS:
            raise ValueError(f"{count} rows in a block")
        lengths = struct.unpack_from(f">{count}I", plain, 4)
        if max(lengths) > MAX_ROW_BYTES or 4 + 4 * count + sum(lengths) != len(plain):
            raise ValueError("lengths of rows that do not add up")
        rows, at = [bytearray() for _ in range(count)], 4 + 4 * count
        for column in range(max(lengths)):
            for row, length in zip(rows, lengths, strict=True):
                if column < length:
                    row.append(plain[at])
                    at += 1
        return [parse_row(bytes(row)) for row in rows]
    except (ValueError, zlib.error, struct.error, IndexError) as error:
        raise IntegrityError(f"{name}: a block of rows cannot be read ({error})") from error


def parse_row(data: bytes) -> dict[str, Any]:
    """Return the row that a canonical encoding (docs/format.md, 5.1) says. Raises ValueError if it is none."""
    length = data[0]
    key = data[1 : 1 + length].decode("ascii")
    at = 1 + length
    row: dict[str, Any] = {"key": key, **dict(zip(_NUMBERS, struct.unpack_from(">9Q", data, at), strict=True))}
    at += 72
    row["image_sha256"] = data[at : at + 32]
    at += 32

    def optional(read: Callable[[int], tuple[Any, int]]) -> Any:
        nonlocal at
        present = data[at]
        at += 1
        if present == 0:
            return None
        value, size = read(at)
        at += size
        return value

    def number(start: int) -> tuple[Any, int]:
        return struct.unpack_from(">Q", data, start)[0], 8

    def text(start: int) -> tuple[Any, int]:
        (size,) = struct.unpack_from(">I", data, start)
        return data[start + 4 : start + 4 + size].decode("utf-8"), 4 + size

    row["stream_key"] = optional(lambda start: (data[start : start + 16], 16))
    row["attempt"] = optional(number)
    row["source"] = optional(text)
    row["filter_score"] = optional(lambda start: (struct.unpack_from(">d", data, start)[0], 8))
    row["pixel_sha256"] = optional(lambda start: (data[start : start + 32], 32))
    row["codes_sha256"] = optional(lambda start: (data[start : start + 32], 32)) if at < len(data) else None
    if len(key) > MAX_KEY_BYTES or canonical_row(row) != data or max(row[name] for name in _NUMBERS) >= 2**63:
        raise ValueError(f"not the canonical form of a row, key {key!a}")
    return row
