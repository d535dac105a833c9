"""Who notices what: faults put into a frozen set, against `caskit verify`, opening the set, and plain webdataset.

Run: python benchmarks/faults.py [SET...] > benchmarks/faults.md (a minute or two). tests/shards/test_verify.py and
tests/shards/test_dataset.py go through the same table.
"""

import dataclasses
import datetime
import itertools
import os
import platform
import runpy
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caskit.manifests.canonical import canonical_json, parse_canonical, sha256_hex
from caskit.manifests.errors import InputError
from caskit.manifests.roots import content_root_of, rows_root
from caskit.manifests.rows import sort_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A way to damage a set.

    Attributes:
        name: for the table.
        damage: does it to the set in a folder; returns what the error must name: a shard (or file) and a key, empty
            where none is at fault.
        kinds: sets it applies to: synthetic, real, or coded, a synthetic one that records codes.
        quick: whether the quick level, which reads no tar, must notice.
    """

    name: str
    damage: Callable[[Path], tuple[str, str]]
    kinds: tuple[str, ...] = ("synthetic", "real")
    quick: bool = True


def tar(root: Path, shard: int) -> Path:
    """Return a tar's path."""
    return root / f"shards/shard-{shard:06d}.tar"


def rows_of(root: Path, shard: int) -> list[dict[str, Any]]:
    """Return a shard's rows in tar order."""
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    return sorted((row for row in rows if row["shard"] == shard), key=lambda row: int(row["index_in_shard"]))


def flip(part: str) -> Callable[[Path], tuple[str, str]]:
    """Flip the lowest bit of one byte of the third sample of shard 1."""

    def damage(root: Path) -> tuple[str, str]:
        row = rows_of(root, 1)[2]
        image = row["tar_offset"]
        place = {
            "image": image + row["nbytes"] // 2,
            "label": image - 1024,
            "header of the image": image - 512 + 3,
            "owner in a header": image - 512 + 110,
            "size in a header": image - 512 + 134,
            "padding": image + row["nbytes"],
        }[part]
        data = bytearray(tar(root, 1).read_bytes())
        data[place] ^= 1
        tar(root, 1).write_bytes(data)
        return "shard-000001.tar", row["key"]

    return damage


