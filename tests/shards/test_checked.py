"""Rows that are read again cost no digest, until their tar is touched; then every change is noticed."""

import hashlib
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from caskit.manifests.errors import IntegrityError
from caskit.shards import dataset
from caskit.shards.dataset import FrozenSet, open_set

IDS = np.array([13, 0, 7, 7, 19, 6])


@pytest.fixture
def root(tmp_path: Path, tiny: Any) -> Path:
    tiny.frozen(tmp_path / "set", tiny.plan())
    return tmp_path / "set"


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was digested."""
    found: list[int] = []

    def sha256(data: bytes) -> Any:
        found.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr(dataset, "hashlib", SimpleNamespace(sha256=sha256))
    return found


def test_a_row_shows_its_digest_once_for_each_version_of_its_tar(root: Path, digests: list[int]) -> None:
    data = open_set(str(root))
    expected = [data.read(sample_id) for sample_id in IDS.tolist()]
    digests.clear()
    for _ in range(3):
        assert data.rows(IDS) == expected
    assert len(digests) == len(IDS), "a row that is asked for twice at once shows it twice"
    tar = root / "shards" / "shard-000001.tar"
    times = tar.stat()
    tar.write_bytes(tar.read_bytes())
    os.utime(tar, ns=(times.st_atime_ns, times.st_mtime_ns))  # the change time tells
    shards = data.table.column("shard").to_numpy()[IDS]
    digests.clear()
    for _ in range(2):
        assert data.rows(IDS) == expected
    assert len(digests) == np.count_nonzero(shards == 1) > 0
    copy: FrozenSet = pickle.loads(pickle.dumps(data))
    digests.clear()
    assert copy.rows(IDS) == expected and len(digests) == len(IDS), "another process has seen nothing"


def test_a_row_that_changed_after_it_was_read_is_noticed(root: Path) -> None:
    data = open_set(str(root))
    data.rows(np.arange(20))
    row = data.table.slice(7, 1).to_pylist()[0]
    tar = root / "shards" / "shard-000001.tar"
    content = bytearray(tar.read_bytes())
    content[row["tar_offset"] + 20] ^= 1
    tar.write_bytes(content)
    assert data.rows(np.array([6, 0])) == [data.read(6), data.read(0)]
    for _ in range(2):
        with pytest.raises(IntegrityError, match=f"shard-000001.tar: key {row['key']}: the image's bytes are not"):
            data.rows(np.array([6, 7]))
    tar.write_bytes(bytes(content[:2048]))
    with pytest.raises(IntegrityError, match="shard-000001.tar: key"):
        data.rows(np.array([11]))


def test_a_tar_that_is_touched_while_rows_are_read_has_them_read_again(
    root: Path, digests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tar = open_set(str(root)), root / "shards" / "shard-000000.tar"
    content = tar.read_bytes()
    data.rows(np.array([0, 1]))
    digests.clear()
    read, touches = os.pread, iter([True])

    def touching(descriptor: int, nbytes: int, offset: int) -> bytes:
        found = read(descriptor, nbytes, offset)
        if next(touches, False):
            tar.write_bytes(content)
        return found

    monkeypatch.setattr(os, "pread", touching)
    rows = data.rows(np.array([0, 1]))
    assert len(digests) == 2 and rows == [data.read(0), data.read(1)]


def test_a_tar_that_is_gone(root: Path) -> None:
    data = open_set(str(root))
    (root / "shards" / "shard-000002.tar").unlink()
    with pytest.raises(IntegrityError, match="shard-000002.tar: is gone, holds key"):
        data.rows(np.array([0, 12]))


def test_decoded_rows_are_the_images(root: Path) -> None:
    data = open_set(str(root))
    for sample_id, row in zip(IDS.tolist(), data.rows(IDS), strict=True):
        assert np.array_equal(data.decoded(sample_id, row), data.image(sample_id))
    assert data.stored_bytes == sum(map(len, data.rows(np.arange(20))))


def test_reading_ahead_asks_for_runs_of_samples(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = open_set(str(root)), []
    monkeypatch.setattr(os, "posix_fadvise", lambda number, start, length, advice: asked.append((start, length)))
    ids = [8, 2, 3, 4, 17]
    data.expect(np.array(ids))
    rows = {row["sample_id"]: row for row in data.table.to_pylist()}
    runs: list[list[int]] = []
    for sample_id in sorted(ids):
        joined = runs and runs[-1][-1] == sample_id - 1 and rows[sample_id - 1]["shard"] == rows[sample_id]["shard"]
        if joined:
            runs[-1].append(sample_id)
        else:
            runs.append([sample_id])
    spans = [(rows[run[0]]["tar_offset"], rows[run[-1]]["tar_offset"] + rows[run[-1]]["nbytes"]) for run in runs]
    assert asked == [(start, end - start) for start, end in spans]
