import dataclasses
import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from caskit.manifests.errors import InputError, IntegrityError, NonReproducible
from caskit.shards.commit import (
    CommitInfo,
    commit_bytes,
    commit_name,
    commit_shard,
    committed_shards,
    describe_shard,
    read_commit,
    read_commit_info,
    shard_path,
)
from caskit.shards.digest import sha256_stored
from caskit.shards.store import LocalStore
from caskit.shards.tar import read_samples


def check_whole(store: LocalStore) -> None:
    """Every object with a name of its own is whole, and a committed shard has the tar that its commit states."""
    for name in store.names("shards/"):
        with store.open(name) as file:
            list(read_samples(file, name=name))
    for shard in committed_shards(store):
        _, info = read_commit(store, shard)
        assert store.size(shard_path(shard)) == info.tar_size
        assert sha256_stored(store, shard_path(shard)) == info.tar_sha256


def test_a_commit_says_what_was_committed(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 2, tmp_path / "scratch")
    assert commit_shard(store, made.path, made.rows, made.info) == "committed"
    rows, info = read_commit(store, 2)
    assert info == made.info == read_commit_info(store, 2) and rows.equals(made.rows)
    assert (tmp_path / "set/shards/shard-000002.tar").read_bytes() == made.path.read_bytes()
    assert committed_shards(store) == {2}
    assert commit_shard(store, made.path, made.rows, made.info) == "already"


def test_death_at_every_call_then_the_same_command_gives_the_same_bytes(
    tiny: Any, killer: Any, killed: type[BaseException], tmp_path: Path
) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "undisturbed", plan)
    made = tiny.shard(plan, 0, store.root / "_work/tmp")
    with killer.armed(None) as calls:
        commit_shard(store, made.path, made.rows, made.info)
    expected = tiny.tree(store.root)
    assert calls.count("link") == 2 and calls.count("write") == 1  # the tar is linked, the commit written
    outcomes = []
    for at in range(len(calls)):
        store = tiny.start(tmp_path / f"killed-{at}", plan)
        made = tiny.shard(plan, 0, store.root / "_work/tmp")
        with killer.armed(at), pytest.raises(killed):
            commit_shard(store, made.path, made.rows, made.info)
        check_whole(store)
        again = tiny.shard(plan, 0, store.root / "_work/tmp")  # the same scratch name, as after a crash
        outcomes.append(commit_shard(store, again.path, again.rows, again.info))
        assert tiny.tree(store.root) == expected, f"killed at call {at}, {calls[at]}"
    assert set(outcomes) == {"committed", "adopted", "already"}


RACE = """
import pickle, sys, time
from pathlib import Path
from caskit.manifests.errors import NonReproducible
from caskit.shards.commit import commit_shard
from caskit.shards.store import LocalStore
me, other, root, jobs = sys.argv[1:]
outcomes = []
for shard, (path, rows, info) in enumerate(pickle.loads(Path(jobs).read_bytes())):
    Path(root, f"ready-{me}-{shard}").touch()
    while not Path(root, f"ready-{other}-{shard}").exists():
        time.sleep(0)
    try:
        outcomes.append(commit_shard(LocalStore(Path(root, "set")), path, rows, info))
    except NonReproducible:
        outcomes.append("refused")
print(" ".join(outcomes))
"""


@pytest.mark.parametrize("salt", [b"", b"other pixels"])
def test_twin_processes_commit_each_shard_once(tiny: Any, tmp_path: Path, salt: bytes) -> None:
    plan = tiny.plan(num=60, samples_per_shard=3)
    store = tiny.start(tmp_path / "set", plan)
    twins = []
    for me, other, pixels in (("a", "b", b""), ("b", "a", salt)):
        shards = [tiny.shard(plan, n, store.root / "_work/tmp" / me, salt=pixels) for n in range(plan.num_shards)]
        jobs = tmp_path / f"jobs-{me}"
        jobs.write_bytes(pickle.dumps([(made.path, made.rows, made.info) for made in shards]))
        command = [sys.executable, "-c", RACE, me, other, os.fspath(tmp_path), os.fspath(jobs)]
        twins.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    outcomes = [twin.communicate(timeout=100)[0].split() for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0]
    for pair in zip(*outcomes, strict=True):
        assert sum(outcome in ("committed", "adopted") for outcome in pair) == 1
        assert set(pair) - {"committed", "adopted"} == {"refused" if salt else "already"}
    check_whole(store)
    assert committed_shards(store) == set(range(20))
    assert len(store.names("quarantine/")) == (40 if salt else 0)