def cut(where: str) -> Callable[[Path], tuple[str, str]]:
    """Cut shard 1 before, in, or after its samples."""

    def damage(root: Path) -> tuple[str, str]:
        rows = rows_of(root, 1)
        end = rows[-1]["tar_offset"] + -(-rows[-1]["nbytes"] // 512) * 512
        row = rows[3]
        size = {
            "at a sample": row["tar_offset"] - 1536,
            "in a sample": row["tar_offset"] + row["nbytes"] // 2,
            "behind the last sample": end,
        }
        os.truncate(tar(root, 1), size[where])
        return "shard-000001.tar", "" if where == "behind the last sample" else row["key"]

    return damage


def cut_and_close(root: Path) -> tuple[str, str]:
    """Drop the last samples of shard 1 and end the tar as it should end: a whole tar with fewer samples."""
    row, data = rows_of(root, 1)[3], tar(root, 1).read_bytes()
    kept = data[: row["tar_offset"] - 1536] + bytes(1024)
    tar(root, 1).write_bytes(kept + bytes(-len(kept) % 10240))
    return "shard-000001.tar", row["key"]


def delete(root: Path) -> tuple[str, str]:
    """Delete shard 1."""
    tar(root, 1).unlink()
    return "shard-000001.tar", rows_of(root, 1)[0]["key"]


def swap(root: Path) -> tuple[str, str]:
    """Exchange shards 0 and 1."""
    first, second = tar(root, 0).read_bytes(), tar(root, 1).read_bytes()
    tar(root, 0).write_bytes(second)
    tar(root, 1).write_bytes(first)
    return "shard-000001.tar", rows_of(root, 1)[0]["key"]


def duplicate(root: Path) -> tuple[str, str]:
    """Put a copy of shard 0 where shard 1 was."""
    shutil.copyfile(tar(root, 0), tar(root, 1))
    return "shard-000001.tar", rows_of(root, 1)[0]["key"]


def extra(root: Path) -> tuple[str, str]:
    """Add one more shard, a copy of shard 0."""
    shutil.copyfile(tar(root, 0), tar(root, 99))
    return "shard-000099.tar", ""


def append(root: Path) -> tuple[str, str]:
    """Put a record of zeros behind shard 1."""
    with tar(root, 1).open("ab") as file:
        file.write(bytes(10240))
    return "shard-000001.tar", ""


def link(root: Path) -> tuple[str, str]:
    """Put a symbolic link to the same bytes where shard 1 was."""
    moved = root.parent / f"{root.name}-moved.tar"
    tar(root, 1).rename(moved)
    tar(root, 1).symlink_to(moved)
    return "shard-000001.tar", ""


def write_rows(root: Path, rows: pa.Table) -> None:
    """Write the manifest again."""
    pq.write_table(rows, root / "manifest.parquet")


def edit_row(column: str, change: Callable[[Any], Any]) -> Callable[[Path], tuple[str, str]]:
    """Change one value of the row of shard 1's third sample."""

    def damage(root: Path) -> tuple[str, str]:
        key = rows_of(root, 1)[2]["key"]
        table = pq.read_table(root / "manifest.parquet")
        rows = table.to_pylist()
        row = next(row for row in rows if row["key"] == key)
        row[column] = change(row[column])
        write_rows(root, pa.Table.from_pylist(rows, schema=table.schema))
        named = {"shard": "shard-00000", "codes_sha256": "shard-000001"}  # the last by the tar or by the sidecar
        return named.get(column, "shard-000001.tar"), row["key"]

    return damage


def flip_bytes(value: bytes) -> bytes:
    """Flip the lowest bit of the first byte."""
    return bytes([value[0] ^ 1]) + value[1:]


def drop_row(root: Path) -> tuple[str, str]:
    """Leave out the row of one sample of shard 1."""
    key = rows_of(root, 1)[2]["key"]
    table = pq.read_table(root / "manifest.parquet")
    write_rows(root, table.filter(pc.not_equal(table["key"], key)))
    return "shard-000001.tar", key


def add_row(root: Path) -> tuple[str, str]:
    """Add a row for a sample that the set does not have."""
    table = pq.read_table(root / "manifest.parquet")
    row = rows_of(root, 1)[2]
    row = {**row, "key": f"{row['key'].rpartition('_')[0]}_099999", "ordinal": 99999, "sample_id": table.num_rows}
    write_rows(root, sort_rows(pa.concat_tables([table, pa.Table.from_pylist([row], schema=table.schema)])))
    return "shard-000001.tar", row["key"]


def repeat_row(root: Path) -> tuple[str, str]:
    """Write one row twice."""
    table = pq.read_table(root / "manifest.parquet")
    row = rows_of(root, 1)[2]
    write_rows(root, sort_rows(pa.concat_tables([table, pa.Table.from_pylist([row], schema=table.schema)])))
    return "shard-000001.tar", row["key"]


def reorder_rows(root: Path) -> tuple[str, str]:
    """Write the same rows in another order."""
    table = pq.read_table(root / "manifest.parquet")
    write_rows(root, table.take(list(reversed(range(table.num_rows)))))
    return "manifest.parquet", ""


def edit_json(name: str, field: str, change: Callable[[Any], Any]) -> Callable[[Path], tuple[str, str]]:
    """Change one field of a record, which stays in canonical form."""

    def damage(root: Path) -> tuple[str, str]:
        value = parse_canonical((root / name).read_bytes(), name=name)
        value[field] = change(value[field])
        (root / name).write_bytes(canonical_json(value))
        return "", ""

    return damage


def uncanonical(root: Path) -> tuple[str, str]:
    """Add a space to replica.json, which a JSON parser does not mind."""
    (root / "replica.json").write_bytes((root / "replica.json").read_bytes().replace(b":", b": ", 1))
    return "", ""


def edit_consistently(column: str, change: Callable[[Any], Any]) -> Callable[[Path], tuple[str, str]]:
    """Change one row and put the roots that now result into replica.json."""

    def damage(root: Path) -> tuple[str, str]:
        where = edit_row(column, change)(root)
        table = sort_rows(pq.read_table(root / "manifest.parquet"))
        value = parse_canonical((root / "replica.json").read_bytes(), name="replica.json")
        value["rows_root"] = rows_root(table)
        value["content_root"] = content_root_of(table, value["num_classes"])
        (root / "replica.json").write_bytes(canonical_json(value))
        return where

    return damage


def edit_origin_consistently(root: Path) -> tuple[str, str]:
    """Change the plan's seed, and its digest in replica.json."""
    edit_json("plan.json", "seed", lambda seed: seed + 1)(root)
    digest = sha256_hex((root / "plan.json").read_bytes())
    return edit_json("replica.json", "origin_sha256", lambda _: digest)(root)


def edit_shard_table(column: str, change: Callable[[Any], Any]) -> Callable[[Path], tuple[str, str]]:
    """Change one value of shard 1's row in shards.parquet."""

    def damage(root: Path) -> tuple[str, str]:
        table = pq.read_table(root / "shards.parquet")
        rows = table.to_pylist()
        rows[1][column] = change(rows[1][column])
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), root / "shards.parquet")
        return "shard-000001.tar", ""

    return damage


