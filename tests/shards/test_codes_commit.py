"""The commit protocol, freezing and opening where codes are recorded: a sidecar fares as a tar does."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from caskit.manifests.errors import IntegrityError, NonReproducible
from caskit.manifests.rows import ROW_SCHEMA
from caskit.shards import dataset
from caskit.shards.codes import codes_path
from caskit.shards.commit import commit_shard, committed_shards, describe_shard, read_commit, shard_path
from caskit.shards.dataset import open_set
from caskit.shards.fault import BrokenSet
from caskit.shards.store import LocalStore
from caskit.shards.verify import verify

RACE = """
import pickle, sys, time
from pathlib import Path
from caskit.manifests.errors import NonReproducible
from caskit.shards.commit import commit_shard
from caskit.shards.store import LocalStore
me, other, root, jobs = sys.argv[1:]
outcomes = []
for shard, (path, rows, info, codes) in enumerate(pickle.loads(Path(jobs).read_bytes())):
    Path(root, f"ready-{me}-{shard}").touch()
    while not Path(root, f"ready-{other}-{shard}").exists():
        time.sleep(0)
    try:
        outcomes.append(commit_shard(LocalStore(Path(root, "set")), path, rows, info, codes=codes))
    except NonReproducible:
        outcomes.append("refused")
