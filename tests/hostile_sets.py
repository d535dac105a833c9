"""Sets and score folders that somebody made to harm whoever reads them, each from an honest one.

An attacker has caskit too: where a digest would give an edit away at once, it is computed again (`seal`).
"""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import pickle
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
    with contextlib.suppress(AssertionError, struct.error):  # rows that no root can be computed of
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


def rows_for_nothing(root: Path, outside: Path) -> None:
    """Write a manifest of three million equal rows in some ten kilobytes."""
    table = pa.Table.from_pylist(rows_of(root)[:1] * 2**17, schema=ROW_SCHEMA)
    with pq.ParquetWriter(root / "manifest.parquet", ROW_SCHEMA, compression="zstd") as writer:
        for _ in range(24):
            writer.write_table(table)


def pickled_type(root: Path, outside: Path) -> None:
    """Say in the manifest's schema that a column is of a type whose description is a pickle."""
    table = pq.read_table(root / "manifest.parquet")
    told = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Payload(outside / "ran")),
    }
    fields = [field.with_metadata(told) if field.name == "label" else field for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields)), root / "manifest.parquet")


def twice(name: str, member: bytes) -> Callable[[Path, Path], None]:
    """Return what makes a member stand twice in a JSON object, the honest one last."""

    def damage(root: Path, outside: Path) -> None:
        path = origin_file(root) if name == "origin" else root / name
        rewrite(path, path.read_bytes().replace(b"{", b"{" + member + b",", 1))
        if name == "origin":
            seal(root)

    return damage


def many_classes(root: Path, outside: Path) -> None:
    """State three hundred thousand classes, two of which have one id."""
    record = parse_canonical(origin_file(root).read_bytes(), name="origin")
    ids = [f"c{n}" for n in range(300_000)]
    record["classes"] = [{"id": one, "name": ""} for one in [*ids, *ids[:1000]]]
    record["histogram"] = [1] * len(record["classes"])
    rewrite(origin_file(root), canonical_json(record))
    seal(root)


def gzipped(root: Path, outside: Path) -> None:
    """Store the first tar compressed, followed by a gigabyte of zeros in a megabyte."""
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=9) as file:
        file.write(first_tar(root).read_bytes())
        for _ in range(64):
            file.write(bytes(2**24))
    rewrite(first_tar(root), bomb.getvalue())
    seal(root)


def hole(root: Path, outside: Path) -> None:
    """Make the first tar a terabyte long, its digest unknown to anybody."""
    grow("shards/shard-000000.tar", TERABYTE)(root, outside)


