"""A set that is read while it is fetched: order, bound, kill -9, what is refused. The store is a folder that counts."""

import dataclasses
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from caskit.cli import main
from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.sets import SetReference
from caskit.shards.commit import shard_path
from caskit.shards.dataset import open_set
from caskit.shards.records import Records, read_records
from caskit.shards.remote.push import push
from caskit.shards.remote.streamed import ShardCache, StreamedSet, open_streamed
from caskit.shards.store import LocalStore
from caskit.train.recipes import Recipe
from caskit.train.samples import TrainingImages
from caskit.train.training import open_images


class Far(LocalStore):
    """Notes which tars are opened, and what is on this machine then."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.before: Callable[[], None] | None = None

    def open(self, name: str) -> BinaryIO:
        """See Store."""
        if self.before is not None:
            self.before()
        self.asked.append(name)
        return super().open(name)


@pytest.fixture
def records(tmp_path: Path, tiny: Any) -> Records:
    """Of a set of 8 tars, the last one shorter, far away."""
    tiny.frozen(tmp_path / "set", tiny.plan(num=38, samples_per_shard=5, microbatch_size=5))
    found = read_records(SetReference(location=str(tmp_path / "set")))
    return dataclasses.replace(found, store=Far(tmp_path / "set"))


def far(records: Records) -> Far:
    assert isinstance(records.store, Far)
    return records.store


def room(records: Records, num: int) -> int:
    return num * max(shard.size_bytes for shard in records.shards)


def settled(cache: ShardCache) -> None:
    """Wait until the thread that fetches ahead has nothing to do."""
    while (thread := cache._ahead) is not None:
        thread.join()


def names(*shards: int) -> list[str]:
    return [shard_path(shard) for shard in shards]


def test_announced_tars_come_in_their_order_and_within_the_bound(records: Records, tmp_path: Path) -> None:
    cache = ShardCache(records, tmp_path / "here", room(records, 4))
    sizes: list[int] = []
    far(records).before = lambda: sizes.append(sum(cache.held().values()))
    cache.expect(names(5, 1))
    settled(cache)
    cache.expect(names(6, 2))
    settled(cache)
    assert far(records).asked == names(5, 1, 6, 2)
    assert set(cache.held()) == set(names(1, 2, 5, 6))
    cache.open(shard_path(6))
    assert len(far(records).asked) == 4, "it is here"
    cache.expect(names(0, 6))  # the first announcement is over: its tars make room, no others
    settled(cache)
    assert far(records).asked[4:] == names(0)
    assert set(cache.held()) == {*names(0, 2, 6), *(set(cache.held()) & set(names(1, 5)))} and len(cache.held()) == 4
    cache.expect(names(3, 4, 7))  # five announced, four fit: the thread takes none of them away for another
    settled(cache)
    assert set(cache.held()) == set(names(0, 3, 4, 6))
    cache.open(shard_path(7))  # who needs one now gets it
    assert shard_path(7) in cache.held()
    assert max(sizes) <= room(records, 3) and sum(cache.held().values()) <= room(records, 4)


@pytest.mark.parametrize("num", [1, 3, 8])
def test_every_row_is_that_of_the_set_whatever_fits(records: Records, tmp_path: Path, num: int) -> None:
    whole = open_set(str(tmp_path / "set"), verify=False)
    cache = ShardCache(records, tmp_path / "here", room(records, num))
    data = StreamedSet(records, cache)
    ids = np.random.default_rng(0).permutation(38)
    data.expect(ids[:6])
    for start in range(0, 38, 6):
        chosen = ids[start : start + 6]
        assert data.rows(chosen) == whole.rows(chosen)
        assert sum(cache.held().values()) <= room(records, num)
    again = pickle.loads(pickle.dumps(data))
    assert np.array_equal(again.image(7), whole.image(7)) and data.channels == whole.channels
    assert np.array_equal(data.labels, whole.labels)


def test_a_removed_tar_is_not_kept_open(records: Records, tmp_path: Path) -> None:
    data = StreamedSet(records, ShardCache(records, tmp_path / "here", room(records, 1)))
    for sample_id in (0, 5, 10):
        data.read(sample_id)
    assert list(data._files._files) == names(2)


def test_a_training_finds_its_shards_fetched_before_it_asks(records: Records, tmp_path: Path) -> None:
    """Blocks of a tar, windows of two: the loader announces this window and the next, an epoch fetches a tar once."""
    recipe = Recipe(
        name="tiny", resolution=8, num_steps=8, batch_size=10, bn_batch=10, learning_rate=0.1, crop="uniform-area",
        shuffle_block=5, shuffle_window=2,
    )  # fmt: skip
    whole = open_set(str(tmp_path / "set"), verify=False)
    cache = ShardCache(records, tmp_path / "here", room(records, 6))
    data = StreamedSet(records, cache)
    images, local = open_images(data, recipe), open_images(whole, recipe)
    assert images.held == "nothing"
    options: dict[str, Any] = {"channels": data.channels, "seed": 3}
    made = TrainingImages(recipe, images.each, data.labels, source=images, **options)
    expected = TrainingImages(recipe, local.each, whole.labels, source=local, **options)
    num_waited = 0
    for step in range(recipe.num_steps):
        made._read_ahead(step)
        settled(cache)
        before = len(far(records).asked)
        ours, theirs = made.load(step, 0), expected.load(step, 0)
        num_waited += len(far(records).asked) - before
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert num_waited == 0, "all were here when they were read"
    assert len(far(records).asked) <= 2 * 8 + 8, "two epochs of eight tars, and what the end of the second announced"


def test_what_arrives_with_other_bytes_is_not_used(records: Records, tmp_path: Path) -> None:
    path = tmp_path / "set" / shard_path(3)
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    cache = ShardCache(records, tmp_path / "here", room(records, 8))
    cache.expect(names(2, 3))
    settled(cache)
    assert set(cache.held()) == set(names(2)), "what is announced is left to who asks for it"
    with pytest.raises(RunFailed, match=r"shard-000003\.tar: has other bytes than its digest says"):
        StreamedSet(records, cache).read(15)
    assert set(cache.held()) == set(names(2))


KILLED = """
import os, signal, sys
from pathlib import Path
from caskit.manifests.sets import SetReference
from caskit.shards.records import read_records
from caskit.shards.remote import pull
from caskit.shards.remote.streamed import ShardCache
records = read_records(SetReference(location=sys.argv[1]))
cache, copy = ShardCache(records, Path(sys.argv[2]), 10**9), pull._copy
def dying(source, file, path):
    if len(cache.held()) == 3:
        path.write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    return copy(source, file, path)
