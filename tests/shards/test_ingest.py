"""Real data becomes a frozen set: in bounded memory, once, and the same whatever interrupts it."""

import shutil
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, NonReproducible, NotFinished
from caskit.shards import ingest as stage
from caskit.shards.codecs import encode
from caskit.shards.commit import committed_shards
from caskit.shards.dataset import open_set
from caskit.shards.ingest import IngestProgress, class_ordinals, ingest
from caskit.shards.sources import load
from caskit.shards.sources.source import ArraySource, StoredImage
from caskit.shards.store import LocalStore
from caskit.shards.verify import verify


def source(num: int = 20, **changes: Any) -> ArraySource:
    pixels = np.random.default_rng(1).integers(0, 256, (num, 4, 5, 1), dtype=np.uint8)
    labels = np.arange(num, dtype=np.int64) * 7 % 3
    fields: dict[str, Any] = {
        "dataset": "noise",
        "split": "test",
        "classes": ClassList.from_names(["a", "b", "c"]),
        "files": {"noise": "0" * 64},
        "labels": labels,
        "pixels": pixels,
        "numbers": np.arange(num),
        "file": "noise",
    }
    return ArraySource(**{**fields, **changes})


def folder(root: Path, bad: tuple[str, ...] = ()) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(7):
            pixels = np.full((4, 5, 3), 20 * label + number, dtype=np.uint8)
            (root / name / f"{number}.png").write_bytes(encode(pixels, Codec.of("png")))
    for name in bad:
        (root / name).write_bytes(b"no image")
    return root


def test_a_set_holds_the_source(tmp_path: Path) -> None:
    given, seen = source(), list[IngestProgress]()
    replica = ingest(given, tmp_path / "set", samples_per_shard=6, progress=seen.append)
    assert (replica.kind, replica.num_samples, replica.num_shards) == ("real", 20, 4)
    verify(str(tmp_path / "set"), "deep")
    data = open_set(str(tmp_path / "set"))
    images, labels = data.arrays()
    assert (images == given.pixels).all() and (labels == given.labels).all()
    row = data.table.slice(7, 1).to_pylist()[0]
    assert (row["source"], row["ordinal"], row["stream_key"], row["attempt"]) == ("noise#7", 2, None, None)
    assert data.ingest is not None and (data.split, data.ingest.histogram) == ("test", (7, 7, 6))
    assert [(step.stage, step.done, step.total) for step in seen] == [("write", n, 20) for n in (6, 12, 18, 20)]
    assert (tmp_path / "set" / "README.md").exists() and not (tmp_path / "set" / "skipped.parquet").exists()


def test_the_same_command_again_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Any) -> None:
    replica = ingest(source(), tmp_path / "set", samples_per_shard=6)
    before = tiny.tree(tmp_path / "set")
    monkeypatch.setattr(stage, "write_shards", None)
    assert ingest(source(), tmp_path / "set", samples_per_shard=6) == replica
    assert tiny.tree(tmp_path / "set") == before


def test_stopped_and_resumed_gives_the_same_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ingest(source(), tmp_path / "whole", samples_per_shard=6)
    answers = iter([False, False, True])
    with pytest.raises(NotFinished, match=r"stopped with 2 of 4 shards committed; the same command goes on"):
        ingest(source(), tmp_path / "set", samples_per_shard=6, stop=lambda: next(answers))
    written, real = [], stage.write_shard

    def noted(*arguments: Any) -> None:
        written.append(arguments[4])
        real(*arguments)

    monkeypatch.setattr(stage, "write_shard", noted)
    assert ingest(source(), tmp_path / "set", samples_per_shard=6) == whole
    assert written == [2, 3]


