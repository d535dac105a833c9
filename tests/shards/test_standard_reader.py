"""docs/format.md is enough to write a reader: one that imports nothing of ours agrees with us, and sees what we see."""

import ast
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caskit.manifests.roots import packing_root
from caskit.shards.dataset import open_set
from caskit.shards.records import read_records

READER = Path(__file__).with_name("standard_reader.py")
GOLDEN = Path(__file__).parents[1] / "gen" / "golden"


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("standard_reader", READER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reader_is_short_and_imports_the_standard_library_alone() -> None:
    text = READER.read_text()
    assert len(text.splitlines()) <= 150
    imported: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported and imported <= sys.stdlib_module_names


def test_it_reads_the_golden_replica(reader: ModuleType) -> None:
    replica_id, roots, samples = reader.read_set(GOLDEN)
    there = open_set(str(GOLDEN))
    assert replica_id == there.replica.replica_id and {"content_root", "packing_root"} <= set(roots)
    assert [key for key, _, _ in samples] == there.keys
    assert [label for _, label, _ in samples] == there.labels.tolist()


@pytest.mark.parametrize("num", [3, 6, 20, 45])
def test_it_computes_every_root_of_a_plain_set(reader: ModuleType, tiny: Any, tmp_path: Path, num: int) -> None:
    _, replica = tiny.frozen(tmp_path / "set", tiny.plan(num=num, pixel_digests=False))
    replica_id, roots, samples = reader.read_set(tmp_path / "set")
    assert replica_id == replica.replica_id and len(samples) == num
    assert roots == ["content_root", "packing_root", "rows_root"]


def test_it_refuses_what_we_refuse(reader: ModuleType, tiny: Any, tmp_path: Path) -> None:
    root = tmp_path / "set"
    tiny.frozen(root, tiny.plan(pixel_digests=False))
    tar = root / "shards" / "shard-000000.tar"
    whole = tar.read_bytes()
    tar.chmod(0o644)
    image = whole.index(b"ustar", 1024) - 257 + 512  # the first payload after the first label
    for at in (0, 100, 107, 512, 513, 520, image + 3, 1536, len(whole) - 1):
        tar.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises((reader.Refused, ValueError)):
            reader.read_set(root)
    for cut in (0, 511, 512, len(whole) // 2, len(whole) - 10240, len(whole) - 1):
        tar.write_bytes(whole[:cut])
        with pytest.raises((reader.Refused, ValueError)):
            reader.read_set(root)
    tar.write_bytes(whole)
    assert reader.read_set(root)[0] == read_records(str(root)).replica.replica_id


def test_it_refuses_exchanged_tars_and_records(reader: ModuleType, tiny: Any, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    tiny.frozen(one, tiny.plan(pixel_digests=False))
    tiny.frozen(other, tiny.plan(pixel_digests=False, seed=8))
    messages = {"plan.json": "plan.json is not the set's", "shards/shard-000001.tar": "is another one|is there twice"}
    for name, message in messages.items():
        shutil.copytree(one, tmp_path / "mixed")
        (tmp_path / "mixed" / name).unlink()
        shutil.copy(other / name, tmp_path / "mixed" / name)
        with pytest.raises(reader.Refused, match=message):
            reader.read_set(tmp_path / "mixed")
        shutil.rmtree(tmp_path / "mixed")
    assert packing_root(read_records(str(one)).shards) != packing_root(read_records(str(other)).shards)
