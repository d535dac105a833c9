"""Sidecars of codes: what is written is read back, whoever wrote it, and nothing is believed."""

import errno
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caskit.manifests.canonical import canonical_json
from caskit.manifests.codes import CodeLevel, codes_digest
from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards import codes as module
from caskit.shards.codes import METADATA_KEY, CodedSample, CodesFile, CodesWriter, array_of

LEVELS = (CodeLevel(name="top", height=1, width=2), CodeLevel(name="bottom", height=2, width=3))


def maps_of(number: int) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(number).integers(0, 65536, 8, dtype=np.uint16)
    return {"bottom": noise[2:].reshape(2, 3), "top": noise[:2].reshape(1, 2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with CodesWriter(tmp_path / "codes.parquet", LEVELS) as writer:
        for number in range(10):
            writer.add(f"c00_{number:06d}", maps_of(number))
    return tmp_path / "codes.parquet"


def read(path: Path, max_rows: int = 10) -> list[CodedSample]:
    with path.open("rb") as file:
        return list(CodesFile(file, path.stat().st_size, name="codes.parquet", max_rows=max_rows))


def rewritten(path: Path, table: pa.Table, **options: Any) -> None:
    pq.write_table(table, path, **options)


def test_codes_come_back_as_they_were_and_as_their_digest_says(tmp_path: Path) -> None:
    with CodesWriter(tmp_path / "codes.parquet", LEVELS) as writer:
        digests = [writer.add(f"c00_{number:06d}", maps_of(number)) for number in range(10)]
    samples = read(tmp_path / "codes.parquet")
    assert [sample.key for sample in samples] == [f"c00_{number:06d}" for number in range(10)]
    for number, (sample, digest) in enumerate(zip(samples, digests, strict=True)):
        assert codes_digest(LEVELS, sample.maps) == digest
        for level, stored in zip(LEVELS, sample.maps, strict=True):
            assert np.array_equal(array_of(level, stored), maps_of(number)[level.name])
            assert stored == maps_of(number)[level.name].astype("<u2").tobytes()


@pytest.mark.parametrize("batch_bytes", [1, 40, 2**22])
def test_groups_and_batches_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int) -> None:
    whole = read(path)
    monkeypatch.setattr(module, "BATCH_BYTES", batch_bytes)
    assert read(path) == whole
    with CodesWriter(path, LEVELS) as writer:
        for number in range(10):
            writer.add(f"c00_{number:06d}", maps_of(number))
    assert read(path) == whole
    assert pq.read_metadata(path).num_row_groups == {1: 10, 40: 5, 2**22: 1}[batch_bytes]


def test_another_programs_parquet_is_the_same_sidecar(path: Path) -> None:
    whole = read(path)
    rewritten(path, pq.read_table(path), compression="gzip", row_group_size=3)
    assert read(path) == whole


def metadata(levels: Any, version: Any = 1) -> dict[bytes, bytes]:
    return {METADATA_KEY: canonical_json({"format_version": version, "levels": levels})}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({}, "no sidecar of codes"),
        ({METADATA_KEY: b"{ }"}, "no sidecar of codes .*canonical form"),
        (metadata([]), "levels of codes are none"),
        (metadata([{"name": "top", "height": 1}]), "no sidecar of codes .*width"),
        (metadata([{"name": "../top", "height": 1, "width": 2}]), "level of codes is named '../top'"),
        (metadata([{"name": "top", "height": 1, "width": 2}]), "has columns key, top, bottom, which are not"),
        (metadata([{"name": "top", "height": 10**9, "width": 10**9}]), "height is 1000000000, allowed: 1..4096"),
        (metadata("top"), "no sidecar of codes"),
        (metadata([], version=2), "a newer set needs a newer caskit"),
    ],
)
def test_metadata_that_does_not_fit(path: Path, stated: dict[bytes, bytes], message: str) -> None:
    rewritten(path, pq.read_table(path).replace_schema_metadata(stated))
    with pytest.raises(IntegrityError, match=f"codes.parquet: .*{message}"):
        read(path)


def test_columns_of_other_types_or_with_nulls(path: Path) -> None:
    table = pq.read_table(path)
    other = table.set_column(1, "top", pa.array(["abcd"] * 10))
    rewritten(path, other)
    with pytest.raises(IntegrityError, match="which are not those of its levels"):
        read(path)
    nulls = table.set_column(1, pa.field("top", pa.binary(4)), pa.array([None] * 10, pa.binary(4)))
    rewritten(path, nulls)
    with pytest.raises(IntegrityError, match="codes.parquet: holds nulls"):
        read(path)


def test_more_rows_or_bytes_than_are_due(path: Path) -> None:
    with pytest.raises(IntegrityError, match="has 10 rows, at most 9 are due"):
        read(path, max_rows=9)
    table = pq.read_table(path)
    keys = pa.array(["k" * 2_000_000] * 10)
    rewritten(path, table.set_column(0, table.schema.field(0), keys), use_dictionary=False)
    with pytest.raises(IntegrityError, match="bytes for 10 rows"):
        read(path)
    rewritten(path, table.set_column(0, table.schema.field(0), pa.array(["k" * 9000] * 10)), use_dictionary=True)
    with pytest.raises(IntegrityError, match="holds a key of more than 99 bytes"):
        read(path)


def test_a_cut_file_is_no_sidecar(path: Path) -> None:
    data = path.read_bytes()
    for size in (0, 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(IntegrityError, match="codes.parquet: not a whole Parquet file"):
            read(path)


def test_keys_in_an_encoding_that_is_not_read_are_told_as_that(path: Path) -> None:
    rewritten(path, pq.read_table(path), use_dictionary=False, column_encoding={"key": "DELTA_LENGTH_BYTE_ARRAY"})
    with pytest.raises(IntegrityError, match=r"encoding that is not read here \(.*; texts must be stored as PLAIN"):
        read(path)


def test_random_damage_never_ends_in_another_error(path: Path) -> None:
    rewritten(path, pq.read_table(path), compression="none", use_dictionary=False, write_page_checksum=False)
    whole, before = path.read_bytes(), read(path)
    rng, refused, changed = random.Random(5), 0, 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            changed += read(path) != before  # the digests in the rows tell
        except InputError:
            refused += 1
    assert refused > 20 and changed > 5


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CodesWriter(tmp_path / "codes.parquet", LEVELS)
    writer.add("c00_000000", maps_of(0))

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left on device: '.*codes.parquet'"):
        writer.close()
    writer.abandon()
    with pytest.raises(KeyError, match="bottom"), CodesWriter(tmp_path / "codes.parquet", LEVELS) as writer:
        writer.add("c00_000000", {"top": np.zeros((1, 2), np.uint16)})
    with pytest.raises(IntegrityError, match="not a whole Parquet file"):
        read(tmp_path / "codes.parquet")