def test_killed_anywhere_and_resumed_gives_the_same_set(
    tmp_path: Path, tiny: Any, killer: Any, killed: type[BaseException]
) -> None:
    """Every system call that changes the disk is once the last."""
    given = source(8)
    with killer.armed(None) as calls:
        whole = ingest(given, tmp_path / "whole", samples_per_shard=5)
    for at in range(0, len(calls), 3):
        out = tmp_path / f"killed-{at}"
        with killer.armed(at), pytest.raises(killed):
            ingest(given, out, samples_per_shard=5)
        assert ingest(given, out, samples_per_shard=5) == whole
        left = {name for name in tiny.tree(out) if not name.startswith("_work/")}
        assert left == {name for name in tiny.tree(tmp_path / "whole") if not name.startswith("_work/")}
        shutil.rmtree(out)


def test_a_shard_that_cannot_be_committed_ends_an_ingest(tmp_path: Path) -> None:
    """The next one may be written already; it has no name then, and what was committed before stays."""
    out = tmp_path / "set"
    (out / "shards").mkdir(parents=True)
    (out / "shards" / "shard-000001.tar").write_bytes(b"other bytes")
    seen: list[int] = []
    with pytest.raises(NonReproducible, match="shard-000001.tar is there without a commit"):
        ingest(source(), out, samples_per_shard=5, progress=lambda step: seen.append(step.done))
    assert seen == [5] and committed_shards(LocalStore(out)) == {0}
    assert sorted(path.name for path in (out / "shards").iterdir()) == ["shard-000000.tar", "shard-000001.tar"]
    assert not list((out / "_work" / "tmp").glob("scratch-*")), "no scratch folder is left"


def test_a_folder_of_another_source_is_refused(tmp_path: Path) -> None:
    ingest(source(), tmp_path / "set", samples_per_shard=6)
    with pytest.raises(InputError, match=r"holds a set from another source; differs in samples_per_shard \(5 here, 6 "):
        ingest(source(), tmp_path / "set", samples_per_shard=5)
    with pytest.raises(InputError, match=r"differs in dataset .*split"):
        ingest(source(split="train", dataset="other"), tmp_path / "set", samples_per_shard=6)


def test_a_synthetic_sets_folder_is_refused(tmp_path: Path, tiny: Any) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan())
    with pytest.raises(InputError, match=r"holds a synthetic set \(plan.json\)"):
        ingest(source(), tmp_path / "set")
    assert not (tmp_path / "set" / "ingest.json").exists()


def test_the_check_of_skip_bad_can_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(NotFinished, match="stopped while checking images"):
        ingest(source(), tmp_path / "set", skip_bad=True, stop=lambda: True)
    assert not (tmp_path / "set" / "ingest.json").exists()


