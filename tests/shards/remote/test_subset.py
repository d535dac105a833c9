"""A part of a published set is a set of its own that proves whose it is, and moves little else than its images."""

import collections
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.view import View
from caskit.shards.dataset import open_set
from caskit.shards.fault import BrokenSet
from caskit.shards.records import read_manifest, read_origin, read_replica
from caskit.shards.remote.patience import Unreachable
from caskit.shards.remote.progress import TransferConfig
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
from caskit.shards.remote.ranges import merge_ranges
from caskit.shards.remote.subset import Part, pull_part
from caskit.shards.store import LocalStore
from caskit.shards.verify import verify

PARTS = [
    Part(select="classes", names=("1",)),
    Part(select="classes", names=("c02", "0")),
    Part(select="first-shards:2"),
    Part(select="keys", names=("c00_000004", "c00_000001", "c02_000000")),
]


@pytest.fixture
def published(tmp_path: Path, tiny: Any) -> Path:
    """A set of 20 images, published to a folder."""
    plan = tiny.plan(num=20)
    tiny.frozen(tmp_path / "set", plan)
    push(str(tmp_path / "set"), str(tmp_path / "published"))
    return tmp_path / "published"


def ids(root: Path) -> dict[str, str]:
    return dict(zip(*(open_set(str(root)).table.column(c).to_pylist() for c in ("key", "image_sha256")), strict=True))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.select + "-".join(part.names))
def test_a_part_is_a_set_that_names_its_parent(published: Path, tmp_path: Path, part: Part) -> None:
    moved = pull_part(str(published), tmp_path / "part", part)
    store = LocalStore(tmp_path / "part")
    replica = read_replica(store)
    view = read_origin(store, replica)
    assert isinstance(view, View) and view.parent == read_replica(LocalStore(published)) and replica.kind == "view"
    assert verify(str(tmp_path / "part"), "deep").replica.replica_id == moved.replica_id
    whole, found = ids(published), ids(tmp_path / "part")
    assert found.items() <= whole.items() and len(found) == view.num
    if part.select == "keys":
        assert set(found) == set(part.names)
    if part.select == "first-shards:2":
        assert list(found) == list(whole)[:12]
        for name in ("shards/shard-000000.tar", "shards/shard-000001.tar"):
            assert store.read(name) == LocalStore(published).read(name)
    opened = open_set(str(tmp_path / "part"))
    assert opened.kind == "synthetic" and opened.plan is not None and len(opened.image(0).shape) == 3
    with pytest.raises(InputError, match="a view set is used whole"):
        opened.first_shards(1)


def test_without_an_index_the_manifest_gives_the_same_view(published: Path, tmp_path: Path) -> None:
    with_index = [pull_part(str(published), tmp_path / f"a{n}", part) for n, part in enumerate((PARTS[0], PARTS[2]))]
    (published / "index.bin").unlink()
    without = [pull_part(str(published), tmp_path / f"b{n}", part) for n, part in enumerate((PARTS[0], PARTS[2]))]
    assert [one.replica_id for one in with_index] == [one.replica_id for one in without]


def test_a_part_of_a_real_set(tmp_path: Path, tiny: Any) -> None:
    tiny.frozen(tmp_path / "real", tiny.ingest())
    push(str(tmp_path / "real"), str(tmp_path / "published"))
    pull_part(str(tmp_path / "published"), tmp_path / "part", Part(select="classes", names=("2",)))
    assert open_set(str(tmp_path / "part")).split == "test" and len(open_set(str(tmp_path / "part"))) == 5
    with pytest.raises(InputError, match="first-shards:1: the first samples of a real set need not be of all classes"):
        pull_part(str(tmp_path / "published"), tmp_path / "other", Part(select="first-shards:1"))


def test_a_part_with_codes_leaves_them_behind(tmp_path: Path, tiny: Any) -> None:
    tiny.frozen(tmp_path / "coded", tiny.plan(num=9, record_codes=True))
    push(str(tmp_path / "coded"), str(tmp_path / "published"))
    pull_part(str(tmp_path / "published"), tmp_path / "part", PARTS[0])
    table = read_manifest(LocalStore(tmp_path / "part"))
    assert table.column("codes_sha256").null_count == table.num_rows == 3


def test_a_view_goes_and_comes_back(published: Path, bucket: str, tmp_path: Path) -> None:
    made = pull_part(str(published), tmp_path / "part", PARTS[0])
    push(str(tmp_path / "part"), f"{bucket}/part")
    assert pull(f"{bucket}/part", tmp_path / "back").replica_id == made.replica_id
    with pytest.raises(InputError, match="is a view; take the part from the set that it is of"):
        pull_part(f"{bucket}/part", tmp_path / "again", PARTS[0])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(select="classes", names=("7",)), "class '7': allowed are labels 0..2 and ids such as"),
        (Part(select="first-shards:9"), "first-shards:9: the set has 4 shards"),
        (Part(select="keys", names=("nobody_000000",)), "key 'nobody_000000' is none of the set's"),
        (Part(select="keys"), "keys: these are no samples at all"),
    ],
)
def test_parts_that_are_none(published: Path, tmp_path: Path, part: Part, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        pull_part(str(published), tmp_path / "part", part)
    assert not (tmp_path / "part").exists()


def test_a_folder_of_another_part_is_refused(published: Path, tmp_path: Path) -> None:
    pull_part(str(published), tmp_path / "part", PARTS[0])
    with pytest.raises(InputError, match="holds another set or another part; use another folder"):
        pull_part(str(published), tmp_path / "part", PARTS[2])


@pytest.mark.parametrize("name", ["index.bin", "shards/shard-000000.tar"])
@pytest.mark.parametrize("place", [0.1, 0.35, 0.6, 0.9])
def test_what_lies_is_never_accepted(published: Path, tmp_path: Path, name: str, place: float) -> None:
    data = bytearray((published / name).read_bytes())
    at = int(place * len(data)) if name == "index.bin" else data.find(b"IHDR") + int(place * 10)
    data[at] ^= 1
    (published / name).chmod(0o644)
    (published / name).write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=r"index\.bin|has other bytes than its row says|is said to be where"):
        pull_part(str(published), tmp_path / "part", Part(select="first-shards:4"))
    assert not (tmp_path / "part/replica.json").exists()