pull._copy = dying
cache.expect([f"shards/shard-{number:06d}.tar" for number in (4, 0, 2, 6, 1)])
cache._ahead.join()
"""


def test_killed_while_it_fetches_ahead_it_goes_on_with_what_is_there(records: Records, tmp_path: Path) -> None:
    here = tmp_path / "here"
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "set", here], check=False)
    assert done.returncode == -9
    cache = ShardCache(records, here, room(records, 8))
    assert set(cache.held()) == set(names(0, 2, 4))
    data, whole = StreamedSet(records, cache), open_set(str(tmp_path / "set"), verify=False)
    assert data.rows(np.arange(38)) == whole.rows(np.arange(38))
    assert sorted(far(records).asked) == names(1, 3, 5, 6, 7), "what was there is not fetched again"
    left = [path for path in here.rglob("*") if path.is_file() and path.read_bytes() == b"half of it"]
    assert not left


def test_threads_that_need_one_tar_fetch_it_once(records: Records, tmp_path: Path) -> None:
    cache = ShardCache(records, tmp_path / "here", room(records, 8))
    threads = [threading.Thread(target=cache.open, args=(shard_path(4),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    cache.expect(names(4))
    for thread in threads:
        thread.join()
    settled(cache)
    assert far(records).asked == names(4)


def test_what_cannot_be_streamed_is_refused(records: Records, tmp_path: Path, bucket: str) -> None:
    with pytest.raises(InputError, match=r"a shard has \d+ bytes, --stream allows 10; allow more"):
        ShardCache(records, tmp_path / "here", 10)
    data = StreamedSet(records, ShardCache(records, tmp_path / "here", room(records, 6)))
    with pytest.raises(InputError, match="an order of all samples needs every shard at once; .* shuffle_block=N"):
        data.check_order(0, 0)
    with pytest.raises(
        InputError, match=r"windows of 3 blocks of 5 samples need \d+ bytes of shards at once, --stream allows"
    ):
        data.check_order(5, 3)
    with pytest.raises(InputError, match="windows of 2 blocks of 4 samples need"):
        data.check_order(4, 2)  # a block of four may lie in two tars of five
    data.check_order(5, 2)
    with pytest.raises(InputError, match="is on this machine already; leave --stream out"):
        open_streamed(str(tmp_path / "set"), 10**9)
    push(str(tmp_path / "set"), f"{bucket}/one")
    there = open_streamed(f"{bucket}/one", room(records, 2))
    assert there.rows(np.arange(38)) == data.rows(np.arange(38)) and len(there.cache.held()) == 2


def test_a_training_by_url_ends_as_one_by_folder(records: Records, tmp_path: Path, bucket: str) -> None:
    push(str(tmp_path / "set"), f"{bucket}/one")
    changes = ("num_steps=3", "batch_size=8", "bn_batch=8", "crop=uniform-area", "shuffle_block=5", "shuffle_window=1")
    words = ["--recipe", "digits", "--seed", "0", *(word for change in changes for word in ("--set", change))]
    far_away = ["--data", f"{bucket}/one", "--stream", "0.001", "--out", str(tmp_path / "far")]
    assert main(["train", *far_away, *words]) == 0
    assert main(["train", "--data", str(tmp_path / "set"), "--out", str(tmp_path / "near"), *words]) == 0
    far_record, near = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("far", "near"))
    assert far_record["classifier_id"] == near["classifier_id"]
    assert (far_record["data_location"], far_record["reading"]["held"]) == (f"{bucket}/one", "nothing")
