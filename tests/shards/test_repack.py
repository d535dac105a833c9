"""Shards of another size: the samples, their order and content_root stay, and the parent is computed, not believed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from caskit import cli
from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.replica import Replica
from caskit.shards.dataset import open_set
from caskit.shards.fault import BrokenSet
from caskit.shards.packing import largest_shard
from caskit.shards.records import read_records
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
from caskit.shards.repack import repack
from caskit.shards.tar import layout
from caskit.shards.verify import verify

KINDS = ("synthetic", "real", "coded", "original")
PLACES = {"shard", "index_in_shard", "tar_offset"}
NOT_IDENTITY = {"provenance.json", "README.md", "SHA256SUMS", "croissant.json"}


@pytest.fixture
def root(kind: str, tiny: Any, tmp_path: Path) -> Path:
    origins = {
        "synthetic": lambda: tiny.plan(),
        "coded": lambda: tiny.plan(record_codes=True),
        "real": lambda: tiny.ingest(),
        "original": lambda: tiny.ingest(codec={"name": "original"}),
    }
    tiny.frozen(tmp_path / "set", origins[kind]())
    return tmp_path / "set"


def packed(source: Path, out: Path, size: int, **options: Any) -> Replica:
    return repack(open_set(str(source)), str(out), samples_per_shard=size, created="2026-01-01T00:00:00Z", **options)


def identity(tiny: Any, root: Path) -> dict[str, bytes]:
    files = tiny.tree(root)
    return {name: data for name, data in files.items() if name not in NOT_IDENTITY and not name.startswith("_work")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 20, 1000])
def test_only_places_change_and_the_way_back_gives_every_byte(root: Path, tmp_path: Path, tiny: Any, size: int) -> None:
    before = read_records(str(root))
    replica = packed(root, tmp_path / "other", size)
    after = read_records(f"{tmp_path}/other@sha256:{replica.replica_id}")
    report = verify(str(tmp_path / "other"), "deep")
    assert dict(report.checks)["shards of the parent"] == before.replica.num_shards
    assert replica.content_root == before.replica.content_root and replica.num_shards == -(-20 // size)
    assert replica.origin_sha256 == before.replica.origin_sha256
    assert replica.replica_id != before.replica.replica_id and replica.packing_root != before.replica.packing_root
    assert after.packing is not None and after.packing.parent == before.replica.replica_id
    for name in before.manifest.schema.names:
        assert before.manifest.column(name).equals(after.manifest.column(name)) == (name not in PLACES) or size == 1000
    ours, theirs = open_set(str(root)), open_set(str(tmp_path / "other"))
    assert ours.keys == theirs.keys and all(ours.read(n) == theirs.read(n) for n in range(20))
    home = packed(tmp_path / "other", tmp_path / "home", 6)
    assert home.replica_id == before.replica.replica_id
    assert identity(tiny, tmp_path / "home") == identity(tiny, root)


@pytest.mark.parametrize("kind", ["synthetic"])
def test_two_steps_are_one(root: Path, tmp_path: Path, tiny: Any) -> None:
    packed(root, tmp_path / "step", 4)
    packed(tmp_path / "step", tmp_path / "twice", 9)
    packed(root, tmp_path / "once", 9)
    assert identity(tiny, tmp_path / "twice") == identity(tiny, tmp_path / "once")
    told = parse_canonical((tmp_path / "twice/provenance.json").read_bytes(), name="provenance.json")
    assert told["repacked_from"] == read_records(str(tmp_path / "step")).replica.replica_id
    assert told["licence"] == "cc0-1.0" and told["environment_ids"] == ["cd" * 32]


@pytest.mark.parametrize("kind", ["synthetic", "coded"])
def test_what_packing_json_says_is_checked(root: Path, tmp_path: Path) -> None:
    packed(root, tmp_path / "other", 9)
    path = tmp_path / "other/packing.json"
    record = parse_canonical(path.read_bytes(), name="packing.json")
    parent = record["parent"]
    for changes, message in (
        ({"parent": "ab" * 32}, f"packing.json: parent is {'ab' * 32}, .* packed as plan.json says are {parent}"),
        ({"samples_per_shard": 8}, "manifest.parquet"),
        ({"samples_per_shard": 6}, "so nothing was repacked"),
        ({"samples_per_shard": 0}, "samples_per_shard is 0, allowed: 1"),
        ({"samples_per_shard": "9"}, "wrong type"),
        ({"parent": "AB" * 32}, "must be 64 lower-case hex digits"),
        ({"more": 1}, "unknown fields"),
    ):
        path.unlink()
        path.write_bytes(canonical_json({**record, **changes}))
        with pytest.raises(IntegrityError, match=message):
            verify(str(tmp_path / "other"))
    path.unlink()
    with pytest.raises(BrokenSet, match="manifest.parquet"):
        verify(str(tmp_path / "other"))
    path.write_bytes(canonical_json(record))
    verify(str(tmp_path / "other"))


@pytest.mark.parametrize("kind", ["coded"])
def test_stopped_or_dead_at_any_shard_the_same_call_goes_on(root: Path, tmp_path: Path, tiny: Any, killer: Any) -> None:
    packed(root, tmp_path / "whole", 7)
    asked: list[None] = []
    with pytest.raises(NotFinished, match="stopped with 2 of 3 shards committed"):
        packed(root, tmp_path / "other", 7, stop=lambda: asked.append(None) or len(asked) > 2)
    packed(root, tmp_path / "other", 7)
    assert identity(tiny, tmp_path / "other") == identity(tiny, tmp_path / "whole")
    source = open_set(str(root))
    with killer.armed(None) as made:
        packed(root, tmp_path / "counted", 7)
    for at in range(3, len(made), max(1, len(made) // 12)):
        out = tmp_path / f"dead-{at}"
        with killer.armed(at), pytest.raises(BaseException, match="^$"):
            repack(source, str(out), samples_per_shard=7, created="2026-01-01T00:00:00Z")
        packed(root, out, 7)
        assert identity(tiny, out) == identity(tiny, tmp_path / "whole")


@pytest.mark.parametrize("kind", ["real"])
def test_what_is_refused(root: Path, tmp_path: Path, tiny: Any) -> None:
    for size in (0, -1, 10**7):
        with pytest.raises(InputError, match=f"samples per shard: {size}, allowed: 1..1000000"):
            packed(root, tmp_path / "other", size)
    packed(root, tmp_path / "other", 9)
    with pytest.raises(InputError, match="holds another set, its packing.json differs"):
        packed(root, tmp_path / "other", 8)
    with pytest.raises(InputError, match="holds a set in shards of another size"):
        packed(root, tmp_path / "other", 6)
    tiny.frozen(tmp_path / "third", tiny.ingest(split="train"))
    with pytest.raises(InputError, match="holds another set, its ingest.json differs"):
        packed(root, tmp_path / "third", 6)
    tar = root / "shards/shard-000002.tar"
    source = open_set(str(root))
    data = bytearray(tar.read_bytes())
    data[1600] ^= 1
    tar.unlink()
    tar.write_bytes(data)
    with pytest.raises(IntegrityError, match="shard-000002.tar: key .* SHA-256"):
        repack(source, str(tmp_path / "broken"), samples_per_shard=9, created="now")
    assert not (tmp_path / "broken/replica.json").exists()


@pytest.mark.parametrize("kind", ["coded"])
def test_a_repacked_set_travels(root: Path, tmp_path: Path, tiny: Any) -> None:
    packed(root, tmp_path / "other", 7)
    push(str(tmp_path / "other"), str(tmp_path / "there"))
    pull(str(tmp_path / "there"), tmp_path / "back")
    assert (tmp_path / "back/packing.json").read_bytes() == (tmp_path / "other/packing.json").read_bytes()
    assert read_records(str(tmp_path / "back")).replica == read_records(str(tmp_path / "other")).replica


@pytest.mark.parametrize("num", [1, 5, 300])
def test_the_largest_shard_that_fits(num: int) -> None:
    nbytes = np.random.default_rng(num).integers(1, 4000, num)
    for max_bytes in (1000, 10_240, 20_480, 51_200, 10**6):
        size = largest_shard(nbytes, max_bytes)
        tars = [layout(nbytes[start : start + size])[1] for start in range(0, num, max(size, 1))]
        assert (size == 0 and max(layout(one[None])[1] for one in nbytes) > max_bytes) or max(tars) <= max_bytes
        if 0 < size < num:
            larger = [layout(nbytes[start : start + size + 1])[1] for start in range(0, num, size + 1)]
            assert max(larger) > max_bytes


@pytest.mark.parametrize("kind", ["synthetic"])
def test_from_the_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["repack", str(root), "--shard-size", "20480B", "--out", f"{tmp_path}/other"]) == 0
    assert read_records(str(root)).replica.content_root in capsys.readouterr().out
    assert max(path.stat().st_size for path in (tmp_path / "other/shards").iterdir()) <= 20480
    assert cli.main(["verify", f"{tmp_path}/other"]) == 0
    assert cli.main(["info", f"{tmp_path}/other"]) == 0
    assert "repacked" in capsys.readouterr().out
    assert cli.main(["repack", str(root), "--shard-size", "1kB", "--out", f"{tmp_path}/small"]) == 2
    assert "a tar of one sample is larger" in capsys.readouterr().err
    assert pq.read_table(tmp_path / "other/manifest.parquet").num_rows == 20
    shutil.rmtree(tmp_path / "other/_work")
    assert cli.main(["verify", f"{tmp_path}/other", "--level", "deep"]) == 0
