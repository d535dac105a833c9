"""A receipt saves the second full check, and nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.errors import IntegrityError
from caskit.shards import dataset
from caskit.shards.cache import cache_folder
from caskit.shards.dataset import open_set


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The full checks that were made."""
    made: list[str] = []
    real = dataset.verify_records

    def counted(records: Any, level: str, **options: Any) -> Any:
        made.append(level)
        return real(records, level, **options)

    monkeypatch.setattr(dataset, "verify_records", counted)
    return made


@pytest.fixture
def root(tmp_path: Path, tiny: Any) -> Path:
    return Path(tiny.frozen(tmp_path / "set", tiny.plan())[0].root)


def test_the_second_opening_is_not_checked_again(root: Path, checks: list[str]) -> None:
    for _ in range(3):
        open_set(str(root))
    assert checks == ["full"]


@pytest.mark.parametrize(
    "name", ["replica.json", "plan.json", "manifest.parquet", "shards.parquet", "shards/shard-000002.tar"]
)
def test_touching_any_file_makes_it_void(root: Path, checks: list[str], name: str) -> None:
    open_set(str(root))
    status = (root / name).stat()
    os.utime(root / name, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    open_set(str(root))
    assert checks == ["full", "full"]


def test_an_edit_that_puts_the_time_back_makes_it_void(root: Path, checks: list[str]) -> None:
    open_set(str(root))
    tar = root / "shards" / "shard-000000.tar"
    status = tar.stat()
    content = bytearray(tar.read_bytes())
    content[-1] ^= 1
    tar.write_bytes(content)
    os.utime(tar, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(IntegrityError, match="shard-000000.tar"):
        open_set(str(root))
    with pytest.raises(IntegrityError, match="shard-000000.tar"):  # and a failed check leaves no receipt
        open_set(str(root))


def test_an_extra_file_makes_it_void(root: Path, checks: list[str]) -> None:
    open_set(str(root))
    (root / "shards" / "notes.txt").write_text("hello")
    with pytest.raises(IntegrityError, match="shards/notes.txt: an extra file"):
        open_set(str(root))


def test_a_moved_set_is_checked_anew(root: Path, checks: list[str], tmp_path: Path) -> None:
    open_set(str(root))
    root.rename(tmp_path / "moved")
    open_set(str(tmp_path / "moved"))
    assert checks == ["full", "full"]


def test_a_damaged_receipt_is_none(root: Path, checks: list[str]) -> None:
    open_set(str(root))
    [receipt] = cache_folder("receipts").iterdir()
    for content in (b"", b"[]", b"{", b'{"files":{}}', b"\xff"):
        receipt.write_bytes(content)
        open_set(str(root))
    assert len(checks) == 6


def test_no_cache_means_a_check_each_time(
    root: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    open_set(str(root))
    open_set(str(root))
    assert checks == ["full", "full"]


def test_a_file_that_changes_during_the_check_leaves_none(
    root: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dataset.verify_records

    def changed_meanwhile(records: Any, level: str, **options: Any) -> Any:
        report = real(records, level, **options)
        (root / "shards" / "shard-000000.tar").touch()
        return report

    monkeypatch.setattr(dataset, "verify_records", changed_meanwhile)
    open_set(str(root))
    monkeypatch.setattr(dataset, "verify_records", real)
    open_set(str(root))
    assert checks == ["full", "full"]


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("receipts") == tmp_path / "caskit" / "receipts"
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder("data") == tmp_path / "home" / ".cache" / "caskit" / "data"
