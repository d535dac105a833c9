"""The teacher-forced check: an honest replica passes, also otherwise batched; every forgery is found where it is."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coded_family import NUM_CODES, SHAPES, save_coded
from forged_sets import forge
from pebble_drive import plan_of

from caskit.gen.audit import AuditConfig, AuditReport, Failure, Selection, audit
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.drawing import Drawn
from caskit.gen.sampling import SampleConfig, sample
from caskit.gen.streams import Streams
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Numerics, Plan
from caskit.manifests.seeds import stream_key
from caskit.shards.verify import verify

KEY, OTHER = "c02_000003", "c04_000001"


def check(root: Path, checkpoint: Path, **config) -> AuditReport:
    return audit(str(root), checkpoint, AuditConfig(**config))


def found(report: AuditReport, kind: str) -> list[Failure]:
    return [failure for failure in report.failures if failure.kind == kind]


def test_an_honest_replica_passes_exactly(honest: tuple[Path, Path], coded: Checkpoint) -> None:
    report = check(*honest)
    assert report.passed and report.exact and report.mode == "teacher-forced"
    assert (report.epsilon, report.pixel_tolerance, report.environment_differs) == (1e-4, 0, ())
    assert {name: report.counts[name] for name in ("rows", "samples", "codes", "images", "images_equal")} == {
        "rows": 53, "samples": 53, "codes": 53 * 18, "images": 53, "images_equal": 53,
    }  # fmt: skip
    assert report.max_excess is not None and report.max_excess < 1e-6 and report.max_pixel_difference == 0
    assert report.counts["earlier_attempts"] > 0, "the plan draws some samples again"


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (5, 1), (8, 2), (64, 2)])
def test_also_with_another_batch_size_and_thread_count(
    honest: tuple[Path, Path], coded: Checkpoint, batch_size: int, threads: int
) -> None:
    report = check(*honest, batch_size=batch_size, threads=threads)
    assert report.passed and not report.exact and report.pixel_tolerance == 1
    assert report.counts["samples"] == 53 and report.max_excess is not None and report.max_excess < 1e-6
    assert (report.batch_size, report.threads) == (batch_size, threads)


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_lossy_and_other_codecs(coded: Checkpoint, tmp_path: Path, codec: str) -> None:
    settings = {"lossless": False} if codec == "webp" else {}
    plan = plan_of(coded.path, 20, record_codes=True, codec=Codec.of(codec, settings))
    sample(plan, tmp_path / "r", checkpoint=coded.path, config=SampleConfig(executor="inline"))
    assert check(tmp_path / "r", coded.path).exact
    other = check(tmp_path / "r", coded.path, batch_size=3)
    assert other.passed and other.pixel_tolerance == 16 and other.counts["images_equal"] > 10


def test_reduced_precision_has_wider_defaults(coded: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(coded.path, 20, record_codes=True, numerics=Numerics(precision="bfloat16"))
    sample(plan, tmp_path / "r", checkpoint=coded.path, config=SampleConfig(executor="inline"))
    report = check(tmp_path / "r", coded.path, batch_size=3)
    assert report.passed and (report.epsilon, report.pixel_tolerance) == (1e-2, 8)


def one_code(samples: dict[str, Drawn], generator) -> None:
    """Change one code below, and decode the image from what it is now."""
    sample = samples[KEY]
    assert sample.codes is not None
    codes = {name: maps.copy() for name, maps in sample.codes.items()}
    codes["bottom"][0, 2, 1] = (codes["bottom"][0, 2, 1] + NUM_CODES // 2) % NUM_CODES
    images, _ = generator.decode_codes(np.array([2]), codes)
    samples[KEY] = dataclasses.replace(sample, codes=codes, images=images)


def test_one_changed_code_is_found_with_key_and_position(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    forge(tmp_path / "r", coded_plan, coded.path, change=one_code)
    verify(str(tmp_path / "r"), "deep")  # nothing but the generator can tell
    for config in ({}, {"batch_size": 3}, {"selection": Selection(keys=(KEY,))}):
        report = check(tmp_path / "r", coded.path, **config)
        assert {failure.key for failure in report.failures} == {KEY}
        first = report.failures[0]
        assert (first.kind, first.level, first.row, first.column) == ("interval", "bottom", 2, 1)
        assert first.excess is not None and first.excess > 1e-3
        assert f"key {KEY}: bottom row 2, column 1: its uniform lies" in str(first)
    others = tuple(f"c02_{ordinal:06d}" for ordinal in (0, 1, 2))
    assert check(tmp_path / "r", coded.path, selection=Selection(keys=others)).passed


def test_a_code_that_the_model_does_not_have(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    def unknown(samples: dict[str, Drawn], generator) -> None:
        assert samples[KEY].codes is not None
        samples[KEY].codes["top"][0, 1, 2] = 60000

    forge(tmp_path / "r", coded_plan, coded.path, change=unknown)
    report = check(tmp_path / "r", coded.path)
    first = report.failures[0]
    assert (first.key, first.level, first.row, first.column, first.excess) == (KEY, "top", 1, 2, None)
    assert "code 60000 is none that the model has" in first.message
    assert report.max_excess == np.inf and b'"max_excess":"infinite"' in report.to_bytes()


def test_swapped_images_are_found_with_the_first_pixel(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    def swap(samples: dict[str, Drawn], generator) -> None:
        one, two = samples[KEY], samples[OTHER]
        samples[KEY] = dataclasses.replace(one, images=two.images)
        samples[OTHER] = dataclasses.replace(two, images=one.images)

    forge(tmp_path / "r", coded_plan, coded.path, change=swap)
    report = check(tmp_path / "r", coded.path)
    assert sorted(str(failure.key) for failure in found(report, "pixels")) == [KEY, OTHER]
    assert not found(report, "interval") and report.num_failures == 2
    for failure in report.failures:
        assert failure.row is not None and failure.column is not None and failure.pixel_difference is not None
        assert "its codes decode to another image than is stored" in str(failure)
    assert [pair.failed for pair in report.pairs][:3] == [True, True, False]


def test_one_changed_pixel(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    def brighten(samples: dict[str, Drawn], generator) -> None:
        samples[KEY].images[0, 4, 2, 0] ^= 1

    forge(tmp_path / "r", coded_plan, coded.path, change=brighten)
    (failure,) = check(tmp_path / "r", coded.path).failures
    assert (failure.key, failure.row, failure.column, failure.pixel_difference) == (KEY, 4, 2, 1)
    assert check(tmp_path / "r", coded.path, batch_size=3).passed, "one grey level is within the stated tolerance"
    assert not check(tmp_path / "r", coded.path, batch_size=3, pixel_tolerance=0).passed


def test_a_changed_seed_is_found(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    """Samples of another seed under a plan, rows and stream keys of this one; the order of the plan's seed is kept."""
    forge(tmp_path / "r", coded_plan, coded.path, made=dataclasses.replace(coded_plan, seed=4))
    report = check(tmp_path / "r", coded.path)
    assert {failure.key for failure in found(report, "interval")} >= {KEY, OTHER}
    assert len({failure.key for failure in report.failures}) > 50
    assert not found(report, "pixels"), "its codes do decode to its images"


