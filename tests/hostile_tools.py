"""What attacks on sets and scores are made of: how to change a file, a row or a member of an honest folder.

An attacker has caskit too: where a digest would give an edit away at once, it is computed again (`seal`).
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caskit.manifests.canonical import canonical_json, parse_canonical, sha256_hex
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.roots import ShardRecord, content_root_of, packing_root, rows_root
from caskit.manifests.rows import ROW_SCHEMA
from caskit.shards.records import SHARD_SCHEMA
from caskit.shards.tar import canonical_header, padded, tar_size

SETS = ("verify", "info", "trust", "train", "score", "check", "cas")  # commands that are handed a set
OPENING = ("verify", "train", "score", "check", "cas")  # those that read its tars
DECODING = ("deep", "train", "score", "cas")  # those that decode its images
SECRET = "the content of a file outside"
TERABYTE = 2**40
DEEP = b"[" * 200_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """One way to harm a reader.

    Attributes:
        name: for the table of docs/hostile.md.
        damage: does it to the folder; the second folder is outside of it.
        refused_by: commands that have to refuse; the others may as well finish, safely.
        message: what a refusal says.
    """

    name: str
    damage: Callable[[Path, Path], None]
    refused_by: tuple[str, ...]
    message: str


def origin_file(root: Path) -> Path:
    """Return the record that says where a set came from."""
    return next(root / name for name in ORIGIN_FILES.values() if os.path.lexists(root / name))


def rows_of(root: Path) -> list[dict[str, Any]]:
    """Return the rows of a set."""
    rows: list[dict[str, Any]] = pq.read_table(root / "manifest.parquet").to_pylist()
    return rows


def seal(root: Path, *, rows: list[dict[str, Any]] | None = None) -> None:
    """Give a set the records that its files have now, so that no digest tells what was done to it."""
    if rows is not None:
        pq.write_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), root / "manifest.parquet")
    shards = pq.read_table(root / "shards.parquet").to_pylist()
    for shard in shards:
        path = root / "shards" / shard["name"]
        if path.is_file() and path.stat().st_size < 2**24:
            shard["size_bytes"] = path.stat().st_size
            shard["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    pq.write_table(pa.Table.from_pylist(shards, schema=SHARD_SCHEMA), root / "shards.parquet")
    record = parse_canonical((root / "replica.json").read_bytes(), name="replica.json")
    record["packing_root"] = packing_root(ShardRecord(**shard) for shard in shards)
    record["origin_sha256"] = sha256_hex(origin_file(root).read_bytes())
    table = pq.read_table(root / "manifest.parquet")
    with contextlib.suppress(AssertionError, ValueError, OverflowError, struct.error):  # rows that have no root
        record["rows_root"], record["content_root"] = rows_root(table), content_root_of(table, record["num_classes"])
    rewrite(root / "replica.json", canonical_json(record))


def rewrite(path: Path, data: bytes) -> None:
    """Replace a file, which may be read-only or a hard link."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def first_tar(root: Path) -> Path:
    """Return a set's first tar."""
    return root / "shards" / "shard-000000.tar"


def header(name: str, **fields: Any) -> bytes:
    """Return a member's header as tarfile writes it."""
    info = tarfile.TarInfo(name)
    for field, value in {"mode": 0o444, "uname": "", "gname": "", "mtime": 0, **fields}.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def first_member(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    """Return what changes the bytes of the first tar, and seals the set."""

    def damage(root: Path, outside: Path) -> None:
        path = first_tar(root)
        rewrite(path, change(path.read_bytes()))
        seal(root)

    return damage


def put_header(name: str, **fields: Any) -> Callable[[Path, Path], None]:
    """Return what puts another header before the first member."""
    return first_member(lambda tar: header(name, **fields) + tar[512:])


def first_image(data: bytes, *, side: int | None = None) -> Callable[[Path, Path], None]:
    """Return what stores other bytes as the first image, with all digests and offsets made to fit."""

    def damage(root: Path, outside: Path) -> None:
        rows, path = rows_of(root), first_tar(root)
        old = path.read_bytes()
        shard = sorted((row for row in rows if row["shard"] == 0), key=lambda row: int(row["index_in_shard"]))
        blocks = []
        for index, row in enumerate(shard):
            image = data if index == 0 else old[row["tar_offset"] : row["tar_offset"] + row["nbytes"]]
            for name, part in ((f"{row['key']}.cls", b"%d" % row["label"]), (f"{row['key']}.png", image)):
                blocks += [canonical_header(name.encode(), len(part)), part.ljust(padded(len(part)), b"\0")]
            row |= {"nbytes": len(image), "image_sha256": hashlib.sha256(image).digest()}
            row["tar_offset"] = sum(map(len, blocks)) - padded(len(image))
        if side is not None:
            shard[0] |= {"width": side, "height": side}
        joined = b"".join(blocks)
        rewrite(path, joined.ljust(tar_size(len(joined)), b"\0"))
        seal(root, rows=rows)

    return damage


def png(width: int, height: int, *, pixels: bytes = b"", extra: bytes = b"") -> bytes:
    """Return a grey PNG that says it has a size; `pixels` are its rows, compressed here, `extra` other chunks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + extra + body


def text_chunk(kind: bytes, num_bytes: int) -> bytes:
    """Return a compressed chunk of a PNG that unpacks to so many bytes."""
    data = b"a\0\0" + zlib.compress(bytes(num_bytes), 9)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def change_row(**values: Any) -> Callable[[Path, Path], None]:
    """Return what changes values of the first row of the first tar, and seals the set."""

    def damage(root: Path, outside: Path) -> None:
        rows = rows_of(root)
        row = next(row for row in rows if (row["shard"], row["index_in_shard"]) == (0, 0))
        row |= values
        seal(root, rows=rows)

    return damage


def change_json(name: str, old: bytes, new: bytes) -> Callable[[Path, Path], None]:
    """Return what replaces bytes of a record (`origin`: the one that stands for a plan), and seals the set."""

    def damage(root: Path, outside: Path) -> None:
        path = origin_file(root) if name == "origin" else root / name
        data = path.read_bytes()
        assert old in data, f"{path} has no {old!r}"
        rewrite(path, data.replace(old, new, 1))
        if name == "origin":
            seal(root)

    return damage


def put(name: str, data: bytes) -> Callable[[Path, Path], None]:
    """Return what puts other bytes in the place of a file."""
    return lambda root, outside: rewrite(root / name, data)


def grow(name: str, num_bytes: int) -> Callable[[Path, Path], None]:
    """Return what makes a file as long as nobody can read, at no cost: its end is a hole."""

    def damage(root: Path, outside: Path) -> None:
        rewrite(root / name, (root / name).read_bytes() if (root / name).is_file() else b"")
        os.truncate(root / name, num_bytes)

    return damage


def link(name: str) -> Callable[[Path, Path], None]:
    """Return what moves a file or a folder outside and leaves a link to it."""

    def damage(root: Path, outside: Path) -> None:
        shutil.move(root / name, outside / "moved")
        (root / name).symlink_to(outside / "moved")

    return damage


def pipe(name: str) -> Callable[[Path, Path], None]:
    """Return what puts a pipe in the place of a file: opening it waits for ever."""

    def damage(root: Path, outside: Path) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return damage


def device(name: str) -> Callable[[Path, Path], None]:
    """Return what puts a link to a device without an end in the place of a file."""

    def damage(root: Path, outside: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to("/dev/zero")

    return damage
