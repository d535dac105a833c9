import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.shards.store import SCRATCH, AlreadyExists, LocalStore, open_store, probe_create_only


def test_what_is_created_can_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "new" / "set")
    store.create("shards/a.tar", b"0123456789")
    assert store.read("shards/a.tar") == b"0123456789"
    assert store.read("shards/a.tar", 3) == b"3456789"
    assert store.read("shards/a.tar", 3, 4) == b"3456"
    assert store.read("shards/a.tar", 8, 40) == b"89"
    assert store.size("shards/a.tar") == 10
    assert store.exists("shards/a.tar") and not store.exists("shards/b.tar") and not store.exists("shards/a.tar/x")
    assert store.local_path("shards/a.tar") == tmp_path / "new/set/shards/a.tar"
    with store.open("shards/a.tar") as file:
        assert file.read(2) == b"01"
    for call in (store.read, store.size, store.open, store.delete):
        with pytest.raises(FileNotFoundError):
            call("shards/b.tar")


def test_create_never_touches_what_is_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("a", b"first")
    scratch = tmp_path / SCRATCH / "scratch"
    scratch.write_bytes(b"third")
    for again in (lambda: store.create("a", b"second"), lambda: store.create_from("a", scratch)):
        with pytest.raises(AlreadyExists) as error:
            again()
        assert error.value.name == "a"
    assert store.read("a") == b"first"
    assert store.names("") == [f"{SCRATCH}/scratch", "a"]


@pytest.mark.parametrize("inside", [True, False])
def test_create_from_a_file(tmp_path: Path, inside: bool) -> None:
    store = LocalStore(tmp_path / "set")
    with store.scratch() as folder:
        path = folder / "x" if inside else tmp_path / "x"
        path.write_bytes(b"data" * 10**6)
        store.create_from("shards/x", path)
        assert path.samefile(tmp_path / "set/shards/x") == inside  # linked, or copied
    assert store.read("shards/x") == b"data" * 10**6
    assert store.names("") == ["shards/x"]


def test_a_lost_answer_to_a_link_is_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link_twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    store = LocalStore(tmp_path)
    store.create("a", b"data")
    assert store.read("a") == b"data"


def test_names_are_sorted_and_filtered_by_prefix(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name in ("b", "shards/2", "shards/10", "shards/deep/x", "shardsx/1"):
        store.create(name, b"")
    assert store.names("") == ["b", "shards/10", "shards/2", "shards/deep/x", "shardsx/1"]
    assert store.names("shards/") == ["shards/10", "shards/2", "shards/deep/x"]
    assert store.names("shards") == ["shards/10", "shards/2", "shards/deep/x", "shardsx/1"]
    assert store.names("shards/1") == ["shards/10"]
    assert store.names("nowhere/") == []


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "shards/../../x", "a\\b", "a//b", "a/", ".", "a\nb", "a\0b", "ä", "x" * 256]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    store = LocalStore(tmp_path)
    calls = (store.read, store.size, store.exists, store.open, store.delete, store.local_path)
    for call in (*calls, lambda name: store.create(name, b"")):
        with pytest.raises(InputError, match="is no name inside a set"):
            call(name)


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "set"
    root.mkdir()
    (root / "link").symlink_to(outside / "secret")
    (root / "shards").symlink_to(outside)
    os.mkfifo(root / "pipe")  # opening it would wait for ever
    store = LocalStore(root)
    for name in ("link", "shards/secret", "pipe"):
        for call in (store.read, store.size, store.exists, store.open, store.local_path):
            with pytest.raises(IntegrityError, match="is a symbolic link|is no plain file"):
                call(name)
    with pytest.raises(AlreadyExists):
        store.create("link", b"")
    with pytest.raises(IntegrityError, match="shards is a symbolic link"):
        store.create("shards/new", b"")
    assert store.names("") == ["link", "pipe", "shards"]


