"""What was pushed and pulled is the set that it was, whatever happens on the way; what is wrong is never accepted."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.shards.dataset import open_set
from caskit.shards.records import read_replica
from caskit.shards.remote.patience import Unreachable
from caskit.shards.remote.progress import TransferConfig
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
from caskit.shards.store import LocalStore, open_store
from caskit.shards.verify import verify


def published(root: Path) -> dict[str, bytes]:
    """The bytes of a set that leave its folder; index.bin, made when it is published, is for test_subset.py."""
    left_out = ("notes.txt", "index.bin")
    names = [n for n in LocalStore(root).names("") if not n.startswith("_work/") and n not in left_out]
    return {name: (root / name).read_bytes() for name in names}


def test_a_set_goes_and_comes_back(root: Path, bucket: str, tmp_path: Path) -> None:
    sent = push(str(root), f"{bucket}/sets/one")
    store = open_store(f"{bucket}/sets/one")
    assert {name: store.read(name) for name in store.names("") if name != "index.bin"} == published(root)
    assert sent.files_moved == sent.num_files == len(published(root)) + 1
    assert push(str(root), f"{bucket}/sets/one").files_moved == 0
    got = pull(f"{bucket}/sets/one@sha256:{sent.replica_id[:12]}", tmp_path / "back")
    assert got.replica_id == sent.replica_id and got.files_moved == 4
    assert published(tmp_path / "back") == published(root)
    assert pull(f"{bucket}/sets/one", tmp_path / "back").files_moved == 0
    assert (open_set(str(tmp_path / "back")).labels == open_set(str(root)).labels).all()


def test_a_set_with_codes_and_a_real_one(bucket: str, tmp_path: Path, tiny: Any) -> None:
    for name, origin in (("coded", tiny.plan(num=9, record_codes=True)), ("real", tiny.ingest())):
        tiny.frozen(tmp_path / name, origin)
        push(str(tmp_path / name), f"{bucket}/{name}")
        pull(f"{bucket}/{name}", tmp_path / f"{name}-back")
        assert published(tmp_path / f"{name}-back") == published(tmp_path / name)


def test_from_a_web_server(
    root: Path, bucket: str, public: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    push(str(root), f"{bucket}/one")
    pull(public(f"{bucket}/one"), tmp_path / "back")
    assert published(tmp_path / "back") == published(root)
    assert "no signatures are fetched" in caplog.text and "a web server does not list what it holds" in caplog.text


def test_folders_do_as_well(root: Path, tmp_path: Path) -> None:
    push(str(root), str(tmp_path / "there"))
    pull(str(tmp_path / "there"), tmp_path / "back")
    assert published(tmp_path / "there") == published(root) == published(tmp_path / "back")


def test_a_dry_run_moves_nothing(root: Path, bucket: str, tmp_path: Path) -> None:
    said = push(str(root), f"{bucket}/one", TransferConfig(dry_run=True))
    assert open_store(f"{bucket}/one").names("") == []
    assert said == push(str(root), f"{bucket}/one")
    said = pull(f"{bucket}/one", tmp_path / "back", TransferConfig(dry_run=True))
    assert not (tmp_path / "back").exists()
    assert said == pull(f"{bucket}/one", tmp_path / "back")


def test_signatures_made_later_follow(root: Path, bucket: str, tmp_path: Path) -> None:
    push(str(root), f"{bucket}/one")
    name = f"signatures/{'ab' * 32}.json"
    LocalStore(root).create(name, b"{}")
    assert push(str(root), f"{bucket}/one").files_moved == 1
    open_store(f"{bucket}/one").create("signatures/odd.json", b"not one of ours")
    pull(f"{bucket}/one", tmp_path / "back")
    assert LocalStore(tmp_path / "back").names("signatures/") == [name]


def test_other_sets_and_other_bytes_are_refused(root: Path, bucket: str, tmp_path: Path, tiny: Any) -> None:
    tiny.frozen(tmp_path / "other", tiny.plan(num=20, seed=8))
    push(str(tmp_path / "other"), f"{bucket}/other")
    with pytest.raises(InputError, match=r"holds the set [0-9a-f]{64}, not [0-9a-f]{64}; push elsewhere"):
        push(str(root), f"{bucket}/other")
    open_store(f"{bucket}/one").create("shards/shard-000001.tar", b"something")
    with pytest.raises(InputError, match=r"shard-000001\.tar: is there with other bytes than the set has; delete it"):
        push(str(root), f"{bucket}/one")
    assert not open_store(f"{bucket}/one").exists("replica.json")
    with pytest.raises(InputError, match="the reference asks for sha256:00000000"):
        pull(f"{bucket}/other@sha256:00000000", tmp_path / "back")
    with pytest.raises(InputError, match="holds the set"):
        pull(f"{bucket}/other", root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.tex and no part of this set; use an empty folder"):
        pull(f"{bucket}/other", tmp_path / "mine")
    with pytest.raises(InputError, match="no caskit set is there"):
        pull(f"{bucket}/nothing", tmp_path / "back")
    with pytest.raises(InputError, match="workers is 0, allowed: 1..256"):
        pull(f"{bucket}/other", tmp_path / "back", TransferConfig(workers=0))


@pytest.mark.parametrize(
    "name", ["shards/shard-000001.tar", "plan.json", "manifest.parquet", "shards.parquet", "replica.json"]
)
def test_wrong_bytes_in_the_store_are_never_accepted(root: Path, bucket: str, tmp_path: Path, name: str) -> None:
    push(str(root), f"{bucket}/one")
    store = open_store(f"{bucket}/one")
    data = store.read(name)
    at = (
        data.find(b'"seed":7') + 7
        if name == "plan.json"
        else data.find(b'num_samples":20') + 14
        if name == "replica.json"
        else len(data) // 2
    )
    store.delete(name)
    store.create(name, data[:at] + (b"9" if name.endswith("json") else bytes([data[at] ^ 1])) + data[at + 1 :])
    with pytest.raises((RunFailed, IntegrityError)):
        pull(f"{bucket}/one", tmp_path / "back")
    assert not (tmp_path / "back/replica.json").exists()
    store.delete(name)
    store.create(name, data)
    pull(f"{bucket}/one", tmp_path / "back")
    assert published(tmp_path / "back") == published(root)


def test_a_server_that_overwrites_is_read_and_never_written(
    root: Path, bucket: str, through: Callable[..., Any], tmp_path: Path
) -> None:
    push(str(root), f"{bucket}/one")
    through("500", share=0.0, forget=["if-none-match"])  # as older servers do, `rclone serve s3` among them
    with pytest.raises(InputError, match="a second create overwrites the first there, use another store"):
        push(str(root), f"{bucket}/two")
    assert open_store(f"{bucket}/two").names("") == []
    pull(f"{bucket}/one", tmp_path / "back")
    assert published(tmp_path / "back") == published(root)


def test_a_missing_tar_is_named(root: Path, bucket: str, tmp_path: Path) -> None:
    push(str(root), f"{bucket}/one")
    open_store(f"{bucket}/one").delete("shards/shard-000002.tar")
    with pytest.raises(IntegrityError, match=r"shards/shard-000002\.tar: is missing from the set"):
        pull(f"{bucket}/one", tmp_path / "back")
    assert not (tmp_path / "back/replica.json").exists()


@pytest.mark.parametrize("seed", range(3))
def test_all_faults_together_change_nothing(
    root: Path, bucket: str, through: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    proxy = through(share=0.25, most=60, seed=seed)
    for _ in range(20):  # each time the same command
        try:
            push(str(root), f"{bucket}/one", TransferConfig(workers=2))
            break
        except (Unreachable, RunFailed):
            continue
    for _ in range(20):
        try:
            pull(f"{bucket}/one", tmp_path / "back", TransferConfig(workers=2))
            break
        except (Unreachable, RunFailed, IntegrityError):
            continue
    assert sum(proxy.done.values()) >= 5
    assert published(tmp_path / "back") == published(root)
    assert verify(str(tmp_path / "back"), "deep").replica == read_replica(LocalStore(root))


def test_an_upload_that_changed_on_its_way_is_sent_again(root: Path, bucket: str, through: Callable[..., Any]) -> None:
    proxy = through("wrong-upload", share=1.0, most=2, only="shards/")
    push(str(root), f"{bucket}/one")
    store = open_store(f"{bucket}/one")
    assert proxy.done["wrong-upload"] == 2
    assert {name: store.read(name) for name in store.names("") if name != "index.bin"} == published(root)


def test_a_store_that_always_changes_bytes_is_given_up(root: Path, bucket: str, through: Callable[..., Any]) -> None:
    through("wrong-upload", share=1.0, only="shard-000001.tar")
    with pytest.raises(Unreachable, match=r"shard-000001\.tar: cannot create: it arrived with other bytes, 8 times"):
        push(str(root), f"{bucket}/one")
    assert not open_store(f"{bucket}/one").exists("replica.json")


def test_stopped_and_started_again(root: Path, bucket: str, tmp_path: Path) -> None:
    def after(count: int) -> Callable[[], bool]:
        calls = itertools.count()
        return lambda: next(calls) >= count

    for count in (0, 3, 9):
        with pytest.raises(NotFinished, match=f"push to {bucket}/one: stopped"):
            push(str(root), f"{bucket}/one", TransferConfig(workers=1, stop=after(count)))
        assert not open_store(f"{bucket}/one").exists("replica.json")
    assert 0 < push(str(root), f"{bucket}/one").files_moved < len(published(root))
    with pytest.raises(NotFinished, match="pull to .*: stopped"):
        pull(f"{bucket}/one", tmp_path / "back", TransferConfig(workers=1, stop=after(3)))
    assert 0 < pull(f"{bucket}/one", tmp_path / "back").files_moved < 4
    assert published(tmp_path / "back") == published(root)


def test_death_at_every_call_of_a_pull(root: Path, killer: Any, killed: type[BaseException], tmp_path: Path) -> None:
    with killer.armed(None) as calls:
        pull(str(root), tmp_path / "undisturbed", TransferConfig(workers=1))
    for at in range(0, len(calls), 7):
        out = tmp_path / f"killed-{at}"
        with killer.armed(at), pytest.raises((killed, OSError, AttributeError)):
            pull(str(root), out, TransferConfig(workers=1))
        pull(str(root), out, TransferConfig(workers=1))
        assert published(out) == published(root), f"killed at call {at} of {len(calls)}"
