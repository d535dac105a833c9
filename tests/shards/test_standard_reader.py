"""docs/format.md is enough to write a reader: one that imports nothing of ours agrees with us, and sees what we see."""

import ast
import hashlib
import importlib.util
import json
import shutil
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.roots import packing_root
from caskit.manifests.rows import canonical_row, iterate_rows
from caskit.shards.dataset import open_set
from caskit.shards.records import read_records
from caskit.shards.remote.push import push
from caskit.shards.remote.subset import Part, pull_part
from caskit.shards.repack import repack

NAMES = ("standard_reader", "standard_index")
GOLDEN = Path(__file__).parents[1] / "gen" / "golden"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    return loaded("standard_reader")


@pytest.fixture(scope="module")
def index() -> ModuleType:
    return loaded("standard_index")


@pytest.mark.parametrize("name", NAMES)
def test_the_readers_are_short_and_import_the_standard_library_alone(name: str) -> None:
    text = Path(__file__).with_name(f"{name}.py").read_text()
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


@pytest.mark.parametrize("kind", ["real", "original", "coded"])
def test_it_reads_sets_of_other_kinds(reader: ModuleType, tiny: Any, tmp_path: Path, kind: str) -> None:
    origins = {
        "real": lambda: tiny.ingest(),
        "original": lambda: tiny.ingest(codec={"name": "original"}),
        "coded": lambda: tiny.plan(record_codes=True),
    }
    _, replica = tiny.frozen(tmp_path / "set", origins[kind]())
    replica_id, roots, samples = reader.read_set(tmp_path / "set")
    there = open_set(str(tmp_path / "set"))
    assert replica_id == replica.replica_id and roots[:2] == ["content_root", "packing_root"]
    assert [key for key, _, _ in samples] == there.keys
    assert [image for _, _, image in samples] == [there.read(n) for n in range(len(there.keys))]


def test_it_reads_repacked_sets(reader: ModuleType, tiny: Any, tmp_path: Path) -> None:
    _, parent = tiny.frozen(tmp_path / "set", tiny.plan(pixel_digests=False))
    packed = repack(open_set(str(tmp_path / "set")), str(tmp_path / "out"), samples_per_shard=7, created="2026-01-01")
    replica_id, roots, samples = reader.read_set(tmp_path / "out")
    assert replica_id == packed.replica_id != parent.replica_id
    assert roots == ["content_root", "packing_root", "rows_root"]
    assert samples == reader.read_set(tmp_path / "set")[2]
    (tmp_path / "out/packing.json").unlink()
    with pytest.raises(reader.Refused, match="another number of samples"):
        reader.read_set(tmp_path / "out")


PARTS = [
    Part(select="classes", names=("0", "2")),
    Part(select="first-shards:2"),
    Part(select="keys", names=("c00_000004", "c00_000001", "c02_000000")),
]


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.select)
def test_it_proves_views(reader: ModuleType, tiny: Any, tmp_path: Path, part: Part, coded: bool) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan(pixel_digests=False, record_codes=coded))
    moved = pull_part(str(tmp_path / "set"), tmp_path / "part", part)
    replica_id, roots, samples = reader.read_set(tmp_path / "part")
    assert replica_id == moved.replica_id and roots == ["content_root", "packing_root", "rows_root"]
    whole = {key: (label, image) for key, label, image in reader.read_set(tmp_path / "set")[2]}
    assert {key: (label, image) for key, label, image in samples}.items() <= whole.items()
    assert 0 < len(samples) < len(whole)


def test_it_refuses_a_view_of_another_set(reader: ModuleType, tiny: Any, tmp_path: Path) -> None:
    """All digests are made to fit, but the proof is not one: its last hash, or one too many."""
    tiny.frozen(tmp_path / "set", tiny.plan(pixel_digests=False))
    pull_part(str(tmp_path / "set"), tmp_path / "part", PARTS[2])
    view = json.loads((tmp_path / "part/view.json").read_bytes())
    stored = json.loads((tmp_path / "part/replica.json").read_bytes())
    for proof in ([*view["proof"][:-1], "ab" * 32], [*view["proof"], "ab" * 32]):
        for name in ("view.json", "replica.json"):
            (tmp_path / "part" / name).unlink()
        data = canonical_json({**view, "proof": proof})
        (tmp_path / "part/view.json").write_bytes(data)
        (tmp_path / "part/replica.json").write_bytes(canonical_json({**stored, "origin_sha256": sha256_hex(data)}))
        with pytest.raises(reader.Refused, match="no part of the parent"):
            reader.read_set(tmp_path / "part")


@pytest.mark.parametrize("kind", ["plan", "ingest"])
def test_the_index_gives_every_row(index: ModuleType, tiny: Any, tmp_path: Path, kind: str) -> None:
    origin = tiny.plan(num=200, samples_per_shard=50) if kind == "plan" else tiny.ingest(histogram=(130, 0, 64))
    _, replica = tiny.frozen(tmp_path / "set", origin)
    push(str(tmp_path / "set"), str(tmp_path / "published"))
    rows = [row for label in range(3) for row in index.read_class(tmp_path / "published", label)]
    assert rows == [canonical_row(row) for row in iterate_rows(read_records(str(tmp_path / "set")).manifest)]
    assert index.tree(rows).hex() == replica.rows_root
    there = open_set(str(tmp_path / "set"))
    for key, numbers, digest in map(index.fields, rows):
        tar = (tmp_path / f"published/shards/shard-{numbers['shard']:06d}.tar").read_bytes()
        image = tar[numbers["tar_offset"] : numbers["tar_offset"] + numbers["nbytes"]]
        assert image == there.read(there.keys.index(key)) and hashlib.sha256(image).digest() == digest


def test_an_index_that_was_changed_is_refused(index: ModuleType, tiny: Any, tmp_path: Path) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan(num=40))
    push(str(tmp_path / "set"), str(tmp_path / "published"))
    path = tmp_path / "published/index.bin"
    whole = path.read_bytes()
    path.chmod(0o644)
    for at in (0, 20, 16 + 96 + 7, 16 + 96 + 20, 16 + 96 + 132 + 30, len(whole) - 9):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises((index.Refused, zlib.error, struct.error)):
            [index.read_class(tmp_path / "published", label) for label in range(3)]