def test_an_orphan_with_equal_bytes_is_adopted(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 1, tmp_path / "scratch")
    store.create_from(shard_path(1), made.path)
    assert commit_shard(store, made.path, made.rows, made.info) == "adopted"
    assert committed_shards(store) == {1}


def test_an_orphan_with_other_bytes_is_kept_until_told_otherwise(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    orphan = tiny.shard(plan, 1, tmp_path / "orphan", salt=b"other")
    store.create_from(shard_path(1), orphan.path)
    made = tiny.shard(plan, 1, tmp_path / "scratch")
    for _ in range(2):  # the second try finds its own bytes in quarantine
        with pytest.raises(NonReproducible, match="shard-000001.tar is there without a commit.*--discard-orphans") as e:
            commit_shard(store, made.path, made.rows, made.info)
        assert orphan.info.tar_sha256 in str(e.value) and made.info.tar_sha256 in str(e.value)
        assert "\n" not in str(e.value)
        assert sha256_stored(store, shard_path(1)) == orphan.info.tar_sha256
        assert committed_shards(store) == set()
    tar, rows = sorted(store.names("quarantine/"), key=lambda name: name.endswith("parquet"))
    assert store.read(tar) == made.path.read_bytes()
    assert store.read(rows) == commit_bytes(made.rows, made.info)
    assert commit_shard(store, made.path, made.rows, made.info, discard_orphans=True) == "committed"
    check_whole(store)


def test_death_while_an_orphan_is_discarded(
    tiny: Any, killer: Any, killed: type[BaseException], tmp_path: Path
) -> None:
    plan = tiny.plan()

    def prepare(name: str) -> tuple[LocalStore, Any]:
        store = tiny.start(tmp_path / name, plan)
        orphan = tiny.shard(plan, 0, tmp_path / f"{name}-orphan", salt=b"other")
        store.create_from(shard_path(0), orphan.path)
        return store, tiny.shard(plan, 0, store.root / "_work/tmp")

    store, made = prepare("undisturbed")
    with killer.armed(None) as calls:
        commit_shard(store, made.path, made.rows, made.info, discard_orphans=True)
    expected = tiny.tree(store.root)
    for at in range(len(calls)):
        store, made = prepare(f"killed-{at}")
        with killer.armed(at), pytest.raises(killed):
            commit_shard(store, made.path, made.rows, made.info, discard_orphans=True)
        check_whole(store)
        commit_shard(store, made.path, made.rows, made.info, discard_orphans=True)
        assert tiny.tree(store.root) == expected


def test_other_bytes_for_a_committed_shard_go_to_quarantine(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    tiny.commit(store, plan, 0)
    before = tiny.tree(store.root)
    other = tiny.shard(plan, 0, tmp_path / "scratch", salt=b"other")
    for discard in (False, True):  # a commit is no orphan
        with pytest.raises(NonReproducible, match="shard-000000.tar is committed with sha256"):
            commit_shard(store, other.path, other.rows, other.info, discard_orphans=discard)
    after = tiny.tree(store.root)
    assert {name: after[name] for name in before} == before
    assert other.path.read_bytes() in after.values()


def test_another_environment_with_equal_bytes_is_no_difference(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 0, tmp_path / "scratch")
    commit_shard(store, made.path, made.rows, made.info)
    info = dataclasses.replace(made.info, environment_id="ef" * 32)
    assert commit_shard(store, made.path, made.rows, info) == "already"


def test_another_plan_is_refused_by_name(tiny: Any, tmp_path: Path) -> None:
    plan, other = tiny.plan(), tiny.plan(family="another")
    store = tiny.start(tmp_path / "set", plan)
    tiny.commit(store, plan, 0)
    with pytest.raises(InputError, match=f"committed for plan {plan.plan_id}, not for {other.plan_id}"):
        tiny.commit(store, other, 0)


@pytest.mark.parametrize("call", ["write", "link", "mkdir"])
def test_a_full_disk_leaves_nothing_under_a_name(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 0, tmp_path / "scratch")  # outside the set: it has to be copied
    before = tiny.tree(store.root)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left on device") as error:
            commit_shard(store, made.path, made.rows, made.info)
        assert error.value.errno == errno.ENOSPC
    assert tiny.tree(store.root) == before
    assert store.names("_work/tmp/") == []
    assert commit_shard(store, made.path, made.rows, made.info) == "committed"


@pytest.mark.parametrize("column", ["key", "label", "tar_offset", "nbytes", "image_sha256", "index_in_shard", "shard"])
def test_rows_that_are_not_the_tars_are_not_committed(tiny: Any, tmp_path: Path, column: str) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 0, tmp_path / "scratch")
    values = made.rows.to_pylist()
    other = {"key": "c00_999999", "image_sha256": bytes(32)}
    values[3][column] = other.get(column, 77)
    rows = pa.Table.from_pylist(values, schema=made.rows.schema)
    key = made.rows.column("key")[3].as_py()
    info = describe_shard(made.path, rows, shard=0, plan_id=plan.plan_id, environment_id="")
    with pytest.raises(IntegrityError, match=f"shard-000000.tar: key {key}: the tar does not hold what row 3 says"):
        commit_shard(store, made.path, rows, info)
    assert store.names("") == ["plan.json"]


def test_a_tar_that_changed_after_it_was_described_is_not_committed(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 0, tmp_path / "scratch")
    other = tiny.shard(plan, 0, tmp_path / "other", salt=b"other")
    fewer = made.rows.slice(0, 5)
    with pytest.raises(IntegrityError, match="the tar does not hold what row 5 says"):
        commit_shard(store, made.path, fewer, made.info)
    with pytest.raises(IntegrityError, match="6 samples in the tar, 7 rows"):
        commit_shard(store, made.path, pa.concat_tables([made.rows, made.rows.slice(5)]), made.info)
    with pytest.raises(IntegrityError, match="size or digests"):
        commit_shard(store, other.path, other.rows, made.info)
    with pytest.raises(IntegrityError, match="columns differ"):
        commit_shard(store, made.path, made.rows.drop_columns("source"), made.info)
    assert store.names("") == ["plan.json"]


def damage(data: bytes) -> dict[str, bytes]:
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 1
    return {"cut": data[: len(data) // 2], "empty": b"", "flipped": bytes(flipped), "text": b"no Parquet at all"}


@pytest.mark.parametrize("fault", ["cut", "empty", "flipped", "text"])
def test_a_damaged_commit_is_refused(tiny: Any, tmp_path: Path, fault: str) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    tiny.commit(store, plan, 0)
    path = store.root / commit_name(0)
    path.write_bytes(damage(path.read_bytes())[fault])
    with pytest.raises(IntegrityError, match="_work/commits/000000.parquet"):
        read_commit(store, 0)


def test_a_commit_under_another_number_is_refused(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    store = tiny.start(tmp_path / "set", plan)
    made = tiny.shard(plan, 0, tmp_path / "scratch")
    store.create(commit_name(1), commit_bytes(made.rows, made.info))
    with pytest.raises(IntegrityError, match="says shard 0"):
        read_commit(store, 1)
    edited = made.rows.set_column(3, made.rows.schema.field(3), pa.array(range(6), pa.int64()))
    store.create(commit_name(0), commit_bytes(edited, made.info))
    with pytest.raises(IntegrityError, match="holds rows"):
        read_commit(store, 0)
    with pytest.raises(FileNotFoundError):
        read_commit(store, 2)


def test_strays_are_no_commits(tiny: Any, tmp_path: Path) -> None:
    store = tiny.start(tmp_path / "set", tiny.plan())
    for name in ("000001.parquet.tmp", "1.parquet", "0000002.parquet", "x000003.parquet"):
        store.create(f"_work/commits/{name}", b"")
    assert committed_shards(store) == set()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("shard", -1, "shard is -1"),
        ("tar_name", "shard-000001.tar", "shard 0 is shard-000000.tar"),
        ("tar_sha256", "AB" * 32, "64 lower-case hex digits"),
        ("environment_id", "x", "64 lower-case hex digits"),
        ("format_version", 2, "a newer set needs a newer caskit"),
    ],
)
def test_bad_commit_facts_are_refused(field: str, value: Any, message: str) -> None:
    good = {
        "shard": 0,
        "plan_id": "0" * 64,
        "tar_name": "shard-000000.tar",
        "tar_size": 10240,
        "tar_sha256": "1" * 64,
        "rows_digest": "2" * 64,
        "environment_id": "",
    }
    with pytest.raises(InputError, match=message):
        CommitInfo(**{**good, field: value})


def test_what_a_damaged_commit_says_is_not_read(tiny: Any, tmp_path: Path) -> None:
    store = tiny.committed(tmp_path / "set", tiny.plan())
    path = tmp_path / "set" / commit_name(1)
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-4] + b"PAR2", bytes([0xFF]) * 64 + whole[-8:]):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="000001.parquet: no commit of ours"):
            read_commit_info(store, 1)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_commit_info(store, 1)
