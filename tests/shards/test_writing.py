"""The writer of tars: webdataset's bytes, hashes taken on the way, and nothing believed that does not read back."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset

from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.rows import table_of
from caskit.shards import writing
from caskit.shards.commit import check_written, describe_shard, read_commit
from caskit.shards.finishing import commit_written
from caskit.shards.store import LocalStore
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


@pytest.mark.parametrize("piece_bytes", [512, 20_000, 2**20])
def test_added_together_or_one_by_one_is_the_same_tar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(writing, "PIECE_BYTES", piece_bytes)
    one_by_one = write(tmp_path / "a.tar")
    keys, data = one_by_one.keys, images()
    with ShardWriter(tmp_path / "b.tar") as writer:
        for part in (slice(0, 5), slice(5, 5), slice(5, 6), slice(6, 24)):
            writer.add_all(keys[part], one_by_one.labels[part], data[part], ["png"] * len(keys[part]))
    assert writer.written is not None
    assert dataclasses.replace(writer.written, status=()) == dataclasses.replace(one_by_one, status=())
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"keys": "a.b"}, r"key 'a\.b' cannot be stored"),
        ({"keys": "a\nb"}, "key 'a\\\\nb' cannot be stored"),
        ({"keys": ""}, "key '' cannot be stored"),
        ({"keys": "a" * 97}, "cannot be stored"),
        ({"labels": -1}, "key k1: label -1"),
        ({"labels": 10**16}, "key k1: label 1"),
        ({"images": b""}, "key k1: label 1 or image of 0 bytes"),
        ({"extensions": "gif"}, "key k1: extension is 'gif', allowed: png, jpg, webp"),
    ],
)
def test_of_many_the_first_that_cannot_be_stored_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    columns: dict[str, list[Any]] = {
        "keys": ["k0", "k1", "k2"],
        "labels": [0, 1, 2],
        "images": [b"x", b"y", b"z"],
        "extensions": ["png", "jpg", "webp"],
    }
    for name, value in bad.items():
        columns[name][1] = value
    with ShardWriter(tmp_path / "a.tar") as writer:
        with pytest.raises(InputError, match=message):
            writer.add_all(**columns)
        assert writer.num_samples == 0
        writer.add_all(["k" * 96], [5], [b"x"], ["png"])  # the longest name
    with (tmp_path / "a.tar").open("rb") as file:
        assert [(sample.key, sample.label) for sample in read_samples(file, name="a.tar")] == [("k" * 96, 5)]


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


def test_a_shard_is_committed_only_as_it_was_written(tmp_path: Path) -> None:
    """Rows that say something else, or a tar that was touched, are refused before anything has a name."""
    store = LocalStore(tmp_path / "set")
    with store.scratch() as folder:
        tar = folder / "shard-000000.tar"
        written = write(tar)
        options = {"shard": 0, "plan_id": "0" * 64}
        with pytest.raises(IntegrityError, match=f"key {written.keys[3]}: the tar does not hold what row 3 says"):
            commit_written(
                store, tar, rows(written, nbytes=[*written.nbytes[:3], 7, *written.nbytes[4:]]), written, **options
            )
        good = tar.read_bytes()
        os.truncate(tar, len(good) - 512)
        with pytest.raises(IntegrityError, match="cut at byte"):
            commit_written(store, tar, rows(written), written, **options)
        assert store.names("shards/") == store.names("_work/commits/") == []
        tar.write_bytes(good)  # another file now, which is read again and found to be the same
        assert commit_written(store, tar, rows(written), written, **options) == "committed"
        assert commit_written(store, tar, rows(written), written, **options) == "already"
    table, info = read_commit(store, 0)
    assert table.equals(rows(written)) and info.tar_sha256 == hashlib.sha256(good).hexdigest()
