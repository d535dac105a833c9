import math
import os
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caskit.manifests.canonical import canonical_json, parse_canonical, sha256_hex
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.rejection import Rejection
from caskit.manifests.roots import ShardRecord, content_root, packing_root, rows_root
from caskit.manifests.rows import ROW_SCHEMA, sort_rows
from caskit.manifests.seeds import stream_key
from caskit.shards import row_checks
from caskit.shards.commit import commit_bytes, commit_name, describe_shard, read_commit, shard_path
from caskit.shards.digest import sha256_file
from caskit.shards.fault import BrokenSet
from caskit.shards.freeze import freeze, in_order
from caskit.shards.tables import GROUP_ROWS, class_groups, write_parquet


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_a_frozen_set_is_what_its_commits_say(tiny: Any, tmp_path: Path, kind: str) -> None:
    origin = tiny.plan() if kind == "synthetic" else tiny.ingest()
    store = tiny.committed(tmp_path / "set", origin)
    replica = tiny.freeze(store)
    commits = [read_commit(store, shard) for shard in range(4)]
    manifest = pq.read_table(tmp_path / "set/manifest.parquet")
    assert manifest.schema.equals(ROW_SCHEMA)
    assert manifest.equals(sort_rows(pa.concat_tables([rows for rows, _ in commits])))
    assert manifest.column("key").to_pylist() == sorted(manifest.column("key").to_pylist())
    shards = [
        ShardRecord(
            shard=info.shard, name=info.tar_name, num_samples=rows.num_rows, size_bytes=info.tar_size,
            sha256=sha256_file(tmp_path / "set" / shard_path(info.shard)),
        )
        for rows, info in commits
    ]  # fmt: skip
    assert pq.read_table(tmp_path / "set/shards.parquet").to_pylist() == [vars(shard) for shard in shards]
    samples = [(row["key"], row["label"], row["image_sha256"]) for row in manifest.to_pylist()]
    assert replica.content_root == content_root(samples, 3)
    assert replica.rows_root == rows_root(manifest)
    assert replica.packing_root == packing_root(shards)
    assert (replica.kind, replica.num_samples, replica.num_classes, replica.num_shards) == (kind, 20, 3, 4)
    assert replica.origin_sha256 == tiny.origin_id(origin)
    assert replica.class_list_sha256 == origin.classes.digest
    stored = (tmp_path / "set/replica.json").read_bytes()
    assert stored == replica.to_bytes() and sha256_hex(stored) == replica.replica_id