def test_a_changed_label_is_found(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    """Samples drawn for another label from the right stream."""

    def relabelled(samples: dict[str, Drawn], generator) -> None:
        for attempt in range(coded_plan.max_attempts):
            streams = Streams([stream_key(coded_plan.seed, 2, 3, attempt)])
            codes = generator.sample_codes(np.array([1]), streams)
            images, finite = generator.decode_codes(np.array([1]), codes)
            if finite[0]:
                break
        attempts = np.array([attempt])
        samples[KEY] = dataclasses.replace(samples[KEY], codes=codes, images=images, attempts=attempts)

    forge(tmp_path / "r", coded_plan, coded.path, change=relabelled)
    report = check(tmp_path / "r", coded.path)
    assert {failure.key for failure in report.failures} == {KEY} and found(report, "interval")


def test_a_label_edited_in_the_rows_is_found_before_anything_is_computed(
    honest: tuple[Path, Path], coded: Checkpoint, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = shutil.copytree(honest[0], tmp_path / "r")
    table = pq.read_table(root / "manifest.parquet")
    rows = table.to_pylist()
    next(row for row in rows if row["key"] == KEY)["label"] = 1
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), root / "manifest.parquet")
    report = check(root, honest[1])
    assert found(report, "record")[0].key == KEY and "label is 1, must be 2" in str(report.failures[0])
    assert "samples" not in report.counts