def test_only_card_files_can_be_replaced(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for text in (b"one", b"two"):
        store.replace("README.md", text)
        assert store.read("README.md") == text
    with pytest.raises(AssertionError, match=r"replica\.json may not be replaced"):
        store.replace("replica.json", b"")
    assert store.names("") == ["README.md"]


def test_delete(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("shards/a", b"1")
    store.delete("shards/a")
    store.create("shards/a", b"2")
    assert store.read("shards/a") == b"2"


def test_death_at_every_call_leaves_nothing_or_all(killer: Any, killed: type[BaseException], tmp_path: Path) -> None:
    def work(store: LocalStore) -> None:
        store.create("shards/a", b"data")
        store.replace("README.md", b"text")

    with killer.armed(None) as calls:
        work(LocalStore(tmp_path / "undisturbed"))
    for at in range(len(calls)):
        store = LocalStore(tmp_path / f"killed-{at}")
        with killer.armed(at), pytest.raises(killed):
            work(store)
        for name, data in (("shards/a", b"data"), ("README.md", b"text")):
            assert not store.exists(name) or store.read(name) == data


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to write longer files, as a full disk would: some bytes arrive, then an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "set")
    big = tmp_path / "big"
    big.write_bytes(bytes(10**6))
    with largest_file(10**5):
        for work in (
            lambda: store.create("a", bytes(10**6)),
            lambda: store.create_from("a", big),
            lambda: store.replace("README.md", bytes(10**6)),
        ):
            with pytest.raises(OSError, match="File too large") as error:
                work()
            assert error.value.filename in (str(tmp_path / "set/a"), str(tmp_path / "set/README.md"))
    assert store.names("") == []


READ_ONLY = """
import os, sys
from pathlib import Path
from caskit.shards.store import LocalStore, probe_create_only
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
for work in (lambda store: store.create("a/b", b""), probe_create_only):
    try:
        work(LocalStore(Path(sys.argv[1])))
    except OSError as error:
        print(error.errno, error.filename)
"""


def test_a_read_only_folder_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        done = subprocess.run([sys.executable, "-c", READ_ONLY, folder], capture_output=True, text=True, check=True)
        lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
        assert [int(code) for code, _ in lines] == [errno.EACCES, errno.EACCES]
        assert all(name.startswith(folder) for _, name in lines)
        assert os.listdir(folder) == []


def test_the_probe_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    probe_create_only(store)
    assert store.names("") == []


def test_the_probe_finds_stores_that_overwrite(tmp_path: Path) -> None:
    class Overwriting(LocalStore):
        def create(self, name: str, data: bytes) -> None:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    class Silent(LocalStore):
        def create(self, name: str, data: bytes) -> None:
            if not self.exists(name):
                super().create(name, data)

    for kind in (Overwriting, Silent):
        with pytest.raises(InputError, match="a second create overwrites"):
            probe_create_only(kind(tmp_path))


def test_the_probe_reads_again_what_changed_on_its_way(tmp_path: Path) -> None:
    class Changing(LocalStore):
        wrong = 0

        def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            self.wrong -= 1
            return b"other bytes" if self.wrong >= 0 else super().read(name, start, length)

    store = Changing(tmp_path)
    for store.wrong in (2, 3, 8):
        probe_create_only(store)
    store.wrong = 9
    with pytest.raises(RunFailed, match="3 small objects were written there and read back with other bytes, each 3"):
        probe_create_only(store)
    assert store.names("") == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_the_probe_names_file_systems_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code), str(source), None, str(target))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(InputError, match="no hard links there .*, use another file system"):
        probe_create_only(LocalStore(tmp_path))


def test_paths_open_as_folders(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert isinstance(store, LocalStore) and store.location == str(tmp_path)
    with pytest.raises(InputError, match="location of a set is empty"):
        open_store("")


def test_a_file_where_a_folder_is_due(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="file"):
        LocalStore(tmp_path / "file").create("a", b"")


HOLD = """
import sys
from pathlib import Path
from caskit.shards.store import LocalStore
with LocalStore(Path(sys.argv[1])).scratch() as folder:
    (folder / "shard.tar").write_bytes(b"bytes")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_scratch_of_the_killed_goes_and_that_of_the_living_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [Path(str(holder.stdout.readline()).strip()) for holder in holders if holder.stdout]
    holders[0].kill()
    holders[0].wait()
    with LocalStore(tmp_path).scratch() as ours:
        assert sorted(path for path in (tmp_path / "_work/tmp").iterdir()) == sorted([ours, folders[1]])
        assert (folders[1] / "shard.tar").read_bytes() == b"bytes"
    for holder in holders:
        holder.communicate()
    assert holders[1].returncode == 0
    assert LocalStore(tmp_path).names("") == []
