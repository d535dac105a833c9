"""The writer of tars: webdataset's bytes, hashes taken on the way, and nothing believed that does not read back."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset

from caskit.manifests.errors import IntegrityError
from caskit.manifests.rows import table_of
from caskit.shards import writing
from caskit.shards.commit import check_written, describe_shard
from caskit.shards.tar import read_samples
from caskit.shards.writing import ShardWriter, Written

SIZES = (1, 511, 512, 513, 3000, 70_000, 9, 4096)


def images() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [rng.bytes(size) for size in SIZES * 3]


def write(path: Path) -> Written:
    with ShardWriter(path) as writer:
        for number, image in enumerate(images()):
            writer.add(f"c{number % 3}_{number:06d}", number % 3, image, "png")
    assert writer.written is not None
    return writer.written


def rows(written: Written, **changes: Any) -> pa.Table:
    num = len(written.keys)
    columns = {
        "key": written.keys,
        "sample_id": np.arange(num),
        "label": written.labels,
        "ordinal": np.arange(num),
        "shard": np.zeros(num, dtype=np.int64),
        "index_in_shard": np.arange(num),
        "tar_offset": written.offsets,
        "nbytes": written.nbytes,
        "width": np.full(num, 4),
        "height": np.full(num, 5),
        "image_sha256": written.image_sha256,
    }
    return table_of({**columns, **changes}, num)


@pytest.mark.parametrize("piece_bytes", [512, 20_000, 2**20])  # one sample a piece; pieces grown for a large image
def test_the_bytes_are_those_of_webdataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int) -> None:
    monkeypatch.setattr(writing, "PIECE_BYTES", piece_bytes)
    written = write(tmp_path / "ours.tar")
    options = {"user": "", "group": "", "mode": 0o444, "encoder": False, "mtime": 0}
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), **options) as theirs:
        for number, image in enumerate(images()):
            theirs.write({"__key__": f"c{number % 3}_{number:06d}", "cls": b"%d" % (number % 3), "png": image})
    data = (tmp_path / "ours.tar").read_bytes()
    assert data == (tmp_path / "theirs.tar").read_bytes()
    assert (written.size_bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with (tmp_path / "ours.tar").open("rb") as file:
        read = list(read_samples(file, name="ours.tar"))
    assert [sample.image for sample in read] == images()
    assert [sample.payload_offset for sample in read] == written.offsets
    assert [hashlib.sha256(image).digest() for image in images()] == written.image_sha256


def test_an_empty_tar_is_one_of_webdataset(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "ours.tar"):
        pass
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), encoder=False):
        pass
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


@pytest.mark.parametrize("piece_bytes", [512, 2**20])
def test_bytes_that_read_back_as_others_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    real = os.preadv

    def flipped(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        num = real(descriptor, buffers, offset)
        buffers[0][700] ^= 1
        return num

    monkeypatch.setattr(writing, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(os, "preadv", flipped)
    with pytest.raises(IntegrityError, match=r"a\.tar: bytes from 0 on read back unlike they were written"):
        write(tmp_path / "a.tar")


def test_a_file_that_was_touched_is_not_the_one_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    written = write(path)
    assert written.is_still(path)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"x")
    assert not written.is_still(path)


def test_rows_are_compared_with_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    written = write(path)
    table = rows(written)
    info = describe_shard(path, table, shard=0, plan_id="0" * 64, environment_id="", written=written)
    assert info == describe_shard(path, table, shard=0, plan_id="0" * 64, environment_id="")
    check_written(written, table, info)
    for name, value in (
        ("key", "c9_000009"),
        ("label", 9),
        ("tar_offset", 7),
        ("image_sha256", bytes(32)),
        ("shard", 1),
    ):
        values: list[Any] = table.column(name).to_pylist()
        values[5] = value
        with pytest.raises(IntegrityError, match=f"key {written.keys[5]}: the tar does not hold what row 5 says"):
            check_written(written, rows(written, **{name: values}), info)
    with pytest.raises(IntegrityError, match="24 samples in the tar, 25 rows"):
        check_written(written, pa.concat_tables([table, table.slice(23)]), info)
    with pytest.raises(IntegrityError, match="does not hold what row 20 says"):
        check_written(written, table.slice(0, 20), info)
    with pytest.raises(IntegrityError, match="size or digests"):
        check_written(written, rows(written, width=np.full(len(SIZES) * 3, 5)), info)