def test_an_edited_view_is_noticed(published: Path, tmp_path: Path) -> None:
    pull_part(str(published), tmp_path / "part", PARTS[0])
    store = LocalStore(tmp_path / "part")
    view = read_origin(store, read_replica(store))
    assert isinstance(view, View)
    value = view.to_json()
    edits = {
        "proof": {"proof": [*value["proof"][:-1], "0" * 64]},
        "the proof is too long": {"proof": [*value["proof"], "0" * 64]},
        "the proof ends too early": {"proof": value["proof"][:-1]},
        "another number of samples": {"select": "first-shards:1"},
        "the histogram is of other samples": {"select": "classes:2"},
    }
    for message, edit in edits.items():
        changed = canonical_json({**value, **edit})
        for name, data in (
            ("view.json", changed),
            ("replica.json", canonical_json({**_json(store, "replica.json"), "origin_sha256": sha256_hex(changed)})),
        ):
            store.delete(name)
            store.create(name, data)
        with pytest.raises(BrokenSet, match=message):
            verify(str(tmp_path / "part"), "quick")


def _json(store: LocalStore, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(store.read(name))
    return value


def test_faults_on_the_way_change_nothing(tmp_path: Path, tiny: Any, bucket: str, through: Callable[..., Any]) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan(num=20))
    push(str(tmp_path / "set"), f"{bucket}/one")
    undisturbed = pull_part(str(tmp_path / "set"), tmp_path / "undisturbed", PARTS[2])
    proxy = through("500", "reset", "wrong-bytes", "truncated", "short", "slow", share=0.3, most=30, seed=1)
    for _ in range(20):
        try:
            found = pull_part(f"{bucket}/one", tmp_path / "part", PARTS[2], TransferConfig(workers=2))
            break
        except (Unreachable, IntegrityError):
            continue
    assert sum(proxy.done.values()) >= 5 and found.replica_id == undisturbed.replica_id


def test_stopped_and_started_again(published: Path, tmp_path: Path) -> None:
    calls = itertools.count()
    whole = Part(select="first-shards:4")
    with pytest.raises(NotFinished, match="stopped"):
        pull_part(str(published), tmp_path / "part", whole, TransferConfig(stop=lambda: next(calls) >= 2))
    assert not (tmp_path / "part/replica.json").exists()
    moved = pull_part(str(published), tmp_path / "part", whole)
    assert moved.files_moved == 2 and ids(tmp_path / "part") == ids(published)
    assert pull_part(str(published), tmp_path / "part", whole).files_moved == 0


def test_death_at_every_call(published: Path, killer: Any, killed: type[BaseException], tmp_path: Path) -> None:
    with killer.armed(None) as calls:
        undisturbed = pull_part(str(published), tmp_path / "undisturbed", PARTS[2], TransferConfig(workers=1))
    for at in range(0, len(calls), 9):
        out = tmp_path / f"killed-{at}"
        with killer.armed(at), pytest.raises((killed, OSError, AttributeError)):
            pull_part(str(published), out, PARTS[2], TransferConfig(workers=1))
        found = pull_part(str(published), out, PARTS[2], TransferConfig(workers=1))
        assert found.replica_id == undisturbed.replica_id, f"killed at call {at} of {len(calls)}"


def test_a_part_moves_little_else(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan(num=1500, samples_per_shard=50))
    push(str(tmp_path / "set"), str(tmp_path / "published"))
    read: collections.Counter[str] = collections.Counter()
    real = LocalStore.read

    def counted(self: LocalStore, name: str, start: int = 0, length: int | None = None) -> bytes:
        data = real(self, name, start, length)
        if self.root == tmp_path / "published":
            read["images" if name.endswith(".tar") else "records"] += len(data)
        return data

    monkeypatch.setattr(LocalStore, "read", counted)
    for part in (PARTS[0], Part(select="first-shards:3")):
        read.clear()
        out = tmp_path / part.select.replace(":", "")
        moved = pull_part(str(tmp_path / "published"), out, part)
        assert moved.num_bytes <= read["images"] <= 1.05 * moved.num_bytes
        assert read["records"] <= 2 * (out / "manifest.parquet").stat().st_size


def test_ranges_are_joined_over_the_smallest_gaps() -> None:
    assert [(r.start, r.stop) for r in merge_ranges([0, 100, 210], [100, 100, 100], waste=0.0)] == [
        (0, 200),
        (210, 310),
    ]
    assert [(r.start, r.stop) for r in merge_ranges([0, 100, 210], [100, 100, 100], waste=0.04)] == [(0, 310)]
    ranges = merge_ranges([2048 * n for n in range(50)], [400] * 50, waste=0.0)
    assert len(ranges) == 50 and [i for r in ranges for i, _, _ in r.images] == list(range(50))
    assert len(merge_ranges([2048 * n for n in range(50)], [400] * 50, waste=5.0)) == 1
    assert [r.images for r in merge_ranges([500, 0], [10, 10])] == [((1, 0, 10),), ((0, 500, 10),)]
