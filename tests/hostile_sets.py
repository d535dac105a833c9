"""Sets that somebody made to harm whoever reads them, each from an honest one by the tools of `hostile_tools`."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hostile_tools import (  # type: ignore[import-not-found]
    DECODING,
    DEEP,
    OPENING,
    SETS,
    TERABYTE,
    Attack,
    Payload,
    change_json,
    change_row,
    device,
    first_image,
    first_member,
    first_tar,
    grow,
    link,
    origin_file,
    pipe,
    png,
    put,
    put_header,
    rewrite,
    rows_of,
    seal,
    text_chunk,
)

from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.rows import ROW_SCHEMA


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
    """State a hundred thousand classes, some of whose ids stand twice."""
    record = parse_canonical(origin_file(root).read_bytes(), name="origin")
    ids = [f"c{n}" for n in range(100_000)]
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
        name="100,000 classes, ids twice",
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