def test_an_unreadable_image_stops_with_its_path(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", bad=("dog/3.png",))
    with pytest.raises(
        InputError, match=f"unreadable image {root}/dog/3.png: .*--skip-bad, into a new folder, leaves such images out"
    ):
        ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set", samples_per_shard=4)
    assert not (tmp_path / "set" / "replica.json").exists()
    (root / "dog/3.png").write_bytes((root / "dog/2.png").read_bytes())  # mended: the same command goes on
    assert ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set", samples_per_shard=4).num_samples == 14


def test_skip_bad_lists_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, seen = folder(tmp_path / "in", bad=("dog/3.png", "cat/0.png")), list[IngestProgress]()
    given = load(f"imagefolder:{root}")["train"]
    replica = ingest(given, tmp_path / "set", samples_per_shard=4, skip_bad=True, progress=seen.append)
    assert {(step.stage, step.total) for step in seen} == {("check", 14), ("write", 12)}
    skipped = pq.read_table(tmp_path / "set" / "skipped.parquet").to_pylist()
    assert [row["path"] for row in skipped] == ["cat/0.png", "dog/3.png"] and "no image" in skipped[0]["error"]
    verify(str(tmp_path / "set"), "deep")
    data = open_set(str(tmp_path / "set"))
    assert data.ingest is not None and data.ingest.histogram == (6, 6)
    assert not set(data.table.column("source").to_pylist()) & {"cat/0.png", "dog/3.png"}
    monkeypatch.setattr(stage, "read_ahead", None)  # the second time what to skip is known, nothing is read
    assert ingest(given, tmp_path / "set", samples_per_shard=4, skip_bad=True) == replica


def test_skip_bad_without_bad_images_is_the_same_set(tmp_path: Path) -> None:
    given = load(f"imagefolder:{folder(tmp_path / 'in')}")["train"]
    assert ingest(given, tmp_path / "a", skip_bad=True) == ingest(given, tmp_path / "b")
    assert pq.read_table(tmp_path / "a" / "skipped.parquet").num_rows == 0
    assert ingest(given, tmp_path / "a", skip_bad=True) == ingest(given, tmp_path / "a")


def test_all_bad(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match="holds no readable image|holds no image"):
        ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set", skip_bad=True)


def test_original_bytes_are_stored(tmp_path: Path) -> None:
    root = folder(tmp_path / "in")
    ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set")
    data = open_set(str(tmp_path / "set"))
    for sample_id, path in enumerate(data.table.column("source").to_pylist()):
        assert data.read(sample_id) == (root / path).read_bytes()


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """64 images of 1 MB go through a few MB: what is read ahead is bounded."""

    class Large:
        dataset, split, codec, licence = "large", "train", {"name": "original"}, None
        files: Mapping[str, str] = {}
        classes = ClassList.from_names(["only"])
        labels = np.zeros(64, dtype=np.int64)

        def size_bytes(self, sample_id: int) -> int | None:
            return None

        def path(self, sample_id: int) -> str:
            return str(sample_id)

        def read(self, sample_id: int) -> StoredImage:
            return StoredImage(data=b"\x89PNG\r\n\x1a\n" + bytes(2**20), extension="png", width=1, height=1)

        def without(self, sample_ids: Any) -> Any:
            raise AssertionError

    tracemalloc.start()
    monkey_limit = stage._IN_FLIGHT
    try:
        ingest(Large(), tmp_path / "set", samples_per_shard=64)
        assert tracemalloc.get_traced_memory()[1] < (monkey_limit + 16) * 2**20
    finally:
        tracemalloc.stop()


def test_threads_decide_nothing(tmp_path: Path) -> None:
    root = folder(tmp_path / "in")
    made = [
        ingest(load(f"imagefolder:{root}")["train"], tmp_path / f"{threads}", samples_per_shard=4, threads=threads)
        for threads in (1, 5)
    ]
    assert made[0] == made[1]


def test_ordinals_count_up_in_each_class() -> None:
    assert class_ordinals(np.array([2, 0, 2, 2, 0, 5])).tolist() == [0, 0, 1, 2, 1, 0]


def test_another_folder_of_equal_shape_is_another_source(tmp_path: Path) -> None:
    root = folder(tmp_path / "in")
    done = ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set")
    assert ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set") == done
    (root / "cat" / "1.png").rename(root / "cat" / "9.png")
    with pytest.raises(
        InputError, match="key cat_00000. was made from cat/.*, which is cat/.* now; use another folder"
    ):
        ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set")
    (root / "cat" / "9.png").rename(root / "cat" / "1.png")
    (root / "dog" / "2.png").write_bytes(encode(np.zeros((9, 9, 3), dtype=np.uint8), Codec.of("png")))
    with pytest.raises(InputError, match="was made from dog/2.png, another image now; use another folder"):
        ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set")


def test_committed_shards_are_compared_with_the_source_too(tmp_path: Path) -> None:
    root, calls = folder(tmp_path / "in"), list[int]()
    with pytest.raises(NotFinished):
        ingest(
            load(f"imagefolder:{root}")["train"],
            tmp_path / "set",
            samples_per_shard=4,
            stop=lambda: calls.append(1) or len(calls) > 2,  # type: ignore[func-returns-value]
        )
    (root / "cat" / "1.png").rename(root / "cat" / "9.png")
    with pytest.raises(InputError, match="was made from cat/.* now; use another folder"):
        ingest(load(f"imagefolder:{root}")["train"], tmp_path / "set", samples_per_shard=4)