def remove(name: str) -> Callable[[Path], tuple[str, str]]:
    """Delete a record."""

    def damage(root: Path) -> tuple[str, str]:
        (root / name).unlink()
        return name, ""

    return damage


def halve(name: str) -> Callable[[Path], tuple[str, str]]:
    """Cut a record in half."""

    def damage(root: Path) -> tuple[str, str]:
        os.truncate(root / name, (root / name).stat().st_size // 2)
        return name, ""

    return damage


def sidecar(root: Path, shard: int) -> Path:
    """Return the path of a sidecar of codes."""
    return root / f"codes/shard-{shard:06d}.parquet"


def edit_codes(change: Callable[[list[dict[str, Any]]], int]) -> Callable[[Path], tuple[str, str]]:
    """Change the rows of shard 1's sidecar; `change` returns the place of the sample to be named."""

    def damage(root: Path) -> tuple[str, str]:
        table = pq.read_table(sidecar(root, 1))
        rows = table.to_pylist()
        key = rows_of(root, 1)[change(rows)]["key"]
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sidecar(root, 1))
        return "codes/shard-000001.parquet", key

    return damage


def change_code(rows: list[dict[str, Any]]) -> int:
    """Change one code of the third sample."""
    level = next(name for name in rows[2] if name != "key")
    rows[2][level] = flip_bytes(rows[2][level])
    return 2


def swap_codes(rows: list[dict[str, Any]]) -> int:
    """Exchange the codes of two samples, not their keys."""
    rows[2], rows[3] = {**rows[3], "key": rows[2]["key"]}, {**rows[2], "key": rows[3]["key"]}
    return 2


def reorder_codes(rows: list[dict[str, Any]]) -> int:
    """Exchange two rows."""
    rows[2], rows[3] = rows[3], rows[2]
    return 2


def drop_codes(rows: list[dict[str, Any]]) -> int:
    """Leave out the last row."""
    del rows[-1]
    return -1


def remove_sidecar(root: Path) -> tuple[str, str]:
    """Delete a sidecar."""
    sidecar(root, 1).unlink()
    return "codes/shard-000001.parquet", rows_of(root, 1)[0]["key"]


