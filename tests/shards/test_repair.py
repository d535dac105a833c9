"""A damaged set becomes what it was, byte for byte in its tars; good files are not touched; no mirror is believed."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.shards.dataset import open_set
from caskit.shards.fault import BrokenSet
from caskit.shards.records import read_replica, read_shard_table
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
from caskit.shards.remote.refetch import Mirror
from caskit.shards.remote.subset import Part, pull_part
from caskit.shards.repack import repack
from caskit.shards.repair import Repaired, repair
from caskit.shards.store import LocalStore
from caskit.shards.tables import shard_table, table_bytes
from caskit.shards.verify import verify

TAR = "shards/shard-000001.tar"
RECORDS = ("plan.json", "shards.parquet", "manifest.parquet")


@pytest.fixture
def mirror(tmp_path: Path, tiny: Any) -> Path:
    """A published set of four tars."""
    tiny.frozen(tmp_path / "set", tiny.plan(num=20))
    push(str(tmp_path / "set"), str(tmp_path / "mirror"))
    return tmp_path / "mirror"


@pytest.fixture
def copy(mirror: Path, tmp_path: Path) -> Path:
    """A copy of it, as a pull makes one: without commits."""
    pull(str(mirror), tmp_path / "copy")
    return tmp_path / "copy"


def files(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in LocalStore(root).names("") if not name.startswith("_work/")}


def flip(path: Path) -> None:
    data = path.read_bytes()
    at = len(data) // 2
    path.unlink()  # never through a hard link
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def empty(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"")


HARMS: dict[str, Callable[[Path], None]] = {"flip": flip, "cut": cut, "empty": empty, "remove": Path.unlink}


def reference(root: Path, mirror: Path) -> str:
    return f"{root}@sha256:{read_replica(LocalStore(mirror)).replica_id}"


def mended(root: Path, mirror: Path, reference: str | None = None, **options: Any) -> Repaired:
    return repair(reference or str(root), Mirror(str(mirror)), **options)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", [TAR, *RECORDS, "replica.json"])
def test_one_bad_file_is_replaced_and_no_other(copy: Path, mirror: Path, name: str, harm: str) -> None:
    before = files(copy)
    inodes = {other: (copy / other).stat().st_ino for other in before if other.startswith("shards/") and other != name}
    HARMS[harm](copy / name)
    asked = reference(copy, mirror) if name == "replica.json" else str(copy)
    found = mended(copy, mirror, asked, dry_run=True)
    assert set(found.reasons) == {name} and found.num_good == 7
    assert (harm == "remove") == (found.reasons[name] == "missing") or name == "replica.json"
    assert mended(copy, mirror, asked) == found
    assert files(copy) == before
    assert {other: (copy / other).stat().st_ino for other in inodes} == inodes
    assert mended(copy, mirror).reasons == {} and verify(str(copy), "deep").replica == found.replica


@pytest.mark.parametrize(
    "change",
    [{"num_samples": 5}, {"shard": 7}, {"size_bytes": -1}, {"sha256": "zz"}, {"name": "\xe4"}, {"sha256": "upper"}],
)
def test_a_table_of_shards_that_its_root_does_not_cover(copy: Path, mirror: Path, change: dict[str, Any]) -> None:
    """Whatever verify refuses is replaced, and neither the mirror nor a good tar is blamed for it."""
    before, shards = files(copy), list(read_shard_table(LocalStore(copy)))
    if change == {"sha256": "upper"}:
        change = {"sha256": shards[1].sha256.upper()}
    shards[1] = dataclasses.replace(shards[1], **change)
    (copy / "shards.parquet").unlink()
    (copy / "shards.parquet").write_bytes(table_bytes(shard_table(shards)))
    with pytest.raises(BrokenSet):
        verify(str(copy), "quick")
    assert set(mended(copy, mirror).reasons) == {"shards.parquet"} and files(copy) == before


def test_everything_but_one_tar_is_lost(copy: Path, mirror: Path) -> None:
    before, asked = files(copy), reference(copy, mirror)
    for name in LocalStore(copy).names(""):
        if name != TAR:
            (copy / name).unlink()
    kept, seen = (copy / TAR).stat(), []
    found = mended(copy, mirror, asked, progress=lambda at: seen.append((at.stage, at.done)))
    assert found.num_good == 1 and (copy / TAR).stat() == kept
    assert seen == [("look", 1), ("look", 2), ("look", 3), ("look", 4), ("mend", 1), ("mend", 2), ("mend", 3)]
    assert {name: data for name, data in before.items() if name in found.reasons or name == TAR} == files(copy)


def test_a_dry_run_replaces_nothing(copy: Path, mirror: Path) -> None:
    for name in (TAR, "manifest.parquet"):
        cut(copy / name)
    before = files(copy)
    assert set(mended(copy, mirror, dry_run=True).reasons) == {TAR, "manifest.parquet"}
    assert files(copy) == before


class NoRecords(Mirror):
    """Has tars alone, as a generator does."""

    def record(self, read: Any, name: str) -> Any:
        raise InputError(f"{name} is not to be had")


def test_commits_in_the_folder_give_the_tables(mirror: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    before = files(root)
    for name in ("manifest.parquet", "shards.parquet"):
        flip(root / name)
    repair(str(root), NoRecords(str(mirror)))
    assert files(root) == before
    flip(root / "plan.json")
    with pytest.raises(InputError, match=r"plan\.json is not to be had"):
        repair(str(root), NoRecords(str(mirror)))


@pytest.mark.parametrize("kind", ["real", "coded", "repacked", "view"])
def test_sets_of_every_kind(tmp_path: Path, tiny: Any, kind: str) -> None:
    origin = tiny.plan(record_codes=True) if kind == "coded" else tiny.ingest() if kind == "real" else tiny.plan()
    made = tmp_path / "set"
    tiny.frozen(made, origin)
    if kind == "repacked":
        repack(open_set(str(made)), str(tmp_path / "big"), samples_per_shard=9, created="2026-01-01T00:00:00Z")
        made = tmp_path / "big"
    if kind == "view":
        pull_part(str(made), tmp_path / "part", Part(select="classes", names=("1",)))
        made = tmp_path / "part"
    push(str(made), str(tmp_path / "mirror"))
    pull(str(tmp_path / "mirror"), tmp_path / "copy")
    copy, before = tmp_path / "copy", files(tmp_path / "copy")
    names = [name for name in before if name.startswith(("shards", "codes", "packing", "view", "ingest", "manifest"))]
    for number, name in enumerate(names):  # a bit of a table need not be one of its rows
        (cut if name.endswith("t") else list(HARMS.values())[number % 4])(copy / name)
    assert set(mended(copy, tmp_path / "mirror").reasons) == set(names)
    assert files(copy) == before


def test_an_index_is_made_again(copy: Path, mirror: Path) -> None:
    before = files(mirror)
    flip(mirror / "index.bin")
    assert set(mended(mirror, copy).reasons) == {"index.bin"}
    assert files(mirror) == before


@pytest.mark.parametrize("name", [TAR, "plan.json", "shards.parquet", "manifest.parquet"])
def test_a_mirror_that_lies_changes_nothing(copy: Path, mirror: Path, tmp_path: Path, tiny: Any, name: str) -> None:
    """It says that it is the set, and has a file of another one in it, whole by itself."""
    tiny.frozen(tmp_path / "other", tiny.plan(num=20, seed=8))
    (mirror / name).unlink()
    shutil.copyfile(tmp_path / "other" / name, mirror / name)
    (copy / name).unlink()
    before = files(copy)
    with pytest.raises((IntegrityError, RunFailed), match=name.rpartition("/")[2]):
        mended(copy, mirror)
    assert files(copy) == before


def test_a_mirror_of_another_set(copy: Path, mirror: Path, tmp_path: Path, tiny: Any) -> None:
    tiny.frozen(tmp_path / "other", tiny.plan(num=20, seed=8))
    asked, before = reference(copy, mirror), files(copy)
    (copy / TAR).unlink()
    with pytest.raises(RunFailed, match=r"shard-000001\.tar: has other bytes than its digest says, read 3 times"):
        mended(copy, tmp_path / "other")
    (copy / "replica.json").unlink()
    with pytest.raises(InputError, match=r"other: holds the set [0-9a-f]{64}, due is sha256:"):
        mended(copy, tmp_path / "other", asked)
    with pytest.raises(InputError, match=r"replica\.json is lost, say which it is due to be: .*copy@sha256:ID"):
        mended(copy, mirror)
    with pytest.raises(InputError, match="no caskit set is there"):
        mended(copy, tmp_path / "nothing", asked)
    assert {name: data for name, data in before.items() if name not in (TAR, "replica.json")} == files(copy)


def test_another_whole_set_is_never_overwritten(mirror: Path, tmp_path: Path, tiny: Any) -> None:
    tiny.frozen(tmp_path / "mine", tiny.plan(num=20, seed=8))
    asked, before = reference(tmp_path / "mine", mirror), files(tmp_path / "mine")
    with pytest.raises(InputError, match=r"mine: holds the set [0-9a-f]{64}, and its records agree; it stays"):
        mended(tmp_path / "mine", mirror, asked)
    (tmp_path / "mine/replica.json").unlink()
    with pytest.raises(InputError, match=r"mine: holds plan\.json of another set .* it stays"):
        mended(tmp_path / "mine", mirror, asked)
    tiny.committed(tmp_path / "begun", tiny.plan(num=20, seed=9))
    with pytest.raises(InputError, match=r"begun: holds plan\.json of another set .* it stays"):
        mended(tmp_path / "begun", mirror, reference(tmp_path / "begun", mirror))
    assert {name: data for name, data in before.items() if name != "replica.json"} == files(tmp_path / "mine")


def test_links_are_not_followed(copy: Path, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"of somebody")
    (copy / TAR).unlink()
    (copy / TAR).symlink_to(tmp_path / "precious")
    with pytest.raises(IntegrityError, match="is no plain file"):
        mended(copy, mirror)
    assert (tmp_path / "precious").read_bytes() == b"of somebody"


def test_what_cannot_be_repaired(copy: Path, mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a set is repaired in a folder; repair its copy there, and push that"):
        mended(copy, mirror, "s3://bucket/set")
    with pytest.raises(InputError, match="no such folder; `caskit pull` fetches a set that is not there"):
        mended(tmp_path / "nowhere", mirror)
    (copy / "shards/extra.tar").write_bytes(b"")
    with pytest.raises(BrokenSet, match=r"extra\.tar"):
        mended(copy, mirror)


def test_a_disk_that_cannot_read_a_tar(copy: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = files(copy), LocalStore.open
    spoilt = (copy / TAR).stat().st_ino

    def failing(self: LocalStore, name: str) -> Any:
        if name == TAR and (self.root / name).stat().st_ino == spoilt:
            raise OSError(5, os.strerror(5), name)
        return real(self, name)

    monkeypatch.setattr(LocalStore, "open", failing)
    assert mended(copy, mirror).reasons == {TAR: "the disk cannot read it"}
    assert files(copy) == before and (copy / TAR).stat().st_ino != spoilt


def test_stopped_and_killed_at_every_call(
    copy: Path, mirror: Path, tmp_path: Path, killer: Any, killed: type[BaseException]
) -> None:
    before, asked = files(copy), reference(copy, mirror)
    harmed = (TAR, "shards/shard-000003.tar", "shards.parquet", "replica.json")
    for name in harmed:
        (copy / name).unlink()
    with pytest.raises(NotFinished, match="stopped with 0 of 2 files replaced"):
        mended(copy, mirror, asked, stop=lambda: True)
    shutil.copytree(copy, tmp_path / "calm")
    with killer.armed(None) as calls:
        mended(tmp_path / "calm", mirror, reference(tmp_path / "calm", mirror))
    for at in range(0, len(calls), 5):
        root = tmp_path / f"killed-{at}"
        shutil.copytree(copy, root)
        with killer.armed(at), pytest.raises((killed, OSError, AttributeError)):
            mended(root, mirror, reference(root, mirror))
        for name in harmed:  # nothing half-written ever has a name
            assert not (root / name).exists() or (root / name).read_bytes() == before[name]
        mended(root, mirror, reference(root, mirror))
        assert files(root) == before, f"killed at call {at} of {len(calls)}"
