"""What benchmarks/fuzz.py feeds with broken bytes: the readers of tars, of manifest.parquet and of the JSON records.

A reader passes if it accepts or raises InputError on one line, and if what it accepts is what the bytes say: a tar is
the one that its samples give and the one that the reader written from docs/format.md sees, rows with the right root
are the right rows, a record has its own bytes as its canonical form.
"""

import copy
import io
import itertools
import json
import random
import runpy
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.packing import Packing
from caskit.manifests.replica import Replica
from caskit.manifests.roots import rows_root
from caskit.shards.card import write_card
from caskit.shards.records import Records, read_manifest, read_origin, read_packing, read_records, read_replica
from caskit.shards.row_checks import check_rows
from caskit.shards.store import LocalStore
from caskit.shards.tar import BLOCK_BYTES, canonical_header, padded, read_samples, tar_size
from caskit.shards.verify import check_roots

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "gen" / "golden"
STANDARD = runpy.run_path(str(ROOT / "tests" / "shards" / "standard_reader.py"))
INTEGERS = (0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**53 - 1, -(2**53) + 1, 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", "../../etc/passwd", "a/b", "\x00", "\x1b[2J", "ä", "\u202e", "C00", "c00_000000", "x" * 5000, "ffff" * 16)
VALUES = (*INTEGERS, *TEXTS, None, True, False, 1.5, -0.0, 1e300, [], {}, [[[]]], {"a": {}}, [0, 1], "balanced")


def refused(call: Callable[[], Any]) -> Any:
    """Return what a reader gives, or None if it refused on one line of printable text."""
    try:
        return call()
    except InputError as error:
        told = str(error)
    assert told.strip(), "an error without a word"
    return None


class Tar:
    """Reader of tars. `run` takes the bytes of one."""

    max_bytes = 12288

    def __init__(self, folder: Path) -> None:
        del folder

    def seeds(self) -> Iterator[bytes]:
        """Yield whole tars."""
        yield self.tar([])
        yield self.tar([("c00_000000.cls", b"0"), ("c00_000000.png", b"\x89PNG")])
        yield self.tar(
            [(f"c0{n}_00000{n}.{e}", p) for n in range(3) for e, p in (("cls", b"%d" % n), ("jpg", b"x" * 7))]
        )

    @staticmethod
    def tar(members: list[tuple[str, bytes]]) -> bytes:
        """Return the one tar of some members."""
        blocks = [
            canonical_header(name.encode(), len(data)) + data.ljust(padded(len(data)), b"\0") for name, data in members
        ]
        joined = b"".join(blocks)
        return joined.ljust(tar_size(len(joined)), b"\0")

    def run(self, data: bytes) -> bool:
        """Read a tar; True if it was accepted."""
        samples = refused(lambda: list(read_samples(io.BytesIO(data), name="a.tar")))
        for suffix in ("png", "jpg", "webp"):
            try:
                seen = list(STANDARD["samples"](data, (suffix,)))
            except (STANDARD["Refused"], ValueError, LookupError):
                continue
            assert samples is not None, "the reader of docs/format.md accepts what ours refuses"
            assert seen == [(s.key, s.label, s.payload_offset, s.image) for s in samples if s.extension == suffix]
        if samples is None:
            return False
        parts = [((f"{s.key}.cls", b"%d" % s.label), (f"{s.key}.{s.extension}", s.image)) for s in samples]
        assert self.tar(list(itertools.chain(*parts))) == data, "two tars are read as the same samples"
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert tar.getnames() == [name for part in parts for name, _ in part]
        return True

    def mend(self, data: bytes, rng: random.Random) -> bytes:
        """Give every header the checksum that its bytes have, so that what else is wrong with it is looked at."""
        tar, at = bytearray(data), 0
        while at + BLOCK_BYTES <= len(tar) and any(tar[at : at + BLOCK_BYTES]):
            total = sum(tar[at : at + 148]) + 8 * ord(" ") + sum(tar[at + 156 : at + BLOCK_BYTES])
            tar[at + 148 : at + 156] = b"%06o\0 " % total
            size = bytes(tar[at + 124 : at + 135])
            at += BLOCK_BYTES + (padded(int(size, 8)) if size.strip(b"01234567") == b"" and size else 0)
        if rng.random() < 0.5:
            del tar[tar_size(at) :]
            tar += bytes(max(0, min(tar_size(at), self.max_bytes) - len(tar)))
        return bytes(tar)


class Manifest:
    """Reader of manifest.parquet, and the check of its rows against the records of the golden replica."""

    max_bytes = 16384

    def __init__(self, folder: Path) -> None:
        self.records = read_records(str(GOLDEN))
        self.store = LocalStore(folder)
        self.path = folder / "manifest.parquet"
        folder.mkdir(parents=True, exist_ok=True)

    def seeds(self) -> Iterator[bytes]:
        """Yield the golden manifest as Parquet is written in several ways."""
        yield (GOLDEN / "manifest.parquet").read_bytes()
        for options in ({"compression": "none", "use_dictionary": False}, {"version": "1.0", "row_group_size": 3}):
            yield self.bytes_of(self.records.manifest.slice(0, 4), **options)

    @staticmethod
    def bytes_of(table: pa.Table, **options: Any) -> bytes:
        """Return a table as a Parquet file."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **options)
        return buffer.getvalue()

    def run(self, data: bytes) -> bool:
        """Read a manifest and look at its rows; True if nothing is wrong with them."""
        self.path.write_bytes(data)
        table = refused(lambda: read_manifest(self.store))
        if table is None:
            return False
        known = self.records
        records = Records(
            store=known.store, replica=known.replica, origin=known.origin, manifest=table, shards=known.shards
        )
        faults = refused(lambda: list(itertools.islice(check_rows(records), 20)))
        if faults is None or faults:
            assert faults is None or all(str(fault) for fault in faults)
            return False
        if refused(lambda: check_roots(records)):
            return False
        assert rows_root(table) == known.replica.rows_root and table.equals(known.manifest)
        return True

    def mend(self, data: bytes, rng: random.Random) -> bytes:
        """Return another table altogether: a value, a type, a column or an option that is not due."""
        table = self.records.manifest.slice(0, rng.randrange(1, 8))
        for _ in range(rng.randrange(3)):
            table = rng.choice((self._value, self._type, self._columns, self._metadata))(table, rng)
        options: dict[str, Any] = {
            "compression": rng.choice(("none", "zstd", "gzip", "snappy", "lz4", "brotli")),
            "use_dictionary": rng.random() < 0.5,
            "write_statistics": rng.random() < 0.5,
            "row_group_size": rng.choice((1, 2, 100)),
            "version": rng.choice(("1.0", "2.4", "2.6")),
            "data_page_version": rng.choice(("1.0", "2.0")),
            "store_schema": rng.random() < 0.5,
        }
        try:
            return self.bytes_of(table, **options)
        except (pa.ArrowException, ValueError, OverflowError):
            return data

    @staticmethod
    def _value(table: pa.Table, rng: random.Random) -> pa.Table:
        place = rng.randrange(table.num_columns)
        kind = table.schema.field(place).type
        values = table.column(place).to_pylist()
        new: Any = rng.choice(TEXTS)
        if pa.types.is_integer(kind):
            new = rng.choice(INTEGERS)
        elif pa.types.is_floating(kind):
            new = rng.choice((0.0, float("nan"), float("inf"), -1.0))
        elif pa.types.is_fixed_size_binary(kind):
            new = rng.randbytes(kind.byte_width)
        values[rng.randrange(len(values))] = rng.choice((new, new, None))
        try:
            made = pa.array(values, type=kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return table
        return table.set_column(place, pa.field(table.schema.names[place], kind), made)

    @staticmethod
    def _type(table: pa.Table, rng: random.Random) -> pa.Table:
        kinds = (
            *(pa.int8(), pa.int32(), pa.uint64(), pa.string(), pa.large_string(), pa.binary(), pa.float64()),
            *(pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.dictionary(pa.int32(), pa.string())),
            *(pa.null(), pa.timestamp("ns"), pa.decimal128(38, 3), pa.bool_(), pa.binary(7)),
        )
        place, kind = rng.randrange(table.num_columns), rng.choice(kinds)
        try:
            made = table.column(place).cast(kind)
        except (pa.ArrowException, ValueError):
            made = pa.nulls(table.num_rows, kind)
        return table.set_column(place, table.schema.names[place], made)

    @staticmethod
    def _columns(table: pa.Table, rng: random.Random) -> pa.Table:
        place = rng.randrange(table.num_columns)
        if rng.random() < 0.5:
            return table.remove_column(place) if table.num_columns > 1 else table
        name = rng.choice((*TEXTS, *table.schema.names, "a.b"))
        return table.append_column(name, table.column(place))

    @staticmethod
    def _metadata(table: pa.Table, rng: random.Random) -> pa.Table:
        return table.replace_schema_metadata({rng.choice(TEXTS): rng.choice(TEXTS), "ARROW:schema": rng.choice(TEXTS)})


class Record:
    """Readers of replica.json, packing.json and every record of an origin; `run` gives the bytes to each."""

    max_bytes = 4096

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.root = folder
        self.replica = read_replica(LocalStore(GOLDEN))
        self.plan = read_origin(LocalStore(GOLDEN), self.replica)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("manifest.parquet", "shards.parquet", "provenance.json"):
            shutil.copy(GOLDEN / name, folder / name)

    def seeds(self) -> Iterator[bytes]:
        """Yield one record of each kind."""
        yield (GOLDEN / "replica.json").read_bytes()
        plan = json.loads((GOLDEN / "plan.json").read_bytes())
        yield canonical_json(plan)
        yield canonical_json({**plan, "rejection": {"candidates": 2, "classifier_id": "ab" * 32}})
        yield canonical_json({**plan, "rejection": {"candidates": 2, "classifier_id": "ab" * 32, "threshold": 0.5}})
        shared = {name: plan[name] for name in ("format_version", "classes", "histogram", "samples_per_shard")}
        size = {name: plan[name] for name in ("height", "width", "channels")}
        codec = {"name": "png", "channels": 1, "resize": {"side": 8, "crop": "centre", "filter": "box"}}
        yield canonical_json({**shared, "dataset": "a", "split": "test", "files": {"a": "ab" * 32}, "codec": codec})
        parent = {"replica_id": "ab" * 32, "content_root": "cd" * 32, "dataset": "a", "split": "train"}
        made = ("family", "preset", "checkpoint_id", "sampler_version", "codec", "microbatch_size", "pixel_digests")
        made_of = {name: plan[name] for name in (*made, "numerics")}
        yield canonical_json({**shared, **size, **made_of, "parent": parent})
        source = {"form": "npz", "name": None, "files": {}, "settings": {"label": "cls"}, "source_sha256": "ab" * 32}
        yield canonical_json({**shared, **size, **source, "codec": {"name": "original"}})
        whole = json.loads((GOLDEN / "replica.json").read_bytes())
        part = {"parent": whole, "origin": plan, "select": "classes:0", "histogram": [9, 0, 0, 0, 0]}
        yield canonical_json({"format_version": 1, **part, "proof": ["ab" * 32]})
        yield canonical_json({"format_version": 1, "parent": "ab" * 32, "samples_per_shard": 5})

    def run(self, data: bytes) -> bool:
        """Read the bytes as every record; True if they are one."""
        (self.root / "replica.json").write_bytes(data)
        replica = refused(lambda: read_replica(self.store))
        assert replica is None or replica.replica_id == sha256_hex(data), "another id than sha256sum prints"
        found = replica is not None
        for kind, name in ORIGIN_FILES.items():
            (self.root / name).write_bytes(data)
            stated = Replica(**{**self._replica_fields(), "kind": kind, "origin_sha256": sha256_hex(data)})
            origin = refused(lambda stated=stated: read_origin(self.store, stated))  # type: ignore[misc]
            if origin is not None:
                found = True
                assert origin.to_bytes() == data and origin.origin_id == sha256_hex(data)
                (self.root / "replica.json").write_bytes(stated.to_bytes())
                refused(lambda: write_card(self.store))  # everything of a record is read for the card
            (self.root / name).unlink()
        (self.root / Packing.FILE).write_bytes(data)
        packing = refused(lambda: read_packing(self.store, self.plan))
        if packing is not None:
            found = True
            assert packing.to_bytes() == data and packing.samples_per_shard != self.plan.samples_per_shard
        (self.root / Packing.FILE).unlink()
        return found

    def _replica_fields(self) -> dict[str, Any]:
        return {name: getattr(self.replica, name) for name in self.replica.__dataclass_fields__}

    def mend(self, data: bytes, rng: random.Random) -> bytes:
        """Change values, fields and entries of the JSON, and store it in canonical form."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = json.loads(rng.choice(list(self.seeds())))
        for _ in range(rng.randrange(4)):
            value = _edited(value, rng)
        try:
            return canonical_json(value)
        except (ValueError, RecursionError, TypeError):
            return json.dumps(value).encode()


def _edited(value: Any, rng: random.Random) -> Any:
    """Change one place of a JSON value, anywhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if rng.random() < 0.1:
            return {**value, rng.choice(TEXTS): copy.deepcopy(value[key])}
        return {**value, key: _edited(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return [*value, value[place]] if rng.random() < 0.5 else [*value[:place], *value[place + 1 :]]
        return [*value[:place], _edited(value[place], rng), *value[place + 1 :]]
    return rng.choice(VALUES)


READERS: dict[str, Any] = {"tar": Tar, "manifest": Manifest, "record": Record}
