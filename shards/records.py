"""Reading the records of a frozen set that nobody has checked yet: bounded in size, strict in form, not believed."""

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caskit.manifests.canonical import MAX_JSON_BYTES, parse_canonical, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.origin import ORIGIN_FILES, ORIGINS, Origin
from caskit.manifests.packing import Packing
from caskit.manifests.plan import MAX_SAMPLES_PER_SHARD, check_format_version
from caskit.manifests.replica import Replica
from caskit.manifests.roots import ShardRecord
from caskit.manifests.rows import ROW_SCHEMA, check_schema
from caskit.manifests.sets import SetReference
from caskit.manifests.view import View
from caskit.shards.store import Store, open_store

MAX_ROWS = 2**31
MAX_ROW_BYTES = 2**13  # of one row, uncompressed, on average
# Keys and digests differ from row to row, so rows take room in the file; equal ones would be stated in a few bytes.
MIN_ROW_BYTES = 4
FREE_ROWS = 2**17
SMALL_BYTES = 2**26
MAX_TEXT_BYTES = 4096  # of one value; Parquet can make a long one cost a few bits per row
SHARD_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Described:
    """What a set is due to be.

    Attributes:
        origin: plan.json, or the record that stands for it; its digest is the one in replica.json.
        packing: packing.json of a repacked set; None where shards have the size that the record of origin says.
    """

    origin: Origin
    packing: Packing | None = None

    @property
    def samples_per_shard(self) -> int:
        """Samples in every shard but the last."""
        return self.origin.samples_per_shard if self.packing is None else self.packing.samples_per_shard

    @property
    def num_shards(self) -> int:
        """How many shards the set is due to have."""
        return -(-self.origin.num // self.samples_per_shard)

    @property
    def classes(self) -> ClassList:
        """The class list."""
        return self.origin.classes

    @functools.cached_property
    def histogram(self) -> np.ndarray:
        """Samples per class, [num_classes] int64."""
        return np.asarray(self.origin.histogram, dtype=np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part(Described):
    """Some consecutive rows of a set.

    Attributes:
        manifest: columns checked, rows not.
        first: the place of its first row in the manifest of the set.
    """

    manifest: pa.Table
    first: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heads(Described):
    """Everything about a set but its tars and its rows.

    Attributes:
        store: where it is.
        replica: replica.json.
        shards: shards.parquet, rows not checked.
    """

    store: Store
    replica: Replica
    shards: tuple[ShardRecord, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records(Heads, Part):
    """Everything about a set but its tars; the manifest holds all of its rows."""


def read_records(reference: str | SetReference) -> Records:
    """Read the records of the frozen set at a reference.

    Raises:
        InputError: nothing frozen there, or a set other than the reference asks for.
        IntegrityError: a record is missing, too large, or not of its form.
    """
    reference = SetReference.parse(reference) if isinstance(reference, str) else reference
    store = open_store(reference.location)
    replica = read_replica(store)
    reference.check(replica.replica_id)
    origin = read_origin(store, replica)
    return Records(
        store=store,
        replica=replica,
        origin=origin,
        manifest=read_manifest(store),
        shards=read_shard_table(store),
        packing=read_packing(store, origin),
    )


def read_heads(store: Store, replica: Replica) -> Heads:
    """Read the records of a frozen set without its rows. Raises IntegrityError as `read_records` does."""
    origin = read_origin(store, replica)
    shards, packing = read_shard_table(store), read_packing(store, origin)
    return Heads(store=store, replica=replica, origin=origin, shards=shards, packing=packing)


def read_replica(store: Store) -> Replica:
    """Read replica.json; its bytes are its identity."""
    name = f"{store.location}/replica.json"
    try:
        data = _read_bounded(store, "replica.json")
    except FileNotFoundError:
        ours = any(store.exists(origin) for origin in ORIGIN_FILES.values())
        hint = "it is not frozen yet, run the command that writes it again" if ours else "no caskit set is there"
        raise InputError(f"{name}: no such file; {hint}") from None
    replica: Replica = _parsed(data, name, Replica)
    return replica


def read_origin(store: Store, replica: Replica) -> Origin:
    """Read plan.json or the record that stands for it, whose digest replica.json states."""
    if replica.kind not in ORIGIN_FILES:
        raise InputError(f"{store.location}: kind is {replica.kind}, this caskit reads {', '.join(ORIGIN_FILES)}")
    name = ORIGIN_FILES[replica.kind]
    try:
        data = _read_bounded(store, name)
    except FileNotFoundError:
        raise IntegrityError(
            f"{store.location}: {name} is missing, replica.json says the set is {replica.kind}"
        ) from None
    if sha256_hex(data) != replica.origin_sha256:
        raise IntegrityError(
            f"{store.location}: {name} has SHA-256 {sha256_hex(data)}, replica.json says {replica.origin_sha256}: "
            "one of them was edited"
        )
    origin: Origin = _parsed(data, f"{store.location}/{name}", ORIGINS[replica.kind])
    return origin


def read_packing(store: Store, origin: Origin) -> Packing | None:
    """Read packing.json, None where there is none. Raises IntegrityError if it is not of its form or states nothing."""
    where = f"{store.location}/{Packing.FILE}"
    try:
        data = _read_bounded(store, Packing.FILE)
    except FileNotFoundError:
        return None
    packing: Packing = _parsed(data, where, Packing)
    if packing.samples_per_shard == origin.samples_per_shard:
        raise IntegrityError(f"{where}: samples_per_shard is the one that {origin.FILE} says, so nothing was repacked")
    return packing


def read_provenance(store: Store) -> dict[str, Any]:
    """Read provenance.json, which nothing but a signature covers: text and numbers by name, none of them checked.

    Raises:
        IntegrityError: it is missing, too large or not of its form.
    """
    where = f"{store.location}/provenance.json"
    try:
        value = parse_canonical(_read_bounded(store, "provenance.json"), name=where)
    except FileNotFoundError:
        raise IntegrityError(f"{where}: missing from a frozen set") from None
    except IntegrityError:
        raise
    except InputError as error:
        raise IntegrityError(str(error)) from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{where}: must be a JSON object")
    return value


def read_manifest(store: Store) -> pa.Table:
    """Read manifest.parquet as it is."""
    table = read_parquet(store, "manifest.parquet", ROW_SCHEMA)
    check_schema(table, name=f"{store.location}/manifest.parquet")
    return table


def read_shard_table(store: Store) -> tuple[ShardRecord, ...]:
    """Read shards.parquet as it is."""
    table = read_parquet(store, "shards.parquet", SHARD_SCHEMA)
    return tuple(ShardRecord(**row) for row in table.to_pylist())


def iterate_manifest(store: Store, *, max_rows: int) -> Iterator[pa.Table]:
    """Yield manifest.parquet as it is, some rows at a time and no more of them in memory.

    Args:
        store: the set.
        max_rows: of a piece.

    Raises:
        IntegrityError: as by `read_manifest`, perhaps after some pieces.
    """
    where = f"{store.location}/manifest.parquet"
    with _opened_parquet(store, "manifest.parquet", ROW_SCHEMA, 1) as (parquet, _):
        for groups in _windows(parquet.metadata, max_rows):
            # A call of its own for every window: within one, Arrow's dictionaries of texts grow from group to group.
            for batch in parquet.iter_batches(max_rows, row_groups=groups, use_threads=False):
                table = pa.Table.from_batches([batch])
                table.validate(full=True)
                table = _of_schema(table, ROW_SCHEMA, where)
                check_schema(table, name=where)
                yield table


def _windows(metadata: Any, num_rows: int) -> Iterator[list[int]]:
    """Yield consecutive row groups, as few as have so many rows."""
    window, held = list[int](), 0
    for group in range(metadata.num_row_groups):
        window.append(group)
        held += metadata.row_group(group).num_rows
        if held >= num_rows:
            yield window
            window, held = [], 0
    if window:
        yield window


def read_parquet(store: Store, name: str, schema: pa.Schema, *, min_rows: int = 1) -> pa.Table:
    """Read a Parquet file of exactly these columns, in bounded memory.

    The footer is believed only to refuse; texts are read as dictionaries, so a long one that is repeated is noticed
    before it is written out row by row.
    """
    with _opened_parquet(store, name, schema, min_rows) as (parquet, small):
        table = parquet.read(use_threads=not small)
        table.validate(full=True)  # texts are UTF-8, offsets stay inside their buffers
    return _of_schema(table, schema, f"{store.location}/{name}")


@contextmanager
def _opened_parquet(store: Store, name: str, schema: pa.Schema, min_rows: int) -> Iterator[tuple[Any, bool]]:
    """Open a Parquet file whose footer is as it may be; also say whether it is small, and then in memory."""
    where = f"{store.location}/{name}"
    try:
        with store.open(name) as file:
            # From bytes and in one thread Arrow starts no thread of its own: its pools abort some processes that end
            # soon after ("terminate called without an active exception", docs/LOG.md). Large files keep the pools.
            small = store.size(name) <= SMALL_BYTES
            parquet = pq.ParquetFile(
                pa.BufferReader(file.read()) if small else file,
                read_dictionary=[field.name for field in schema if field.type == pa.string()],
                thrift_string_size_limit=2**24,
                thrift_container_size_limit=2**22,
                arrow_extensions_enabled=False,
            )
            _check_footer(parquet, schema, min_rows, store.size(name), where)
            yield parquet, small
    except FileNotFoundError:
        raise IntegrityError(f"{where}: missing from a frozen set") from None
    except InputError:
        raise
    except (pa.ArrowException, OSError, RuntimeError, ValueError, KeyError) as error:
        raise unreadable(where, error) from error


def unreadable(where: str, error: Exception) -> IntegrityError:
    """Return what to say of a Parquet file that Arrow does not read.

    An encoding is told from the words of Arrow's error alone, which is an OSError like any other: asking a damaged
    footer for its encodings ends the process (docs/LOG.md).
    """
    told = " ".join(str(error).split())
    if told.startswith("Not yet implemented"):
        return IntegrityError(
            f"{where}: damaged, or in a Parquet encoding that is not read here ({told}); texts must be stored as PLAIN "
            "or by a dictionary"
        )
    return IntegrityError(f"{where}: not a whole Parquet file ({told})")


def _of_schema(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Return what was read with its texts written out; the dictionaries are looked at before."""
    for text in [field.name for field in schema if field.type == pa.string()]:
        kind = table.schema.field(text).type
        if not pa.types.is_dictionary(kind):
            raise IntegrityError(f"{where}: column {text} is of type {kind}, not text")
        for chunk in table.column(text).chunks:
            if (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) > MAX_TEXT_BYTES:
                raise IntegrityError(f"{where}: column {text} holds a text of more than {MAX_TEXT_BYTES} bytes")
    try:
        return table.cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise IntegrityError(f"{where}: {error}") from error


def _check_footer(parquet: Any, schema: pa.Schema, min_rows: int, size: int, where: str) -> None:
    metadata = parquet.metadata
    if metadata.num_columns != len(schema) or parquet.schema_arrow.names != schema.names:
        raise IntegrityError(
            f"{where}: has columns {', '.join(parquet.schema_arrow.names[:32])}, not {', '.join(schema.names)}"
        )
    if not min_rows <= metadata.num_rows <= MAX_ROWS:
        raise IntegrityError(f"{where}: has {metadata.num_rows} rows, allowed: {min_rows}..{MAX_ROWS}")
    if metadata.num_rows > FREE_ROWS + size // MIN_ROW_BYTES:
        raise IntegrityError(
            f"{where}: states {metadata.num_rows} rows in {size} bytes, no rows that differ are so small"
        )
    check_row_groups(metadata, where)
    num_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if num_bytes > metadata.num_rows * MAX_ROW_BYTES + 2**20:
        raise IntegrityError(f"{where}: {num_bytes} bytes for {metadata.num_rows} rows, at most {MAX_ROW_BYTES} each")


def check_row_groups(metadata: Any, where: str) -> None:
    """Check that a Parquet file's row groups have its rows: Arrow takes memory for what they state before it reads.

    Raises:
        IntegrityError: they state others.
    """
    stated = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(stated, default=0) < 0 or sum(stated) != metadata.num_rows:
        raise IntegrityError(f"{where}: has {metadata.num_rows} rows, its row groups state {sum(stated)}")


def _read_bounded(store: Store, name: str) -> bytes:
    size = store.size(name)
    if size > MAX_JSON_BYTES:
        raise IntegrityError(f"{store.location}/{name}: {size} bytes, at most {MAX_JSON_BYTES} are read")
    return store.read(name)


def _parsed(data: bytes, name: str, record: Any) -> Any:
    """Parse a record; its faults are a damaged set's, except for a format that only a newer caskit knows."""
    try:
        value = parse_canonical(data, name=name)
    except InputError as error:
        raise IntegrityError(str(error)) from error
    if isinstance(value, dict) and "format_version" in value:
        check_format_version(value["format_version"], name=name)
    try:
        parsed = record.from_json(value, name=name)
        if isinstance(parsed, View):
            _check_origin(parsed.origin, f"{name}: origin")
        if isinstance(parsed, Origin):
            _check_origin(parsed, name)
    except (InputError, TypeError, AttributeError, OverflowError) as error:
        raise IntegrityError(str(error) if name in str(error) else f"{name}: {error}") from error
    return parsed


def _check_origin(origin: Origin, name: str) -> None:
    """Check what arithmetic on a foreign record relies on."""
    whole = all(type(count) is int and 0 <= count <= MAX_ROWS for count in origin.histogram)
    if not whole or not 0 < origin.num <= MAX_ROWS:
        raise IntegrityError(f"{name}: histogram must hold counts of 0 or more, 1..{MAX_ROWS} in sum")
    if type(origin.samples_per_shard) is not int or not 0 < origin.samples_per_shard <= MAX_SAMPLES_PER_SHARD:
        raise IntegrityError(
            f"{name}: samples_per_shard is {origin.samples_per_shard!r}, allowed: 1..{MAX_SAMPLES_PER_SHARD}"
        )