def halve_sidecar(root: Path) -> tuple[str, str]:
    """Cut a sidecar in half."""
    os.truncate(sidecar(root, 1), sidecar(root, 1).stat().st_size // 2)
    return "codes/shard-000001.parquet", ""


def foreign_sidecar(root: Path) -> tuple[str, str]:
    """Put a copy of shard 0's sidecar where that of shard 1 was."""
    shutil.copyfile(sidecar(root, 0), sidecar(root, 1))
    return "codes/shard-000001.parquet", rows_of(root, 0)[0]["key"]


def extra_sidecar(root: Path) -> tuple[str, str]:
    """Add one more sidecar, also to a set that records no codes."""
    sidecar(root, 99).parent.mkdir(exist_ok=True)
    sidecar(root, 99).write_bytes(b"PAR1")
    return "codes/shard-000099.parquet", ""


def other_levels(root: Path) -> tuple[str, str]:
    """State another shape of the same number of codes."""
    table = pq.read_table(sidecar(root, 1))
    metadata = dict(table.schema.metadata)
    stated = parse_canonical(metadata[b"caskit.codes"], name="caskit.codes")
    first = stated["levels"][0]
    first["height"], first["width"] = first["height"] * first["width"], 1
    metadata[b"caskit.codes"] = canonical_json(stated)
    pq.write_table(table.replace_schema_metadata(metadata), sidecar(root, 1))
    return "codes/shard-000001.parquet", ""


SYNTHETIC, REAL, CODED = ("synthetic",), ("real",), ("coded",)
_DIGEST = "0123456789abcdef" * 4
FAULTS = (
    Fault(name="bit flipped in an image", damage=flip("image"), quick=False),
    Fault(name="bit flipped in a label", damage=flip("label"), quick=False),
    Fault(name="bit flipped in a tar header: name", damage=flip("header of the image"), quick=False),
    Fault(name="bit flipped in a tar header: owner", damage=flip("owner in a header"), quick=False),
    Fault(name="bit flipped in a tar header: size", damage=flip("size in a header"), quick=False),
    Fault(name="bit flipped in padding", damage=flip("padding"), quick=False),
    Fault(name="tar cut at a sample boundary", damage=cut("at a sample")),
    Fault(name="tar cut inside a sample", damage=cut("in a sample")),
    Fault(name="tar cut behind its last sample", damage=cut("behind the last sample")),
    Fault(name="tar written again with fewer samples", damage=cut_and_close),
    Fault(name="zeros appended to a tar", damage=append),
    Fault(name="shard deleted", damage=delete),
    Fault(name="two shards swapped", damage=swap, quick=False),
    Fault(name="one shard in place of another", damage=duplicate, quick=False),
    Fault(name="one shard too many", damage=extra),
    Fault(name="shard replaced by a symbolic link", damage=link),
    Fault(name="row edited: label", damage=edit_row("label", lambda label: (label + 1) % 3)),
    Fault(name="row edited: ordinal", damage=edit_row("ordinal", lambda ordinal: ordinal + 1)),
    Fault(name="row edited: sample_id", damage=edit_row("sample_id", lambda sample_id: sample_id + 1)),
    Fault(name="row edited: shard", damage=edit_row("shard", lambda shard: shard + 1)),
    Fault(name="row edited: offset", damage=edit_row("tar_offset", lambda offset: offset + 512)),
    Fault(name="row edited: nbytes", damage=edit_row("nbytes", lambda nbytes: nbytes - 1)),
    Fault(name="row edited: image digest", damage=edit_row("image_sha256", flip_bytes)),
    Fault(name="row edited: width", damage=edit_row("width", lambda width: width + 1)),
    Fault(name="row edited: seed (stream key)", damage=edit_row("stream_key", flip_bytes), kinds=SYNTHETIC),
    Fault(name="row edited: attempt", damage=edit_row("attempt", lambda attempt: attempt + 1), kinds=SYNTHETIC),
    Fault(name="row edited: source", damage=edit_row("source", lambda source: source + "x"), kinds=REAL),
    Fault(name="row edited: filter score", damage=edit_row("filter_score", lambda _: 0.5)),
    Fault(name="row dropped", damage=drop_row),
    Fault(name="row added", damage=add_row),
    Fault(name="row written twice", damage=repeat_row),
    Fault(name="rows in another order", damage=reorder_rows),
    *(
        Fault(name=f"replica.json edited: {field}", damage=edit_json("replica.json", field, change))
        for field, change in {
            "format_version": lambda version: version + 1,
            "kind": lambda kind: "real" if kind == "synthetic" else "synthetic",
            "origin_sha256": lambda _: _DIGEST,
            "num_samples": lambda number: number + 1,
            "num_classes": lambda number: number + 1,
            "num_shards": lambda number: number + 1,
            "class_list_sha256": lambda _: _DIGEST,
            "content_root": lambda _: _DIGEST,
            "rows_root": lambda _: _DIGEST,
            "packing_root": lambda _: _DIGEST,
        }.items()
    ),
    Fault(
        name="replica.json edited: kind, to that of a view", damage=edit_json("replica.json", "kind", lambda _: "view")
    ),
    Fault(name="replica.json edited: a space", damage=uncanonical),
    Fault(
        name="label edited, roots in replica.json made to fit",
        damage=edit_consistently("label", lambda label: (label + 1) % 3),
    ),
    Fault(
        name="image digest edited, roots made to fit", damage=edit_consistently("image_sha256", flip_bytes), quick=False
    ),
    Fault(name="seed edited, roots made to fit", damage=edit_consistently("stream_key", flip_bytes), kinds=SYNTHETIC),
    Fault(name="plan.json edited: seed", damage=edit_json("plan.json", "seed", lambda seed: seed + 1), kinds=SYNTHETIC),
    Fault(name="plan.json edited, digest made to fit", damage=edit_origin_consistently, kinds=SYNTHETIC),
    Fault(name="ingest.json edited: split", damage=edit_json("ingest.json", "split", lambda _: "train"), kinds=REAL),
    Fault(name="plan.json removed", damage=remove("plan.json"), kinds=SYNTHETIC),
    Fault(name="manifest.parquet removed", damage=remove("manifest.parquet")),
    Fault(name="manifest.parquet cut in half", damage=halve("manifest.parquet")),
    Fault(name="shards.parquet edited: sha256", damage=edit_shard_table("sha256", lambda _: _DIGEST)),
    Fault(name="shards.parquet edited: size", damage=edit_shard_table("size_bytes", lambda size: size + 512)),
    Fault(name="shards.parquet edited: samples", damage=edit_shard_table("num_samples", lambda number: number - 1)),
    Fault(name="shards.parquet edited: name", damage=edit_shard_table("name", lambda _: "../shard-000001.tar")),
    Fault(name="shards.parquet cut in half", damage=halve("shards.parquet")),
    Fault(name="a sidecar of codes too many", damage=extra_sidecar, kinds=("synthetic", "real", "coded")),
    Fault(name="sidecar of codes deleted", damage=remove_sidecar, kinds=CODED),
    Fault(name="sidecar of codes cut in half", damage=halve_sidecar, kinds=CODED),
    Fault(name="one sidecar of codes in place of another", damage=foreign_sidecar, kinds=CODED, quick=False),
    Fault(name="one code changed", damage=edit_codes(change_code), kinds=CODED, quick=False),
    Fault(name="codes of two samples exchanged", damage=edit_codes(swap_codes), kinds=CODED, quick=False),
    Fault(name="codes in another order", damage=edit_codes(reorder_codes), kinds=CODED, quick=False),
    Fault(name="codes of one sample dropped", damage=edit_codes(drop_codes), kinds=CODED),
    Fault(name="another shape of the codes stated", damage=other_levels, kinds=CODED),
    Fault(name="row edited: digest of codes", damage=edit_row("codes_sha256", flip_bytes), kinds=CODED),
    Fault(name="row edited: digest of codes removed", damage=edit_row("codes_sha256", lambda _: None), kinds=CODED),
    Fault(
        name="digest of codes edited, roots made to fit",
        damage=edit_consistently("codes_sha256", flip_bytes),
        kinds=CODED,
        quick=False,
    ),
)


def refused_by(call: Callable[..., object], *arguments: str) -> str:
    """Run a check; returns its message, empty if it found nothing."""
    try:
        call(*arguments)
    except InputError as error:
        return str(error)
    return ""


def read_with_webdataset(tars: list[Path]) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (key, label, image) of what plain webdataset reads from the tars that a user would name."""
    import webdataset

    for sample in webdataset.WebDataset([str(path) for path in tars], shardshuffle=False, empty_check=False):
        image = next((sample[name] for name in ("png", "jpg", "webp") if name in sample), b"")
        yield sample["__key__"], sample.get("cls", b""), image


def webdataset_says(tars: list[Path], truth: dict[str, tuple[bytes, bytes]]) -> str:
    """Read tars with webdataset and tell what a training run would have seen."""
    seen: list[tuple[str, bytes, bytes]] = []
    ended = ""
    try:
        for sample in read_with_webdataset(tars):
            seen.append(sample)
    except Exception as error:  # whatever it raises is a fault noticed
        ended = f"**{type(error).__name__}** after "
    right = {key for key, label, image in seen if truth.get(key) == (label, image)}
    wrong = sum(truth.get(key) != (label, image) for key, label, image in seen)
    parts = {"missing": len(truth) - len(right), "wrong": wrong, "twice": len(seen) - len(right) - wrong}
    told = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
    return f"{ended}{len(seen)} samples{': ' if told else ''}{told}"


def table_rows(pristine: Path, scratch: Path) -> Iterator[str]:
    """Yield a Markdown row per fault; for a real or a coded set only what the first replica does not have."""
    from caskit.shards.dataset import open_set
    from caskit.shards.verify import verify

    kind = parse_canonical((pristine / "replica.json").read_bytes(), name="replica.json")["kind"]
    kind = "coded" if (pristine / "codes").is_dir() else kind
    tars = sorted((pristine / "shards").iterdir())
    truth = {key: (label, image) for key, label, image in read_with_webdataset(tars)}
    chosen = [fault for fault in FAULTS if (kind in fault.kinds if kind == "synthetic" else fault.kinds == (kind,))]
    for number, fault in enumerate(chosen):
        root = scratch / f"{kind}-{number}"
        shutil.copytree(pristine, root)
        refused_by(open_set, str(root))  # leaves a receipt, which the fault must make void
        fault.damage(root)
        quick, full = (refused_by(verify, str(root), level) for level in ("quick", "full"))
        told = " | ".join("noticed" if text else "no" for text in (quick, full, refused_by(open_set, str(root))))
        named = sorted({path.name for path in tars} | {path.name for path in (root / "shards").iterdir()})
        plain = webdataset_says([root / "shards" / name for name in named], truth)
        told_of = {REAL: " (real set)", CODED: " (set with recorded codes)"}
        name = fault.name + told_of.get(fault.kinds, "")
        yield f"| {name} | {told} | {plain} | {full.replace(str(root), 'SET')} |"
        shutil.rmtree(root)


def make_sets(folder: Path) -> list[Path]:
    """Make a small replica and a small real set of noise with the tests' fake generator."""
    tiny = runpy.run_path(str(Path(__file__).resolve().parents[1] / "tests" / "shards" / "conftest.py"))["TinySets"]()
    tiny.frozen(folder / "synthetic", tiny.plan(num=100, samples_per_shard=20))
    tiny.frozen(folder / "real", tiny.ingest(histogram=(34, 33, 33), samples_per_shard=20))
    tiny.frozen(folder / "coded", tiny.plan(num=100, samples_per_shard=20, record_codes=True))
    return [folder / "synthetic", folder / "real", folder / "coded"]


def main() -> None:
    """Print the table, for the sets named on the command line or small ones made on the spot."""
    warnings.simplefilter("ignore")
    import webdataset

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")
        sets = [Path(name) for name in sys.argv[1:]] or make_sets(scratch / "pristine")
        versions = f"Python {platform.python_version()}, webdataset {webdataset.__version__}"
        print(HEAD.format(today=datetime.date.today(), versions=versions))
        for row in itertools.chain.from_iterable(table_rows(pristine, scratch) for pristine in sets):
            print(row, flush=True)


HEAD = """# Faults and who notices them

{today}, {versions}. Command: `python benchmarks/faults.py > benchmarks/faults.md`.

A replica of 100 images in three classes, 5 shards of 20, one fault at a time. *Open* is opening the set for training
after it was opened once before, undamaged. *Plain webdataset* reads the tars by name with its default handler: it has
no rows or records to compare with, so it cannot notice a fault in those, and its count shows what a training run would
silently have seen. `1 missing, 1 wrong` is a sample that comes with another label, key or image than it was written
with.

| fault | verify quick | verify full | open | plain webdataset | what `caskit verify --level full` says |
|---|---|---|---|---|---|"""


if __name__ == "__main__":
    main()