def test_codecs_and_last_shards_of_any_size(tiny: Any, tmp_path: Path) -> None:
    roots = set()
    for number, (num, size) in enumerate([(20, 6), (20, 20), (20, 100), (18, 6)]):
        plan = tiny.plan(num=num, samples_per_shard=size, codec=Codec.of("webp"))
        replica = tiny.freeze(tiny.committed(tmp_path / str(number), plan))
        assert replica.num_shards == -(-num // size)
        roots.add((num, replica.content_root))
    assert len(roots) == 2  # packing is no content


def test_clock_and_host_stay_out_of_the_identity(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    trees = []
    for name, created in (("a", "2026-01-01T00:00:00+00:00"), ("b", "2030-07-07T07:07:07+00:00")):
        store = tiny.committed(tmp_path / name, plan)
        tiny.freeze(store, created=created)
        os.utime(tmp_path / name / "shards/shard-000000.tar", (1, 1))
        trees.append(tiny.tree(tmp_path / name))
    assert trees[0].keys() == trees[1].keys()
    assert [name for name in trees[0] if trees[0][name] != trees[1][name]] == ["provenance.json"]
    provenance = parse_canonical(trees[0]["provenance.json"], name="provenance.json")
    assert provenance == {
        "format_version": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "environment_ids": ["cd" * 32],
        "licence": "cc0-1.0",
    }
    for name, data in trees[0].items():
        if name not in ("provenance.json",) and not name.startswith("_work/"):
            for secret in (os.fspath(tmp_path), os.uname().nodename, "2026-01-01", "cd" * 32):
                assert secret.encode() not in data, name


def test_order_of_commits_does_not_matter(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    expected = tiny.freeze(tiny.committed(tmp_path / "a", plan))
    store = tiny.start(tmp_path / "b", plan)
    for shard in (3, 0, 2, 1):
        tiny.commit(store, plan, shard)
    assert tiny.freeze(store) == expected


def test_unfinished_sets_say_what_is_missing(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    tiny.commit(store, plan, 1)
    before = tiny.tree(tmp_path / "set")
    with pytest.raises(NotFinished, match="set: 1 of 4 shards are committed, missing: 0, 2, 3$"):
        tiny.freeze(store)
    assert tiny.tree(tmp_path / "set") == before


def test_many_missing_shards_are_counted(tiny: Any, tmp_path: Path) -> None:
    store = tiny.start(tmp_path / "set", tiny.plan(num=300, samples_per_shard=3))
    with pytest.raises(NotFinished, match=r"0 of 100 .*missing: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.$"):
        tiny.freeze(store)


def test_freezing_again_changes_nothing(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.committed(tmp_path / "set", plan)
    replica = tiny.freeze(store)
    before = tiny.tree(tmp_path / "set")
    assert tiny.freeze(store, created="2031-01-01T00:00:00+00:00") == replica
    for shard in range(4):
        store.delete(commit_name(shard))  # a published set has no commits
    assert tiny.freeze(store) == replica
    before = {name: data for name, data in before.items() if not name.startswith("_work/")}
    assert tiny.tree(tmp_path / "set") == before


def test_death_at_every_call_then_the_same_command_gives_the_same_bytes(
    tiny: Any, killer: Any, killed: type[BaseException], tmp_path: Path
) -> None:
    plan = tiny.plan(num=6)
    store = tiny.committed(tmp_path / "undisturbed", plan)
    with killer.armed(None) as calls:
        tiny.freeze(store)
    expected = tiny.tree(store.root)
    for at in range(len(calls)):
        store = tiny.committed(tmp_path / f"killed-{at}", plan)
        with killer.armed(at), pytest.raises(killed):
            tiny.freeze(store)
        present = tiny.tree(store.root)
        assert all(expected[name] == data for name, data in present.items())
        tiny.freeze(store)
        assert tiny.tree(store.root) == expected, f"killed at call {at}, {calls[at]}"


def test_two_freezers_at_once_agree(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny.plan()
    store = tiny.committed(tmp_path / "set", plan)
    real, replicas = type(store).create, []

    def create(self: Any, name: str, data: bytes) -> None:
        if name == "shards.parquet" and not replicas:  # the other one overtakes here
            replicas.append(None)
            replicas[0] = tiny.freeze(store, created="2026-01-01T00:00:01+00:00")
        real(self, name, data)

    monkeypatch.setattr(type(store), "create", create)
    assert tiny.freeze(store) == replicas[0]


def rewrite(tiny: Any, store: Any, origin: Any, shard: int, column: str, change: Any, *, row: int = 1) -> str:
    """Edit a committed row and the digest that guards it, as a program with a fault would; returns the row's key."""
    rows, info = read_commit(store, shard)
    values = rows.to_pylist()
    key: str = values[row]["key"]
    values[row][column] = change(values[row][column]) if callable(change) else change
    rows = pa.Table.from_pylist(values, schema=ROW_SCHEMA)
    tar = store.root / shard_path(shard)
    info = describe_shard(tar, rows, shard=shard, plan_id=info.plan_id, environment_id=info.environment_id)
    store.delete(commit_name(shard))
    store.create(commit_name(shard), commit_bytes(rows, info))
    return key


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("key", "c00_000099"),
        ("sample_id", 3),
        ("sample_id", 400),
        ("label", lambda label: (label + 1) % 3),
        ("label", 3),
        ("ordinal", lambda ordinal: ordinal + 1),
        ("index_in_shard", 0),
        ("tar_offset", lambda offset: offset + 512),
        ("nbytes", lambda nbytes: nbytes + 512),
        ("width", 4),
        ("height", 5),
        ("stream_key", bytes(16)),
        ("stream_key", None),
        ("attempt", 1),
        ("attempt", 4),
        ("attempt", None),
        ("source", "elsewhere.png"),
        ("pixel_sha256", bytes(32)),
        ("filter_score", 0.5),
    ],
)
def test_rows_that_are_not_the_plans_are_refused(tiny: Any, tmp_path: Path, column: str, change: Any) -> None:
    plan = tiny.plan()
    store = tiny.committed(tmp_path / "set", plan)
    rewrite(tiny, store, plan, 2, column, change)
    with pytest.raises(IntegrityError, match="key c0"):
        tiny.freeze(store)
    assert not store.exists("replica.json")


REJECTION = Rejection(candidates=3, classifier_id="ef" * 32)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("filter_score", None, "filter_score is missing in a synthetic set with rejection"),
        ("filter_score", 0.5, "filter_score is 0.5, a log-probability is finite and at most 0"),
        ("filter_score", -math.inf, "filter_score is -inf, a log-probability .*"),
        ("filter_score", math.nan, "filter_score is nan, a log-probability .*"),
        ("attempt", 12, "attempt is 12, the plan allows 0..11"),
        ("attempt", 3, "stream_key is not the one that the plan's seed gives"),
    ],
)
def test_rows_that_rejection_does_not_give_are_refused(
    tiny: Any, tmp_path: Path, column: str, change: Any, message: str
) -> None:
    plan = tiny.plan(rejection=REJECTION)
    store = tiny.committed(tmp_path / "set", plan)
    key = rewrite(tiny, store, plan, 2, column, change)
    with pytest.raises(BrokenSet, match=f"key {key}: {message}$"):
        tiny.freeze(store)


def test_scores_come_with_rejection_only(tiny: Any, tmp_path: Path) -> None:
    assert tiny.freeze(tiny.committed(tmp_path / "filtered", tiny.plan(rejection=REJECTION))).num_samples == 20
    for name, origin, described in (
        ("plain", tiny.plan(), "synthetic set without rejection"),
        ("real", tiny.ingest(), "real set"),
    ):
        store = tiny.committed(tmp_path / name, origin)
        key = rewrite(tiny, store, origin, 2, "filter_score", -0.5)
        with pytest.raises(BrokenSet, match=f"key {key}: filter_score is there in a {described}$"):
            tiny.freeze(store)


def test_an_attempt_of_a_later_round_is_allowed_with_its_stream(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan(rejection=REJECTION)
    store = tiny.committed(tmp_path / "set", plan)
    rows = read_commit(store, 2)[0].to_pylist()
    stream = stream_key(plan.seed, rows[1]["label"], rows[1]["ordinal"], 11)
    rewrite(tiny, store, plan, 2, "attempt", 11)
    rewrite(tiny, store, plan, 2, "stream_key", stream)
    assert tiny.freeze(store).num_samples == 20


@pytest.mark.parametrize(
    ("column", "change"),
    [("stream_key", bytes(16)), ("attempt", 0), ("source", None), ("width", 0), ("sample_id", 3), ("label", 2)],
)
def test_rows_that_no_real_set_has_are_refused(tiny: Any, tmp_path: Path, column: str, change: Any) -> None:
    ingest = tiny.ingest()
    store = tiny.committed(tmp_path / "set", ingest)
    rewrite(tiny, store, ingest, 1, column, change)
    with pytest.raises(IntegrityError, match="key c0"):
        tiny.freeze(store)


def test_two_swapped_commits_are_refused(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.committed(tmp_path / "set", plan)
    first, second = (tmp_path / "set" / commit_name(shard) for shard in (0, 1))
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    with pytest.raises(IntegrityError, match=r"000000.parquet: says shard 1"):
        tiny.freeze(store)


def test_a_commit_for_another_plan_is_refused(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.committed(tmp_path / "set", plan)
    store.delete(commit_name(3))
    store.delete(shard_path(3))
    tiny.commit(store, tiny.plan(preset="other"), 3)
    with pytest.raises(IntegrityError, match=f"shard-000003.tar is committed for .*, not {plan.plan_id}"):
        tiny.freeze(store)


def test_a_commit_too_many_is_refused(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.committed(tmp_path / "set", plan)
    store.create(commit_name(4), store.read(commit_name(3)))
    with pytest.raises(IntegrityError, match="shard 4 is committed, the set has 4 shards"):
        tiny.freeze(store)


def test_tars_must_be_there_in_their_size_and_no_others(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.committed(tmp_path / "set", plan)
    store.create("shards/shard-000004.tar", b"")
    with pytest.raises(IntegrityError, match="shards/shard-000004.tar is not part of the set"):
        tiny.freeze(store)
    store.delete("shards/shard-000004.tar")
    path = tmp_path / "set" / shard_path(2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-512])
    with pytest.raises(IntegrityError, match="shards/shard-000002.tar has 19968 bytes, committed: 20480"):
        tiny.freeze(store)
    path.unlink()
    with pytest.raises(IntegrityError, match="shards/shard-000002.tar is committed but missing"):
        tiny.freeze(store)
    path.write_bytes(whole)
    tiny.freeze(store)


def test_a_frozen_set_that_was_edited_is_refused(tiny: Any, tmp_path: Path) -> None:
    store = tiny.committed(tmp_path / "set", tiny.plan())
    replica = tiny.freeze(store)
    path = tmp_path / "set/replica.json"
    path.write_bytes(path.read_bytes().replace(replica.rows_root.encode(), b"0" * 64))
    with pytest.raises(IntegrityError, match="replica.json: differs from the set in rows_root"):
        tiny.freeze(store)


@pytest.mark.parametrize("name", ["manifest.parquet", "shards.parquet"])
def test_tables_of_another_set_in_the_way_are_refused(tiny: Any, tmp_path: Path, name: str) -> None:
    other = tiny.committed(tmp_path / "other", tiny.plan(seed=8))
    tiny.freeze(other)
    store = tiny.committed(tmp_path / "set", tiny.plan())
    store.create(name, other.read(name))
    with pytest.raises(IntegrityError, match=f"{name}: is there and says something else than the commits"):
        tiny.freeze(store)


@pytest.mark.parametrize(("column", "value"), [("tar_offset", -1), ("key", "\xe4"), ("attempt", -3)])
def test_a_manifest_in_the_way_without_a_root_is_refused(tiny: Any, tmp_path: Path, column: str, value: Any) -> None:
    store = tiny.committed(tmp_path / "set", tiny.plan())
    tiny.freeze(store)
    rows = pq.read_table(tmp_path / "set/manifest.parquet").to_pylist()
    rows[3][column] = value
    (tmp_path / "set/replica.json").unlink()
    (tmp_path / "set/manifest.parquet").unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), tmp_path / "set/manifest.parquet")
    with pytest.raises(IntegrityError, match="manifest.parquet: is there, and a row has no canonical form"):
        tiny.freeze(store)


def test_folders_without_a_set_are_refused(tiny: Any, tmp_path: Path) -> None:
    store = tiny.start(tmp_path / "set", tiny.plan())
    store.create("ingest.json", tiny.ingest().to_bytes())
    with pytest.raises(InputError, match="set: holds plan.json and ingest.json, a set has one"):
        tiny.freeze(store)
    store.delete("ingest.json")
    store.delete("plan.json")
    with pytest.raises(InputError, match="set: holds no set"):
        tiny.freeze(store)
    store.create("plan.json", canonical_json({"format_version": 2}))
    with pytest.raises(InputError, match="a newer set needs a newer caskit"):
        freeze(store, provenance={}, created="")


def test_row_groups_hold_whole_classes(tmp_path: Path) -> None:
    counts = [GROUP_ROWS - 1, 2, GROUP_ROWS * 3, 1, 1]
    labels = pa.array([label for label, count in enumerate(counts) for _ in range(count)], pa.int64())
    starts = class_groups(labels.to_numpy())
    assert starts == [0, GROUP_ROWS + 1, GROUP_ROWS * 4 + 1]
    with (tmp_path / "x.parquet").open("wb") as file:
        write_parquet(pa.table({"label": labels}), file, group_starts=starts)
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    assert [metadata.row_group(n).num_rows for n in range(3)] == [GROUP_ROWS + 1, GROUP_ROWS * 3, 2]
    assert metadata.row_group(1).column(0).statistics.min == 2


def test_rows_become_python_objects_a_bounded_number_at_a_time(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    spelled = row_checks.keys_at

    def keys_at(records: Any, labels: Any, ordinals: Any) -> list[str]:
        asked.append(len(labels))
        return spelled(records, labels, ordinals)

    monkeypatch.setattr(row_checks, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(row_checks, "keys_at", keys_at)
    plan = tiny.plan()
    assert tiny.freeze(tiny.committed(tmp_path / "good", plan)).num_samples == 20
    assert asked == [3] * 6 + [2]
    for column, change, message in (
        ("stream_key", bytes(16), "stream_key is not the one that the plan's seed gives"),
        ("attempt", 99, "attempt is 99, the plan allows 0..3"),
    ):
        store = tiny.committed(tmp_path / column, plan)
        key = rewrite(tiny, store, plan, 2, column, change)
        with pytest.raises(BrokenSet, match=f"key {key}: {message}$"):
            tiny.freeze(store)


def test_freezing_holds_no_column_in_both_orders(tiny: Any, tmp_path: Path) -> None:
    store = tiny.committed(tmp_path / "set", tiny.plan())
    tables = [read_commit(store, shard)[0] for shard in range(4)]
    expected = sort_rows(pa.concat_tables(tables))
    assert in_order(tables).equals(expected)
    assert not tables


@pytest.mark.parametrize("most_bytes", [0, 1000, 4000])
def test_a_disk_that_takes_no_more_is_named(tiny: Any, tmp_path: Path, most_bytes: int) -> None:
    """A limit of the size of files stands for a full disk."""
    store = tiny.committed(tmp_path / "set", tiny.plan())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        with pytest.raises(OSError) as caught:
            tiny.freeze(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value.filename).startswith(str(tmp_path / "set"))
    assert not (tmp_path / "set/replica.json").exists()
    assert tiny.freeze(store).num_samples == 20
