"""The sampling stage inside one process; test_executors.py has the others."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pebble_drive import plan_of, save_pebble

from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.executors import Part
from caskit.gen.sampling import SampleConfig, freeze_replica, make_worker, sample
from caskit.gen.telemetry import Progress
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, NonReproducible, NotFinished, RunFailed
from caskit.manifests.plan import Numerics
from caskit.manifests.seeds import stream_key
from caskit.shards.commit import commit_name, shard_path
from caskit.shards.dataset import open_set
from caskit.shards.verify import verify

INLINE = SampleConfig(executor="inline")


def tars(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def run(checkpoint: Checkpoint, out: Path, num: int = 103, *, config: SampleConfig = INLINE, **changes):
    return sample(plan_of(checkpoint.path, num, **changes), out, checkpoint=checkpoint.path, config=config)


def test_a_replica_holds_what_its_plan_says(pebble: Checkpoint, tmp_path: Path) -> None:
    told: list[Progress] = []
    plan = plan_of(pebble.path, 103, pixel_digests=True)
    replica = sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE, progress=told.append)
    assert replica is not None and replica.num_samples == 103 and replica.num_shards == 6
    frozen = open_set(str(tmp_path / "r"))
    labels, ordinals = plan.draw_order.assign(0, 103)
    assert frozen.labels.tolist() == labels.tolist()
    assert frozen.table.column("ordinal").to_pylist() == ordinals.tolist()
    for sample_id in (0, 50, 102):
        label = int(labels[sample_id])
        image = frozen.image(sample_id)
        assert image.shape == (6, 4, 1) and (image >= 40 * label).all() and (image < 40 * label + 32).all()
        row = frozen.table.slice(sample_id, 1).to_pylist()[0]
        assert row["stream_key"] == stream_key(3, label, int(ordinals[sample_id]), 0) and row["attempt"] == 0
        assert row["pixel_sha256"] is not None and row["source"] is None
    assert [p.shards_done for p in told] == [0, 1, 2, 3, 4, 5, 6] and told[0].eta_s is None
    assert told[-1].images_done == told[-1].num_images == 103 and told[-1].eta_s == 0
    provenance = json.loads((tmp_path / "r/provenance.json").read_bytes())
    assert provenance["one_environment"] is True and provenance["environments"][0]["num_shards"] == 6


def test_a_second_run_does_nothing_twice(pebble: Checkpoint, tmp_path: Path) -> None:
    first = run(pebble, tmp_path / "r")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert run(pebble, tmp_path / "r") == first == freeze_replica(tmp_path / "r")
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if "replica" in path.name)
    lines = [p.read_text() for p in (tmp_path / "r/_work/telemetry").iterdir()]
    assert len(lines) == 1 and lines[0].count('"event": "shard"') == 6
    assert not list((tmp_path / "r/_work/tmp").iterdir())
    for name in ("README.md", "SHA256SUMS"):  # as if killed after replica.json
        (tmp_path / "r" / name).unlink()
    assert run(pebble, tmp_path / "r") == first and (tmp_path / "r/SHA256SUMS").exists()


def test_bytes_do_not_depend_on_the_order_of_work(pebble: Checkpoint, tmp_path: Path) -> None:
    whole = run(pebble, tmp_path / "a")
    for index in (3, 1, 2):
        config = dataclasses.replace(INLINE, part=Part(index=index, count=3))
        assert run(pebble, tmp_path / "b", config=config) is None
    assert freeze_replica(tmp_path / "b") == whole
    assert tars(tmp_path / "a") == tars(tmp_path / "b")


def test_padding_leaves_no_trace(pebble: Checkpoint, tmp_path: Path) -> None:
    """Without floats the microbatch size changes no image: 20 = 2 * 8 + 4 is padded, 20 * 1 is not."""
    padded, single = run(pebble, tmp_path / "a"), run(pebble, tmp_path / "b", microbatch_size=1)
    assert padded.content_root == single.content_root and padded.rows_root == single.rows_root
    assert tars(tmp_path / "a") == tars(tmp_path / "b")


def test_output_that_is_not_finite_is_drawn_again(pebble: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(pebble.path, 103, sampler={"not_finite_every": 4}, max_attempts=12)
    sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE)
    frozen = open_set(str(tmp_path / "r"))
    attempts = frozen.table.column("attempt").to_pylist()
    assert max(attempts) >= 2 and 10 < sum(attempt > 0 for attempt in attempts) < 45
    for row in frozen.table.to_pylist():
        assert row["stream_key"] == stream_key(3, row["label"], row["ordinal"], row["attempt"])
    plain = run(pebble, tmp_path / "plain")
    assert plain.content_root != frozen.replica.content_root
    unchanged = np.flatnonzero(np.array(attempts) == 0)
    reference = open_set(str(tmp_path / "plain"))
    assert all(reference.read(i) == frozen.read(i) for i in unchanged.tolist())


def test_output_that_stays_not_finite_fails_its_shards(pebble: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(
        RunFailed, match="shards failed twice .shard 0: RunFailed: output of pebble was not finite in 2 "
    ):
        run(pebble, tmp_path / "r", sampler={"not_finite_every": 1}, max_attempts=2)
    assert not (tmp_path / "r/shards").exists() or not list((tmp_path / "r/shards").iterdir())


def test_a_shard_that_failed_once_is_tried_again(pebble: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    expected = run(pebble, tmp_path / "expected")
    folder = tmp_path / "fail"
    folder.mkdir()
    (folder / "once").touch()
    monkeypatch.setenv("PEBBLE_FAIL_FOLDER", str(folder))
    told: list[Progress] = []
    plan = plan_of(pebble.path, 103)
    assert sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE, progress=told.append) == expected
    assert told[-1].num_retried == 1 and told[-1].num_failed == 0
    (folder / "always").touch()
    with pytest.raises(RunFailed, match="5 of 6 shards failed twice .shard 0: ArithmeticError: told to fail by always"):
        run(pebble, tmp_path / "other")
    (folder / "always").unlink()
    assert run(pebble, tmp_path / "other") == expected


def test_a_stop_finishes_the_shard_in_flight(pebble: Checkpoint, tmp_path: Path) -> None:
    expected = run(pebble, tmp_path / "expected")
    plan = plan_of(pebble.path, 103)
    done: list[int] = []
    with pytest.raises(NotFinished, match="4 of 6 shards left"):
        sample(
            plan,
            tmp_path / "r",
            checkpoint=pebble.path,
            config=INLINE,
            progress=lambda progress: done.append(progress.shards_done),
            stop=lambda: done[-1:] == [2],
        )
    with pytest.raises(NotFinished, match="4 of 6 shards are not committed"):
        freeze_replica(tmp_path / "r")
    assert run(pebble, tmp_path / "r") == expected


def test_orphans(pebble: Checkpoint, tmp_path: Path) -> None:
    """A tar without a commit: equal bytes are adopted, other bytes stop the shard until they may be discarded."""
    out, expected = tmp_path / "r", run(pebble, tmp_path / "expected")
    assert run(pebble, out, config=dataclasses.replace(INLINE, freeze=False)) is None
    good = (out / shard_path(2)).read_bytes()
    (out / commit_name(2)).unlink()
    (out / commit_name(4)).unlink()
    (out / shard_path(4)).unlink()
    (out / shard_path(4)).write_bytes(good)
    with pytest.raises(RunFailed, match="1 of 2 shards failed twice .shard 4: NonReproducible: .*--discard-orphans"):
        run(pebble, out)
    assert (out / shard_path(4)).read_bytes() == good and (out / commit_name(2)).exists()
    assert [path.suffix for path in sorted((out / "quarantine").iterdir())] == [".parquet", ".tar"]
    assert run(pebble, out, config=dataclasses.replace(INLINE, discard_orphans=True)) == expected
    assert tars(out) == tars(tmp_path / "expected")


def test_a_commit_of_other_bytes_is_never_replaced(pebble: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    from caskit.gen.worker import Worker

    out = tmp_path / "r"
    run(pebble, out, config=dataclasses.replace(INLINE, freeze=False))
    worker = Worker(plan_of(pebble.path, 103), module="pebble_family", location=str(out), checkpoint=pebble.path)
    assert worker(0).outcome == "already"
    monkeypatch.setattr(
        "caskit.shards.store.LocalStore.exists", lambda self, name: "commits" in name and len(calls) > 0
    )
    import pebble_family

    original = pebble_family.PebbleGenerator.sample
    calls: list[int] = []

    def darker(self, labels, streams):
        calls.append(1)
        images, finite = original(self, labels, streams)
        return images // 2, finite

    monkeypatch.setattr(pebble_family.PebbleGenerator, "sample", darker)
    before = tars(out)
    with pytest.raises(NonReproducible, match="is committed with sha256 .* the same plan now gave sha256"):
        worker(0)
    assert tars(out) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "these fields differ: seed .3 there|seed .4 here, 3 there"),
        ({"num": 104}, "these fields differ: histogram"),
        ({"codec": Codec.of("webp")}, "codec.name .'webp' here, 'png' there"),
        ({"numerics": Numerics(threads=2)}, "numerics.threads .2 here, 1 there"),
        ({"sampler": {"brightness": 2}}, "sampler.brightness .2 here, 0 there"),
    ],
)
def test_a_folder_with_another_plan_is_refused(pebble: Checkpoint, tmp_path: Path, change: dict, message: str) -> None:
    run(pebble, tmp_path / "r", 20)
    with pytest.raises(InputError, match=message):
        run(pebble, tmp_path / "r", **{"num": 20, **change})


def test_wrong_input_dies_before_any_work(pebble: Checkpoint, tmp_path: Path) -> None:
    other = save_pebble(tmp_path / "other", num_classes=4)
    plan = plan_of(pebble.path, 20)
    with pytest.raises(InputError, match="checkpoint_id is .* the plan asks for"):
        sample(plan, tmp_path / "r", checkpoint=other.path, config=INLINE)
    with pytest.raises(InputError, match="device is 'cuda', the plan is for cpu"):
        sample(plan, tmp_path / "r", checkpoint=pebble.path, config=dataclasses.replace(INLINE, device="cuda"))
    assert not (tmp_path / "r").exists()
    for wrong, message in (
        ({"executor": "slurm"}, "executor is 'slurm', allowed: ray, inline"),
        ({"num_workers": 0}, "workers is 0"),
        ({"executor": "inline", "num_workers": 2}, "executor inline has one worker, not 2"),
        ({"executor": "inline", "ray_address": "x"}, "joins no cluster"),
    ):
        with pytest.raises(InputError, match=message):
            SampleConfig(**wrong)
    for text in ("0/3", "4/3", "3", "a/b", "1/0", "-1/3"):
        with pytest.raises(InputError, match="part is"):
            Part.parse(text)


def test_a_real_set_is_no_place_for_a_replica(pebble: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/ingest.json").write_bytes(b"{}")
    with pytest.raises(InputError, match="holds a real set"):
        run(pebble, tmp_path / "r")


def test_a_read_only_folder(pebble: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        run(pebble, tmp_path / "file" / "r")


def test_another_release_of_the_sampler_does_not_go_on(pebble: Checkpoint, tmp_path: Path) -> None:
    plan = dataclasses.replace(plan_of(pebble.path, 20), sampler_version=2)
    with pytest.raises(InputError, match="plan was made with sampler_version 2, this caskit has 1"):
        sample(plan, tmp_path / "r", checkpoint=load_checkpoint(pebble.path).path, config=INLINE)


@pytest.mark.parametrize("codec", ["png", "jpeg", "webp"])
def test_pixel_digests_are_those_of_decoded_images(pebble: Checkpoint, tmp_path: Path, codec: str) -> None:
    settings = {"lossless": False} if codec == "webp" else {}
    assert run(pebble, tmp_path / "r", 23, codec=Codec.of(codec, settings), pixel_digests=True) is not None
    assert verify(str(tmp_path / "r"), "deep").checks[-1] == ("images decoded", 23)


def test_a_worker_that_does_not_see_the_replica_says_so(pebble: Checkpoint, tmp_path: Path) -> None:
    worker = make_worker(plan_of(pebble.path, 23), str(tmp_path / "elsewhere"), pebble.path, INLINE)
    with pytest.raises(InputError, match="does not see the replica there; all nodes must share the folder"):
        worker(0)
