from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pebble_drive import MICROBATCH, SAMPLES_PER_SHARD, plan_of

from caskit.gen import family as family_table
from caskit.gen.checkpoint import Checkpoint, save_checkpoint
from caskit.gen.reconstruction import make_reconstruction, reconstruct
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.manifests.plan import Numerics
from caskit.manifests.rows import ROW_SCHEMA
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.ingest import ingest
from caskit.shards.parentage import check_parent
from caskit.shards.sources.source import ArraySource
from caskit.shards.verify import verify

NUM, HEIGHT, WIDTH = 47, 6, 4
NAMES = [f"pebble {label}" for label in range(5)]
INLINE = SampleConfig(executor="inline")


def make_real(out: Path, *, seed: int = 0, width: int = WIDTH, names: list[str] = NAMES) -> FrozenSet:
    generator = np.random.default_rng(seed)
    source = ArraySource(
        dataset="pebbles",
        split="train",
        classes=ClassList.from_names(names),
        files={},
        labels=generator.integers(0, len(names), NUM),  # in no order, as a real set's
        pixels=generator.integers(0, 256, (NUM, HEIGHT, width, 1)).astype(np.uint8),
        numbers=np.arange(NUM),
        file="pebbles",
    )
    ingest(source, out, samples_per_shard=15)
    return open_set(str(out))


@pytest.fixture
def parent(tmp_path: Path) -> FrozenSet:
    return make_real(tmp_path / "real")


