"""A reader of index.bin written from docs/format.md alone, with the standard library: no caskit, no Parquet.

It reads the rows of one class by the ranges that it needs, and refuses what the content_root of replica.json does not
prove. `python standard_index.py SET LABEL` prints keys and where their images are: bytes of a tar.
"""

import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

BLOCK_ROWS, ENTRY = 64, struct.Struct(">QI32s")
PLACES = ("sample_id", "label", "ordinal", "shard", "index_in_shard", "tar_offset", "nbytes", "width", "height")


class Refused(Exception):
    """The index is not of the set that its replica.json names."""


def need(condition: object, message: str) -> None:
    if not condition:
        raise Refused(message)


def merged(hashes: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, over leaves that were hashed: split at the largest power of two below their number."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256().digest()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + merged(hashes[:half]) + merged(hashes[half:])).digest()


def tree(leaves: list[bytes]) -> bytes:
    return merged([hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves])


def unpacked(block: bytes) -> list[bytes]:
    """The canonical rows of a block, which stores the first byte of every row, then the second, and so on."""
    data = zlib.decompress(block)
    number = int.from_bytes(data[:4], "big")
    lengths = struct.unpack_from(f">{number}I", data, 4)
    need(1 <= number <= BLOCK_ROWS and len(data) == 4 + 4 * number + sum(lengths), "a block of another length")
    columns, rows = iter(data[4 + 4 * number :]), [bytearray() for _ in lengths]
    for place in range(max(lengths)):
        for row, length in zip(rows, lengths, strict=True):
            row.extend([next(columns)] if place < length else [])
    return [bytes(row) for row in rows]


def content_leaf(row: bytes) -> bytes:
    """Rule 6.1 out of rule 5.1: key with its length, label, digest of the image."""
    at = 1 + row[0]
    return row[:at] + row[at + 8 : at + 16] + row[at + 72 : at + 104]


def class_rows(read: Callable[[int, int], bytes], label: int, counts: list[int], content_root: str) -> list[bytes]:
    """Canonical rows of a class in the order of ordinals; `read` gives the bytes from an offset on, so many.

    Raises:
        Refused: something that was read is not what content_root says.
    """
    head = read(0, 16 + 32 * len(counts))
    roots = [head[at : at + 32] for at in range(16, len(head), 32)]
    tops = [struct.pack(">2Q", *pair) + root for pair, root in zip(enumerate(counts), roots, strict=True)]
    need(head[:16] == b"caskit-index/1\n\n" and tree(tops).hex() == content_root, "index.bin is of another set")
    blocks = [-(-count // BLOCK_ROWS) for count in counts]
    table = read(len(head) + ENTRY.size * sum(blocks[:label]), ENTRY.size * blocks[label])
    entries = list(ENTRY.iter_unpack(table))
    need(merged([root for _, _, root in entries]) == roots[label], f"the entries of class {label} are others")
    rows = []
    for offset, length, root in entries:
        block = unpacked(read(offset, length))
        need(tree([content_leaf(row) for row in block]) == root, f"a block of class {label} holds other rows")
        rows += block
    return rows


def fields(row: bytes) -> tuple[str, dict[str, int], bytes]:
    """Key, numbers and digest of the image of a row; what stands behind them is in rule 5.1."""
    at = 1 + row[0]
    return (
        row[1:at].decode(),
        dict(zip(PLACES, struct.unpack_from(">9Q", row, at), strict=True)),
        row[at + 72 : at + 104],
    )


def read_class(folder: Path, label: int) -> list[bytes]:
    """The rows of a class of a published set. Raises Refused."""
    replica = json.loads((folder / "replica.json").read_bytes())
    names = {"synthetic": "plan.json", "real": "ingest.json", "imported": "import.json"}
    counts = json.loads((folder / names.get(replica["kind"], "reconstruction.json")).read_bytes())["histogram"]
    with (folder / "index.bin").open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            data = file.read(length)
            need(len(data) == length, "index.bin ends too early")
            return data

        return class_rows(read, label, counts, replica["content_root"])


if __name__ == "__main__":
    for key, numbers, _ in map(fields, read_class(Path(sys.argv[1]), int(sys.argv[2]))):
        print(key, f"shards/shard-{numbers['shard']:06d}.tar", numbers["tar_offset"], numbers["nbytes"])