print(" ".join(outcomes))
"""


def commit(store: LocalStore, made: Any, **options: Any) -> str:
    return commit_shard(store, made.path, made.rows, made.info, codes=made.codes, **options)


def content(store: LocalStore, tiny: Any) -> dict[str, bytes]:
    return dict(tiny.tree(store.root))


def test_a_commit_leaves_tar_sidecar_and_rows(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 2, tmp_path / "scratch")
    assert commit(store, made) == "committed" and commit(store, made) == "already"
    assert store.names("codes/") == [codes_path(2)] and store.names("shards/") == [shard_path(2)]
    assert store.read(codes_path(2)) == made.codes.read_bytes()
    assert read_commit(store, 2)[0].equals(made.rows)


def test_death_at_every_call_then_the_same_command_gives_the_same_bytes(
    tiny: Any, killer: Any, killed: type[BaseException], tmp_path: Path
) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.start(tmp_path / "undisturbed", plan)
    made = tiny.shard(plan, 0, store.root / "_work/tmp")
    with killer.armed(None) as calls:
        commit(store, made)
    expected = content(store, tiny)
    assert calls.count("link") == 3
    outcomes = []
    for at in range(len(calls)):
        store = tiny.start(tmp_path / f"killed-{at}", plan)
        made = tiny.shard(plan, 0, store.root / "_work/tmp")
        with killer.armed(at), pytest.raises(killed):
            commit(store, made)
        if store.names("_work/commits/"):
            assert store.names("codes/") and store.names("shards/"), "a commit comes last"
        outcomes.append(commit(store, tiny.shard(plan, 0, store.root / "_work/tmp")))
        assert content(store, tiny) == expected, f"killed at call {at}, {calls[at]}"
    assert set(outcomes) == {"committed", "adopted", "already"}


@pytest.mark.parametrize("code_salt", [b"", b"other codes"])
def test_twin_processes_commit_each_shard_once(tiny: Any, tmp_path: Path, code_salt: bytes) -> None:
    plan = tiny.plan(num=60, samples_per_shard=3, record_codes=True)
    store = tiny.start(tmp_path / "set", plan)
    twins = []
    for me, other, salt in (("a", "b", b""), ("b", "a", code_salt)):
        shards = [tiny.shard(plan, n, store.root / "_work/tmp" / me, code_salt=salt) for n in range(plan.num_shards)]
        jobs = tmp_path / f"jobs-{me}"
        jobs.write_bytes(pickle.dumps([(made.path, made.rows, made.info, made.codes) for made in shards]))
        command = [sys.executable, "-c", RACE, me, other, os.fspath(tmp_path), os.fspath(jobs)]
        twins.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    outcomes = [twin.communicate(timeout=200)[0].split() for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0]
    for shard, pair in enumerate(zip(*outcomes, strict=True)):
        if code_salt:  # the tars are equal, so neither the sidecar nor the commit may be of both
            assert sorted(pair)[-1] == "refused" and len(set(pair)) == 2
        else:
            assert sum(outcome in ("committed", "adopted") for outcome in pair) == 1 and "already" in pair
        assert shard in committed_shards(store)
    tiny.freeze(store)
    verify(str(store.root), "full")
    assert bool(store.names("quarantine/")) == bool(code_salt)


def test_an_orphan_of_equal_codes_is_adopted_whatever_its_bytes(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 1, tmp_path / "scratch")
    pa.parquet.write_table(pa.parquet.read_table(made.codes), tmp_path / "other.parquet", compression="none")
    assert (tmp_path / "other.parquet").read_bytes() != made.codes.read_bytes()
    store.create_from(codes_path(1), tmp_path / "other.parquet")
    assert commit(store, made) == "adopted"


@pytest.mark.parametrize("orphan", ["other codes", "cut", "another shard's"])
def test_an_orphan_of_other_codes_is_kept_until_told_otherwise(tiny: Any, tmp_path: Path, orphan: str) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 1, tmp_path / "scratch")
    data = {
        "other codes": tiny.shard(plan, 1, tmp_path / "other", code_salt=b"other").codes.read_bytes(),
        "cut": made.codes.read_bytes()[:-9],
        "another shard's": tiny.shard(plan, 0, tmp_path / "other").codes.read_bytes(),
    }[orphan]
    store.create(codes_path(1), data)
    for _ in range(2):
        with pytest.raises(NonReproducible, match="codes/shard-000001.parquet is there without a commit.*--discard-"):
            commit(store, made)
        assert store.read(codes_path(1)) == data and committed_shards(store) == set()
    assert made.codes.read_bytes() in [store.read(name) for name in store.names("quarantine/")]
    assert commit(store, made, discard_orphans=True) in ("committed", "adopted")
    assert store.read(codes_path(1)) == made.codes.read_bytes()


def test_both_orphans_are_discarded_at_once(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.start(tmp_path / "set", plan)
    other = tiny.shard(plan, 1, tmp_path / "other", salt=b"other", code_salt=b"other")
    store.create_from(shard_path(1), other.path)
    store.create_from(codes_path(1), other.codes)
    made = tiny.shard(plan, 1, tmp_path / "scratch")
    assert commit(store, made, discard_orphans=True) == "committed"
    assert store.read(codes_path(1)) == made.codes.read_bytes()


def test_other_codes_for_a_committed_shard_go_to_quarantine(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.start(tmp_path / "set", plan)
    tiny.commit(store, plan, 0)
    before = content(store, tiny)
    other = tiny.shard(plan, 0, tmp_path / "scratch", code_salt=b"other")
    with pytest.raises(NonReproducible, match="shard-000000.tar is committed with sha256"):
        commit(store, other)
    after = content(store, tiny)
    assert {name: after[name] for name in before} == before
    assert other.codes.read_bytes() in after.values()


def test_codes_that_are_not_the_rows_are_not_committed(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.start(tmp_path / "set", plan)
    made, other = tiny.shard(plan, 0, tmp_path / "a"), tiny.shard(plan, 0, tmp_path / "b", code_salt=b"other")
    key = made.rows.column("key")[0].as_py()
    with pytest.raises(IntegrityError, match=f"codes/shard-000000.parquet: key {key}: the codes are not those of row"):
        commit_shard(store, made.path, made.rows, made.info, codes=other.codes)
    with pytest.raises(IntegrityError, match="the rows have digests of codes, but there is no sidecar"):
        commit_shard(store, made.path, made.rows, made.info)
    rows = made.rows.to_pylist()
    plain = pa.Table.from_pylist([{**row, "codes_sha256": None} for row in rows], schema=ROW_SCHEMA)
    info = describe_shard(made.path, plain, shard=0, plan_id=plan.plan_id, environment_id="")
    with pytest.raises(IntegrityError, match="the codes are not those of row 0"):
        commit_shard(store, made.path, plain, info, codes=made.codes)
    assert store.names("") == ["plan.json"]


def test_freezing_wants_every_sidecar_and_no_other(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan(record_codes=True)
    store = tiny.committed(tmp_path / "set", plan)
    data = store.read(codes_path(2))
    store.delete(codes_path(2))
    with pytest.raises(BrokenSet, match="codes/shard-000002.parquet: key .*: is missing, with the codes of this key"):
        tiny.freeze(store)
    store.create(codes_path(2), data[: len(data) // 2])
    with pytest.raises(BrokenSet, match="codes/shard-000002.parquet: not a whole Parquet file"):
        tiny.freeze(store)
    store.delete(codes_path(2))
    store.create(codes_path(2), data)
    store.create(codes_path(9), data)
    with pytest.raises(BrokenSet, match="codes/shard-000009.parquet: an extra file, no sidecar of this set"):
        tiny.freeze(store)
    store.delete(codes_path(9))
    tiny.freeze(store)


@pytest.mark.parametrize("recorded", [True, False])
def test_rows_have_digests_if_and_only_if_the_plan_records_codes(tiny: Any, tmp_path: Path, recorded: bool) -> None:
    """A set put together from commits of the other kind is not frozen."""
    plan, other = tiny.plan(record_codes=recorded), tiny.plan(record_codes=not recorded)
    store = tiny.start(tmp_path / "set", plan)
    for shard in range(plan.num_shards):
        made = tiny.shard(other, shard, tmp_path / "scratch")
        info = describe_shard(made.path, made.rows, shard=shard, plan_id=plan.plan_id, environment_id="")
        commit_shard(store, made.path, made.rows, info, codes=made.codes)
    with pytest.raises(BrokenSet, match=f"codes_sha256 is {'missing' if recorded else 'there'} in a synthetic set"):
        tiny.freeze(store)


def test_recorded_codes_are_in_the_identity(tiny: Any, tmp_path: Path) -> None:
    replicas = []
    for name, salt in (("a", b""), ("b", b"other")):
        plan = tiny.plan(record_codes=True)
        store = tiny.start(tmp_path / name, plan)
        for shard in range(plan.num_shards):
            commit(store, tiny.shard(plan, shard, tmp_path / f"scratch-{name}", code_salt=salt))
        replicas.append(tiny.freeze(store))
    assert replicas[0].rows_root != replicas[1].rows_root
    assert replicas[0].content_root == replicas[1].content_root
    assert replicas[0].packing_root == replicas[1].packing_root


def test_a_touched_sidecar_makes_the_receipt_void(tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    root = tiny.frozen(tmp_path / "set", tiny.plan(record_codes=True))[0].root
    made: list[str] = []
    real = dataset.verify_records
    monkeypatch.setattr(dataset, "verify_records", lambda *a, **o: (made.append(a[1]), real(*a, **o))[1])
    open_set(str(root))
    open_set(str(root))
    os.utime(root / codes_path(1), ns=(1, 1))
    open_set(str(root))
    assert made == ["full", "full"]


def test_the_card_lists_sidecars(tiny: Any, tmp_path: Path) -> None:
    root = tiny.frozen(tmp_path / "set", tiny.plan(record_codes=True))[0].root
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("codes/shard-00000") == 4
    croissant = (root / "croissant.json").read_text()
    assert '"codes/shard-000003.parquet"' in croissant
    assert "`codes/` holds the codes" in (root / "README.md").read_text()
    plain = tiny.frozen(tmp_path / "plain", tiny.plan())[0].root
    assert "codes/" not in (plain / "README.md").read_text()
