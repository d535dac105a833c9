"""Sidecars of codes, `codes/shard-000123.parquet`: one row per sample of the shard, one column per level.

A file of another lab is read in bounded memory, its footer is believed only to refuse. What it says is bound by the
rows' `codes_sha256`, whatever its bytes are.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.codes import KEY_COLUMN, CodeLevel, check_levels, codes_digest
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.plan import FORMAT_VERSION, check_format_version
from caskit.manifests.rows import MAX_KEY_BYTES
from caskit.shards.naming import naming
from caskit.shards.records import SMALL_BYTES, check_row_groups, unreadable
from caskit.shards.store import Store

CODES = "codes"
METADATA_KEY = b"caskit.codes"
BATCH_BYTES = 2**22  # of codes held at once
_ROW_OVERHEAD_BYTES = 2**10  # of one row beside its maps: the key, and what Parquet adds
_CODE = np.dtype("<u2")


def codes_path(shard: int) -> str:
    """Return a sidecar's name in the store."""
    return f"{CODES}/shard-{shard:06d}.parquet"


def array_of(level: CodeLevel, codes: bytes) -> np.ndarray:
    """Return a stored map as [height, width] uint16."""
    stored: np.ndarray = np.frombuffer(codes, dtype=_CODE).reshape(level.height, level.width).astype(np.uint16)
    return stored


@dataclasses.dataclass(frozen=True, slots=True)
class CodedSample:
    """One row of a sidecar: a sample's key and its stored maps, one per level."""

    key: str
    maps: tuple[bytes, ...]