def test_another_checkpoint(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    """Refused by name; and a set that was made with another one than it says is found by the CDFs."""
    other = save_coded(tmp_path / "other", seed=1)
    forge(tmp_path / "r", coded_plan, other.path)
    ids = f"checkpoint_id is {other.checkpoint_id}, the replica's plan names {coded.checkpoint_id}; --allow-checkpoint"
    with pytest.raises(InputError, match=ids) as error:
        check(tmp_path / "r", other.path)
    assert "\n" not in str(error.value)
    report = check(tmp_path / "r", coded.path)
    assert len({failure.key for failure in found(report, "interval")}) > 50
    allowed = check(tmp_path / "r", other.path, allow_checkpoint=True)
    assert allowed.passed, "which is how it was made"
    assert (allowed.checkpoint_id, allowed.planned_checkpoint_id) == (other.checkpoint_id, coded.checkpoint_id)


def test_a_checkpoint_of_another_family(honest: tuple[Path, Path], coded: Checkpoint, pebble: Checkpoint) -> None:
    with pytest.raises(InputError, match="holds a checkpoint of family pebble, the plan's is of coded|of pebble"):
        check(honest[0], pebble.path, allow_checkpoint=True)


def test_a_chosen_attempt_is_found(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    """A later draw than the plan keeps is drawn as honestly as any other: only the earlier ones give it away."""

    def choose(samples: dict[str, Drawn], generator) -> None:
        for attempt in range(int(samples[KEY].attempts[0]) + 1, coded_plan.max_attempts):
            codes = generator.sample_codes(np.array([2]), Streams([stream_key(coded_plan.seed, 2, 3, attempt)]))
            images, finite = generator.decode_codes(np.array([2]), codes)
            if finite[0]:
                break
        attempts = np.array([attempt])
        samples[KEY] = dataclasses.replace(samples[KEY], codes=codes, images=images, attempts=attempts)

    forge(tmp_path / "r", coded_plan, coded.path, change=choose)
    report = check(tmp_path / "r", coded.path)
    assert {failure.key for failure in report.failures} == {KEY}
    assert found(report, "attempt") and "before it was finite" in str(report.failures[0])


def flip_code_bytes(root: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / "codes/shard-000001.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[2]["top"] = bytes([rows[2]["top"][0] ^ 1]) + rows[2]["top"][1:]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return str(rows[2]["key"])


def flip_image_bytes(root: Path) -> str:
    import pyarrow.parquet as pq

    row = pq.read_table(root / "manifest.parquet").to_pylist()[7]
    tar = root / f"shards/shard-{row['shard']:06d}.tar"
    data = bytearray(tar.read_bytes())
    data[row["tar_offset"] + 30] ^= 1
    tar.write_bytes(data)
    return str(row["key"])


@pytest.mark.parametrize(("damage", "kind"), [(flip_code_bytes, "codes"), (flip_image_bytes, "image")])
def test_damage_is_found_by_the_digests_of_the_rows(
    honest: tuple[Path, Path], coded: Checkpoint, tmp_path: Path, damage: Callable[[Path], str], kind: str
) -> None:
    root = shutil.copytree(honest[0], tmp_path / "r")
    key = damage(root)
    for mode in ("teacher-forced", "redraw"):
        report = check(root, honest[1], mode=mode)
        (failure,) = report.failures
        assert (failure.kind, failure.key) == (kind, key) and "whose SHA-256 its row holds" in failure.message


def test_sidecars_of_a_generator_with_other_levels(
    honest: tuple[Path, Path], coded: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "bottom", (3, 4))
    report = check(*honest, selection=Selection(keys=(KEY,)))
    assert "levels top 2x3, bottom 4x3, the generator draws levels top 2x3, bottom 3x4" in str(report.failures[0])


def test_another_environment_class_is_named_and_relaxes_equality(
    honest: tuple[Path, Path], coded: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    report = check(*honest)
    assert report.passed and not report.exact and report.pixel_tolerance == 1
    assert any("MKL_CBWR" in field for field in report.environment_differs)


def test_the_draw_follows_from_seed_and_replica(honest: tuple[Path, Path], coded: Checkpoint) -> None:
    def drawn(seed: int, count: int = 9) -> set[str]:
        report = check(*honest, selection=Selection(num_random=count, seed=seed))
        assert report.passed and report.counts["samples"] == count
        assert report.selection == {"kind": "random", "keys": None, "num_random": count, "seed": seed}
        return {pair.key for pair in report.pairs}

    assert drawn(1) == drawn(1) and drawn(1) != drawn(2)
    assert drawn(1, 5) < drawn(1, 9), "more of the same"
    with pytest.raises(InputError, match="random is 54, the replica has 53 samples"):
        drawn(1, 54)


def test_the_record_is_canonical_and_repeatable(honest: tuple[Path, Path], coded: Checkpoint) -> None:
    selection = Selection(num_random=5, seed=0)
    first, second = (check(*honest, selection=selection) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()
    for name in (
        b'"replica_id"',
        b'"checkpoint_id"',
        b'"epsilon":0.0001',
        b'"seed":0',
        b'"versions"',
        b'"environment"',
    ):
        assert name in first.to_bytes()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: AuditConfig(selection=Selection(keys=("c00_009999",))), "key 'c00_009999' is not in the replica"),
        (lambda: AuditConfig(selection=Selection(num_random=3)), "needs both a number of samples and an audit seed"),
        (lambda: AuditConfig(selection=Selection(seed=3)), "needs both a number of samples and an audit seed"),
        (lambda: AuditConfig(selection=Selection(keys=("a",), num_random=1, seed=1)), "choose one"),
        (lambda: AuditConfig(selection=Selection(keys=("",))), "an empty key"),
        (lambda: AuditConfig(mode="guess"), "audit mode is 'guess', allowed: teacher-forced, redraw"),
        (lambda: AuditConfig(epsilon=float("nan")), "epsilon is nan"),
        (lambda: AuditConfig(pixel_tolerance=256), "pixel_tolerance is 256, allowed: 0..255"),
        (lambda: AuditConfig(batch_size=0), "batch_size is 0"),
        (lambda: AuditConfig(mode="redraw", threads=2), "a redraw takes batch size and threads from the plan"),
        (lambda: AuditConfig(classifier=Path("x")), "a classifier judges candidates"),
    ],
)
def test_bad_input(
    honest: tuple[Path, Path], coded: Checkpoint, config: Callable[[], AuditConfig], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        audit(str(honest[0]), honest[1], config())