@pytest.fixture
def mirror(pebble: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setitem(family_table.FAMILIES, "mirror", "mirror_family")
    return save_checkpoint(
        tmp_path / "mirror",
        family="mirror",
        preset="tiny",
        config={},
        classes=ClassList.from_names(NAMES),
        height=HEIGHT,
        width=WIDTH,
        channels=1,
        tensors={"base": torch.arange(5, dtype=torch.uint8)},
    )


def record_of(mirror: Checkpoint, parent: FrozenSet, **changes: Any) -> Any:
    values = {"samples_per_shard": SAMPLES_PER_SHARD, "microbatch_size": MICROBATCH} | changes
    return make_reconstruction(mirror, parent, **values)


def make(mirror: Checkpoint, parent: FrozenSet, out: Path, config: SampleConfig = INLINE, **options: Any) -> FrozenSet:
    record = record_of(mirror, parent, **options.pop("changes", {}))
    reconstruct(record, out, parent=parent, checkpoint=mirror.path, config=config, **options)
    return open_set(str(out))


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


def test_every_image_is_the_reconstruction_of_its_real_one(
    mirror: Checkpoint, parent: FrozenSet, tmp_path: Path
) -> None:
    made = make(mirror, parent, tmp_path / "out", changes={"pixel_digests": True, "codec": Codec.of("webp")})
    from mirror_family import mirrored

    images, labels = parent.arrays()
    assert np.array_equal(made.arrays()[0], mirrored(images))
    assert np.array_equal(made.labels, labels) and made.keys == parent.keys
    assert (made.kind, made.split, made.plan, made.ingest) == ("reconstruction", "train", None, None)
    rows = made.table.to_pylist()
    assert [row["source"] for row in rows] == parent.keys
    assert [row["ordinal"] for row in rows] == parent.table.column("ordinal").to_pylist()
    assert all(row["stream_key"] is None and row["attempt"] is None and row["filter_score"] is None for row in rows)
    assert all(row["pixel_sha256"] is not None for row in rows)
    assert verify(str(tmp_path / "out"), "deep").replica == made.replica
    check_parent(made, parent)


def test_two_ray_workers_write_the_bytes_of_one(mirror: Checkpoint, parent: FrozenSet, tmp_path: Path) -> None:
    one = make(mirror, parent, tmp_path / "one")
    two = make(mirror, parent, tmp_path / "two", SampleConfig(executor="ray", num_workers=2))
    assert tars(tmp_path / "one") == tars(tmp_path / "two") and len(tars(tmp_path / "one")) == 3
    assert one.replica == two.replica


def test_stopped_and_called_again_it_ends_the_same(mirror: Checkpoint, parent: FrozenSet, tmp_path: Path) -> None:
    whole = make(mirror, parent, tmp_path / "whole")
    done: list[int] = []
    with pytest.raises(NotFinished, match="2 of 3 shards left"):
        make(
            mirror,
            parent,
            tmp_path / "out",
            progress=lambda progress: done.append(progress.shards_done),
            stop=lambda: bool(done) and done[-1] >= 1,
        )
    assert not (tmp_path / "out/replica.json").exists()
    again = make(mirror, parent, tmp_path / "out")
    assert again.replica == whole.replica and tars(tmp_path / "out") == tars(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    make(mirror, parent, tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_an_output_that_is_not_finite_fails_its_shard_by_key(
    mirror: Checkpoint, parent: FrozenSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = 23
    monkeypatch.setenv("MIRROR_NOT_FINITE", str(int(parent.image(bad).astype(np.int64).sum())))
    message = rf"1 of 3 shards failed twice \(shard 1: .*not finite for key {parent.keys[bad]}\); 2 committed"
    with pytest.raises(RunFailed, match=message):
        make(mirror, parent, tmp_path / "out")
    monkeypatch.delenv("MIRROR_NOT_FINITE")
    assert len(make(mirror, parent, tmp_path / "out")) == NUM


def test_a_family_without_an_encoder_is_refused_before_anything_is_written(
    pebble: Checkpoint, parent: FrozenSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="family pebble cannot reconstruct images, it has no encoder of its own"):
        make(pebble, parent, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sets_that_do_not_go_with_the_model(mirror: Checkpoint, pebble: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"width of the images is 5, .* is a model of 4"):
        record_of(mirror, make_real(tmp_path / "wide", width=5))
    with pytest.raises(InputError, match=r"fitted to other classes \(5, c00, ...\) than those of .* \(4"):
        record_of(mirror, make_real(tmp_path / "few", names=NAMES[:4]))
    sample(plan_of(pebble.path, 20), tmp_path / "synthetic", checkpoint=pebble.path, config=INLINE)
    with pytest.raises(InputError, match="is a synthetic set, reconstructions are made of a real one"):
        record_of(mirror, open_set(str(tmp_path / "synthetic")))


def test_the_folder_of_another_set_is_refused_by_field(mirror: Checkpoint, parent: FrozenSet, tmp_path: Path) -> None:
    make(mirror, parent, tmp_path / "out")
    with pytest.raises(InputError, match=r"holds other reconstructions; these fields differ: numerics.threads"):
        make(mirror, parent, tmp_path / "out", changes={"numerics": Numerics(threads=2)})
    with pytest.raises(InputError, match="holds a real set, a reconstruction set needs a folder of its own"):
        make(mirror, parent, tmp_path / "real")
    with pytest.raises(InputError, match=r"holds a reconstruction set \(reconstruction.json\), use another folder"):
        make_real(tmp_path / "out")


def test_a_worker_of_another_family_version_or_checkpoint_is_refused(
    mirror: Checkpoint, parent: FrozenSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mirror_family

    record = record_of(mirror, parent)
    monkeypatch.setattr(mirror_family, "SAMPLER_VERSION", 4)
    with pytest.raises(InputError, match="made with sampler_version 3, this caskit has 4"):
        reconstruct(record, tmp_path / "out", parent=parent, checkpoint=mirror.path, config=INLINE)


def edit(folder: Path, column: str, row: int, value: Any) -> str:
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    rows[row][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), folder / "manifest.parquet")
    return str(rows[row]["key"])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("source", "c00_000001", "source is 'c00_000001', a reconstruction has the key of its real image"),
        ("source", None, "source is missing in a reconstruction set"),
        ("stream_key", bytes(16), "stream_key is there in a reconstruction set"),
        ("attempt", 0, "attempt is there in a reconstruction set"),
        ("width", 5, "width is 5, must be 4"),
    ],
)
def test_edited_rows_are_found_without_the_parent(
    column: str, value: Any, message: str, mirror: Checkpoint, parent: FrozenSet, tmp_path: Path
) -> None:
    make(mirror, parent, tmp_path / "out")
    key = edit(tmp_path / "out", column, 0, value)
    with pytest.raises(IntegrityError, match=f"key {key}: {message}"):
        verify(str(tmp_path / "out"))


def test_the_parent_shows_what_the_set_alone_cannot(mirror: Checkpoint, parent: FrozenSet, tmp_path: Path) -> None:
    made = make(mirror, parent, tmp_path / "out")
    with pytest.raises(InputError, match="was made from replica_id"):
        check_parent(made, make_real(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="is a real set, only reconstructions have a parent"):
        check_parent(parent, parent)
    shifted = open_set(str(tmp_path / "out"))
    ids = np.roll(shifted.table.column("sample_id").to_numpy(), 1)
    place = shifted.table.schema.get_field_index("sample_id")
    shifted.table = shifted.table.set_column(place, ROW_SCHEMA.field("sample_id"), pa.array(ids))
    with pytest.raises(IntegrityError, match=rf"key {made.keys[0]}: sample_id is 46, that of source .* is 0"):
        check_parent(shifted, parent)


def test_the_card_names_the_parent(mirror: Checkpoint, parent: FrozenSet, tmp_path: Path) -> None:
    make(mirror, parent, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "# mirror-tiny-reconstructions" in card and "Reconstructions of real images in shards" in card
    assert f"`{parent.replica.replica_id}`" in card and "- reconstruction\n" in card
    assert "reconstruction by mirror:tiny" in (tmp_path / "out/croissant.json").read_text()
    assert "reconstruction.json" in (tmp_path / "out/SHA256SUMS").read_text()