TAR, IMAGES = OPENING, DECODING
ROWS = tuple(command for command in SETS if command != "info")  # which reads records alone
DEEP = b"[" * 200_000
SET_ATTACKS = (
    # Files that are something else.
    Attack(name="replica.json is a link", damage=link("replica.json"), refused_by=SETS, message="no plain file"),
    Attack(
        name="manifest.parquet is a link", damage=link("manifest.parquet"), refused_by=ROWS, message="no plain file"
    ),
    Attack(name="a tar is a link", damage=link("shards/shard-000000.tar"), refused_by=TAR, message="no plain file"),
    Attack(name="shards/ is a link", damage=link("shards"), refused_by=TAR, message="link|missing|extra file"),
    Attack(name="replica.json is a pipe", damage=pipe("replica.json"), refused_by=SETS, message="no plain file"),
    Attack(
        name="manifest.parquet is a pipe", damage=pipe("manifest.parquet"), refused_by=ROWS, message="no plain file"
    ),
    Attack(name="a tar is a pipe", damage=pipe("shards/shard-000000.tar"), refused_by=TAR, message="no plain file"),
    Attack(name="provenance.json is a pipe", damage=pipe("provenance.json"), refused_by=("trust",), message="no plain"),
    Attack(name="a tar is a device", damage=device("shards/shard-000000.tar"), refused_by=TAR, message="no plain file"),
    Attack(name="replica.json is a device", damage=device("replica.json"), refused_by=SETS, message="no plain file"),
    # Members of tars, with every digest made to fit.
    Attack(name="member ../../outside", damage=put_header("../../evil.cls", size=1), refused_by=TAR, message="damaged"),
    Attack(name="member /etc/passwd", damage=put_header("/etc/passwd.cls", size=1), refused_by=TAR, message="damaged"),
    Attack(
        name="member is a symbolic link",
        damage=put_header("a_0.cls", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        refused_by=TAR,
        message="damaged",
    ),
    Attack(
        name="member is a hard link",
        damage=put_header("a_0.cls", type=tarfile.LNKTYPE, linkname="b_0.png"),
        refused_by=TAR,
        message="damaged",
    ),
    Attack(
        name="member is a device",
        damage=put_header("a_0.cls", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        refused_by=TAR,
        message="damaged",
    ),
    Attack(
        name="member is a PAX header", damage=put_header("x", type=b"x", size=2**30), refused_by=TAR, message="damag"
    ),
    Attack(
        name="member is sparse", damage=put_header("a_0.cls", type=b"S", size=2**30), refused_by=TAR, message="damag"
    ),
    Attack(
        name="member of 8 GB", damage=put_header("a_0.cls", size=8**11 - 1), refused_by=TAR, message="damaged|at most"
    ),
    Attack(name="member of -1 bytes", damage=put_header("a_0.cls", size=-1), refused_by=TAR, message="damaged"),
    Attack(
        name="member named in fullwidth", damage=put_header("\uff43_0.cls", size=1), refused_by=TAR, message="damaged"
    ),
    Attack(
        name="member with a zero byte", damage=put_header("a\0/../b.cls", size=1), refused_by=TAR, message="damaged"
    ),
    Attack(
        name="a sample twice",
        damage=first_member(lambda tar: tar[:2048] + tar),
        refused_by=TAR,
        message="rows give|bytes at|label due",
    ),
    Attack(name="a tar that is cut", damage=first_member(lambda tar: tar[:-5000]), refused_by=TAR, message="bytes|cut"),
    Attack(name="an empty tar", damage=first_member(lambda tar: b""), refused_by=TAR, message="bytes|cut"),
    Attack(name="a tar of a terabyte", damage=hole, refused_by=TAR, message="bytes|no part"),
    Attack(name="a gzip bomb for a tar", damage=gzipped, refused_by=TAR, message="damaged|bytes"),
    # Images, with every digest made to fit.
    Attack(name="PNG of 60000x60000", damage=first_image(png(60_000, 60_000)), refused_by=IMAGES, message="pixels|8x8"),
    Attack(
        name="PNG of 8000x8000 in 64 kB",
        damage=first_image(png(8000, 8000, pixels=bytes(8001 * 8000))),
        refused_by=IMAGES,
        message="8000x8000|several sizes",
    ),
    Attack(
        name="PNG with a text that unpacks to 1 GB",
        damage=first_image(png(8, 8, pixels=bytes(72), extra=text_chunk(b"zTXt", 2**30))),
        refused_by=(),
        message="no readable png",
    ),
    Attack(
        name="PNG with a profile that unpacks to 1 GB",
        damage=first_image(png(8, 8, pixels=bytes(72), extra=text_chunk(b"iCCP", 2**30))),
        refused_by=(),
        message="no readable png",
    ),
    Attack(name="PNG of 0x0", damage=first_image(png(0, 0)), refused_by=IMAGES, message="png"),
    Attack(
        name="a pickle for an image",
        damage=lambda root, outside: first_image(pickle.dumps(Payload(outside / "ran")))(root, outside),
        refused_by=TAR,
        message="another format",
    ),
    Attack(name="EPS for an image", damage=first_image(b"%!PS-Adobe-3.0 EPSF-3.0\n"), refused_by=TAR, message="format"),
    # Rows, with every digest made to fit.
    Attack(name="offset before the tar", damage=change_row(tar_offset=-512), refused_by=TAR, message="tar_offset|rows"),
    Attack(name="offset behind the tar", damage=change_row(tar_offset=2**40), refused_by=TAR, message="tar_offset"),
    Attack(name="offset of another sample", damage=change_row(tar_offset=3584), refused_by=TAR, message="tar_offset"),
    Attack(
        name="image of 2^62 bytes", damage=change_row(nbytes=2**62), refused_by=TAR, message="nbytes|tar_offset|size"
    ),
    Attack(name="shard 2^62", damage=change_row(shard=2**62), refused_by=TAR, message="shard|sample_id|place"),
    Attack(name="label 2^62", damage=change_row(label=0, ordinal=2**62), refused_by=TAR, message="ordinal|label"),
    Attack(name="key ../../evil", damage=change_row(key="../../evil"), refused_by=TAR, message="key"),
    Attack(name="key that clears the screen", damage=change_row(key="\x1b[2J"), refused_by=TAR, message="key"),
    Attack(name="source of 100 kB", damage=change_row(source="x" * 100_000), refused_by=ROWS, message="more than 4096"),
    Attack(name="three million rows in 10 kB", damage=rows_for_nothing, refused_by=ROWS, message="rows"),
    Attack(name="a pickle as a column's type", damage=pickled_type, refused_by=(), message="columns"),
    Attack(name="manifest of noise", damage=put("manifest.parquet", b"PAR1" * 999), refused_by=ROWS, message="Parquet"),
    Attack(name="manifest that is empty", damage=put("manifest.parquet", b""), refused_by=ROWS, message="Parquet"),
    Attack(
        name="manifest of a terabyte", damage=grow("manifest.parquet", TERABYTE), refused_by=ROWS, message="Parquet"
    ),
    # Records.
    Attack(name="replica.json nested 200,000 deep", damage=put("replica.json", DEEP), refused_by=SETS, message="JSON"),
    Attack(
        name="provenance.json nested 200,000 deep",
        damage=put("provenance.json", DEEP),
        refused_by=("trust",),
        message="JSON",
    ),
    Attack(
        name="a name twice in replica.json",
        damage=twice("replica.json", b'"kind":"imported"'),
        refused_by=SETS,
        message="canonical",
    ),
    Attack(
        name="a name twice in the record of origin",
        damage=twice("origin", b'"samples_per_shard":1'),
        refused_by=SETS,
        message="canonical",
    ),
    Attack(
        name="replica.json of a terabyte", damage=grow("replica.json", TERABYTE), refused_by=SETS, message="at most"
    ),
    Attack(
        name="provenance.json of a terabyte",
        damage=grow("provenance.json", TERABYTE),
        refused_by=("trust",),
        message="at most",
    ),
    Attack(
        name="provenance.json is a list", damage=put("provenance.json", b"[]"), refused_by=("trust",), message="object"
    ),
    Attack(
        name="a number of 5,000 digits",
        damage=change_json("replica.json", b'"num_shards":', b'"num_shards":' + b"9" * 5000),
        refused_by=SETS,
        message="JSON|digits",
    ),
    Attack(
        name="300,000 classes, ids twice",
        damage=many_classes,
        refused_by=SETS,
        message="more than once",
    ),
    Attack(
        name="class ../../evil",
        damage=change_json("origin", b'"id":"a"', b'"id":"../../evil"'),
        refused_by=SETS,
        message="not allowed",
    ),
    Attack(
        name="a class name of half a surrogate",
        damage=change_json("origin", b'"name":"a"', b'"name":"\\ud800"'),
        refused_by=SETS,
        message="canonical|surrogate|utf",
    ),
    Attack(
        name="names that a terminal obeys",
        damage=change_json("origin", b'"name":"a"', '"name":"\\u001b[2J\u202e<script>"'.encode()),
        refused_by=OPENING,
        message="class_list",
    ),
    Attack(
        name="two billion samples stated",
        damage=change_json("origin", b'"histogram":[20', b'"histogram":[2000000000'),
        refused_by=OPENING,
        message="rows|histogram",
    ),
    Attack(
        name="another kind",
        damage=change_json("replica.json", b'"kind":"', b'"kind":"x'),
        refused_by=SETS,
        message="kind",
    ),
    Attack(
        name="provenance.json with a URL",
        damage=put("provenance.json", b'{"created":"now","url":"http://127.0.0.1:9/fetch"}'),
        refused_by=(),
        message="",
    ),
    Attack(
        name="a signature nested 200,000 deep",
        damage=lambda root, outside: ((root / "signatures").mkdir(), put("signatures/ab.json", DEEP)(root, outside))[1],
        refused_by=(),
        message="envelope",
    ),
)