class CodesWriter:
    """Writes the codes of a shard's samples, in their order, to a local scratch file."""

    def __init__(self, path: Path, levels: Sequence[CodeLevel]) -> None:
        check_levels(levels)
        self._levels = tuple(levels)
        path.unlink(missing_ok=True)  # an older file of that name may be linked into a set already
        described = [dataclasses.asdict(level) for level in levels]
        metadata = {METADATA_KEY: canonical_json({"format_version": FORMAT_VERSION, "levels": described})}
        self._schema = _schema(self._levels).with_metadata(metadata)
        self._samples: list[CodedSample] = []
        self._group_rows = _batch_rows(self._levels)
        self._path = path
        self._file = path.open("xb")
        self._parquet = pq.ParquetWriter(
            self._file, self._schema, version="2.6", compression="zstd", compression_level=3, use_dictionary=False
        )

    def add(self, key: str, codes: Mapping[str, np.ndarray]) -> bytes:
        """Append one sample's codes, a map [height, width] uint16 per level; returns their digest."""
        maps = tuple(np.ascontiguousarray(codes[level.name], dtype=_CODE).tobytes() for level in self._levels)
        digest = codes_digest(self._levels, maps)
        self._samples.append(CodedSample(key, maps))
        if len(self._samples) >= self._group_rows:
            self._flush()
        return digest

    def _flush(self) -> None:
        columns: list[list[Any]] = [[sample.key for sample in self._samples]]
        columns += [[sample.maps[place] for sample in self._samples] for place in range(len(self._levels))]
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns, self._schema, strict=True)]
        with naming(self._path):
            self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._samples = []

    def close(self) -> None:
        """Write what is still held and the footer, and close the file."""
        if self._samples:
            self._flush()
        with naming(self._path):
            self._parquet.close()
            self._file.close()

    def abandon(self) -> None:
        """Close the file without a footer, so that nobody takes it for a whole one."""
        self._parquet.is_open = False  # else its end of life writes the footer, or fails to
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> "CodesWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class CodesFile:
    """An open sidecar that nobody has checked yet; iterating yields its rows.

    Args:
        file: an open file.
        size_bytes: its size.
        name: what it is called in errors.
        max_rows: more rows than these are refused before any is read.

    Attributes:
        levels: as its metadata states them; its columns are of these sizes.
        num_rows: as its footer states.

    Raises:
        IntegrityError: it is no sidecar, or larger than its rows explain. Iterating raises the same.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, *, name: str, max_rows: int) -> None:
        self._name = name
        try:
            # From bytes and in one thread Arrow starts no thread of its own, see records.read_parquet.
            source = pa.BufferReader(file.read()) if size_bytes <= SMALL_BYTES else file
            self._parquet: Any = pq.ParquetFile(
                source,
                read_dictionary=[KEY_COLUMN],
                thrift_string_size_limit=2**24,
                thrift_container_size_limit=2**22,
                arrow_extensions_enabled=False,
            )
            metadata = self._parquet.metadata
            self.levels = self._read_levels(metadata.metadata or {})
        except InputError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise unreadable(self._name, error) from error
        self.num_rows: int = metadata.num_rows
        row_bytes = sum(level.num_bytes for level in self.levels) + _ROW_OVERHEAD_BYTES
        stated = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if not 0 <= self.num_rows <= max_rows:
            raise IntegrityError(f"{name}: has {self.num_rows} rows, at most {max_rows} are due")
        check_row_groups(metadata, name)
        if max(stated, size_bytes) > self.num_rows * row_bytes + 2**20:
            raise IntegrityError(f"{name}: {max(stated, size_bytes)} bytes for {self.num_rows} rows of {row_bytes}")

    def _read_levels(self, metadata: Mapping[bytes, bytes]) -> tuple[CodeLevel, ...]:
        """Return the levels that the metadata states. Raises IntegrityError unless the columns are theirs."""
        try:
            value = parse_canonical(metadata.get(METADATA_KEY, b""), name=self._name)
            if not isinstance(value, dict) or set(value) != {"format_version", "levels"}:
                raise InputError("metadata must hold format_version and levels")
            check_format_version(value["format_version"], name=self._name)
            levels = tuple(CodeLevel(**level) for level in value["levels"])
            check_levels(levels)
        except (InputError, TypeError) as error:
            raise IntegrityError(f"{self._name}: no sidecar of codes ({error})") from error
        fields = [(field.name, field.type) for field in self._parquet.schema_arrow]
        expected = [(field.name, field.type) for field in _schema(levels)]
        expected[0] = (KEY_COLUMN, fields[0][1] if fields and pa.types.is_dictionary(fields[0][1]) else pa.string())
        if fields != expected:
            shown = ", ".join(name for name, _ in fields[:32])
            raise IntegrityError(f"{self._name}: has columns {shown}, which are not those of its levels")
        return levels

    def __iter__(self) -> Iterator[CodedSample]:
        """Yield the rows in their order, a bounded number of them held at once."""
        try:
            for batch in self._parquet.iter_batches(batch_size=_batch_rows(self.levels), use_threads=False):
                batch.validate(full=True)
                if any(column.null_count for column in batch.columns):
                    raise IntegrityError(f"{self._name}: holds nulls")
                keys = batch.column(0)
                texts = keys.dictionary if pa.types.is_dictionary(keys.type) else keys
                if (pc.max(pc.binary_length(texts)).as_py() or 0) > MAX_KEY_BYTES:
                    raise IntegrityError(f"{self._name}: holds a key of more than {MAX_KEY_BYTES} bytes")
                columns = [column.to_pylist() for column in batch.columns]
                for key, *maps in zip(*columns, strict=True):
                    yield CodedSample(key, tuple(maps))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise unreadable(self._name, error) from error


def _schema(levels: Sequence[CodeLevel]) -> pa.Schema:
    columns = [pa.field(level.name, pa.binary(level.num_bytes), nullable=False) for level in levels]
    return pa.schema([pa.field(KEY_COLUMN, pa.string(), nullable=False), *columns])


def _batch_rows(levels: Sequence[CodeLevel]) -> int:
    return max(1, BATCH_BYTES // sum(level.num_bytes for level in levels))


@contextlib.contextmanager
def open_codes(store: Store, shard: int, *, max_rows: int) -> Iterator[CodesFile]:
    """Open a shard's sidecar. Raises FileNotFoundError if there is none; else what CodesFile raises."""
    name = codes_path(shard)
    with store.open(name) as file:
        yield CodesFile(file, store.size(name), name=f"{store.location}/{name}", max_rows=max_rows)


def check_codes(codes: CodesFile, rows: pa.Table, *, name: str) -> None:
    """Compare a sidecar with its shard's rows in sample_id order. Raises IntegrityError naming the first wrong key."""
    expected = zip(rows.column("key").to_pylist(), rows.column("codes_sha256").to_pylist(), strict=True)
    num_read = 0
    for sample in codes:
        if (sample.key, codes_digest(codes.levels, sample.maps)) != next(expected, None):
            raise IntegrityError(f"{name}: key {sample.key}: the codes are not those of row {num_read}")
        num_read += 1
    if num_read != rows.num_rows:
        raise IntegrityError(f"{name}: codes of {num_read} samples, {rows.num_rows} rows")
