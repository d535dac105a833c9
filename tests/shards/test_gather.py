"""Freezing holds a bounded number of rows, and gives the bytes that it gave with all of them in memory."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from caskit.manifests.rejection import Rejection
from caskit.shards import buckets, freeze, gather, scan, shard_rows, tables
from caskit.shards.commit import commit_bytes, commit_name, describe_shard, read_commit, shard_path
from caskit.shards.freeze import gather_commits, write_manifest
from caskit.shards.records import Described
from caskit.shards.tables import histogram_groups

ORIGINS: dict[str, dict[str, Any]] = {
    "synthetic": {},
    "coded": {"record_codes": True},
    "judged": {"rejection": Rejection(candidates=2, classifier_id="ef" * 32)},
    "one shard": {"samples_per_shard": 100},
    "an empty class": {"histogram": (9, 0, 11), "quota": "like:" + "ab" * 32},
}


@pytest.fixture(params=[(2**17, 2**17, 8192, 2**18), (1, 1, 1, 2**18), (7, 5, 3, 4), (1, 100, 6, 2)])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of runs, blocks and row groups as they are, and so small that a tiny set has many."""
    run, block, group, largest = request.param
    monkeypatch.setattr(gather, "RUN_ROWS", run)
    monkeypatch.setattr(gather, "RUN_TABLES", 3)
    monkeypatch.setattr(gather, "BLOCK_ROWS", block)
    monkeypatch.setattr(tables, "GROUP_ROWS", group)
    monkeypatch.setattr(tables, "MAX_GROUP_ROWS", largest)
    monkeypatch.setattr(scan, "BATCH_ROWS", run)
    monkeypatch.setattr(shard_rows, "ROWS_AT_ONCE", run)
    monkeypatch.setattr(buckets, "HELD_BYTES", 64 * run)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", [*ORIGINS, "real"])
def test_a_manifest_has_the_bytes_of_one_sorted_at_once(
    tiny: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = tiny.ingest() if kind == "real" else tiny.plan(**ORIGINS[kind])
    store = tiny.committed(tmp_path / "set", origin)
    whole, shards = gather_commits(store, origin, None)
    due = io.BytesIO()
    write_manifest(whole, due)
    held = freeze._identify(store, Described(origin=origin), whole, shards)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("all rows were held")

    monkeypatch.setattr(freeze, "in_order", refuse)
    monkeypatch.setattr(freeze, "read_manifest", refuse)
    assert tiny.freeze(store) == held
    assert (tmp_path / "set/manifest.parquet").read_bytes() == due.getvalue()
    assert tiny.freeze(store) == held, "frozen again, from its manifest"
    (tmp_path / "set/replica.json").unlink()
    assert tiny.freeze(store) == held, "beside a manifest that is there"


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", ["synthetic", "real"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("label", 3), ("label", -1), ("label", 1), ("ordinal", 0), ("ordinal", 50), ("ordinal", -1),
        ("sample_id", 0), ("sample_id", 99), ("sample_id", -1), ("index_in_shard", 1), ("tar_offset", 512),
        ("nbytes", 0), ("nbytes", 5000), ("width", 6), ("key", "c00_000000"), ("key", "x" * 120),
    ],
)  # fmt: skip
def test_rows_that_are_not_the_sets_are_named(
    tiny: Any, tmp_path: Path, kind: str, column: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of freezing refuse them, and what is told is told by the one that holds all rows."""
    origin = tiny.ingest() if kind == "real" else tiny.plan()
    store = tiny.committed(tmp_path / "set", origin)
    rows = read_commit(store, 2)[0].to_pylist()
    if rows[3][column] == value:
        value = rows[4][column]
    rows[3][column] = value
    table = pa.Table.from_pylist(rows, schema=read_commit(store, 2)[0].schema)
    try:
        info = describe_shard(store.root / shard_path(2), table, shard=2, plan_id=origin.origin_id, environment_id="")
    except (ValueError, OverflowError):
        return  # no commit can say so: it has no canonical form
    path = store.root / commit_name(2)
    path.unlink()
    path.write_bytes(commit_bytes(table, info))
    if kind == "real" and column == "width":  # a real image may have any size
        tiny.freeze(store)
        return
    with pytest.raises(freeze.IntegrityError) as caught:
        tiny.freeze(store)
    monkeypatch.setattr(gather.Gathering, "add", lambda *_: False)  # then all rows are held
    with pytest.raises(freeze.IntegrityError) as held:
        tiny.freeze(store)
    assert str(caught.value) == str(held.value) and "key " in str(held.value)
    assert getattr(caught.value, "faults", ()) == getattr(held.value, "faults", ())
    assert not (store.root / "manifest.parquet").exists() and not list((store.root / "_work/tmp").iterdir())


def test_groups_of_a_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP_ROWS", 4)
    monkeypatch.setattr(tables, "MAX_GROUP_ROWS", 10)
    assert histogram_groups([3, 0, 3, 1, 0, 4]) == [0, 6]
    assert histogram_groups([0, 25, 1, 3, 1]) == [0, 10, 20, 25, 29]
    assert histogram_groups([10, 10]) == [0, 10]
    assert histogram_groups([1]) == [0]
