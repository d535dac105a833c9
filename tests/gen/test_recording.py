"""Sampling with record_codes: the codes are those of the images, in every way that shards are made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coded_family import SHAPES, CodedPebbleGenerator, Settings
from pebble_drive import plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.codes import check_codes, code_levels
from caskit.gen.contract import check_generator
from caskit.gen.dry_run import dry_run
from caskit.gen.executors import Part
from caskit.gen.numerics import numerics_applied
from caskit.gen.sampling import SampleConfig, freeze_replica, sample
from caskit.gen.streams import Streams
from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.manifests.replica import Replica
from caskit.shards.codes import array_of, codes_path, open_codes
from caskit.shards.dataset import open_set
from caskit.shards.verify import verify

NUM = 53


def run(checkpoint: Checkpoint, out: Path, num: int = NUM, parent: Path | None = None, **changes) -> Replica:
    plan = plan_of(checkpoint.path, num, **{"record_codes": True, **changes})
    config = SampleConfig(executor="inline", extend=parent)
    replica = sample(plan, out, checkpoint=checkpoint.path, config=config)
    assert replica is not None
    return replica


def test_codes_decode_to_the_stored_images(coded: Checkpoint, tmp_path: Path) -> None:
    """Also where samples were drawn again, whose codes arrive late."""
    run(coded, tmp_path / "r", sampler={"not_finite_code": 3})
    verify(str(tmp_path / "r"), "deep")
    frozen = open_set(str(tmp_path / "r"))
    assert max(frozen.table.column("attempt").to_pylist()) > 0
    assert frozen.plan is not None
    with numerics_applied(frozen.plan.numerics):
        generator = CodedPebbleGenerator(coded, Settings())
        sample_id = 0
        for shard in range(3):
            with open_codes(frozen.store, shard, max_rows=20) as codes:
                assert codes.levels == code_levels(generator)
                for stored in codes:
                    row = frozen.table.slice(sample_id, 1).to_pylist()[0]
                    assert stored.key == row["key"]
                    maps = {v.name: array_of(v, m)[None] for v, m in zip(codes.levels, stored.maps, strict=True)}
                    images, _ = generator.decode_codes(np.array([row["label"]]), maps)
                    assert np.array_equal(images[0], frozen.image(sample_id))
                    excess = generator.score_codes(np.array([row["label"]]), Streams([row["stream_key"]]), maps)
                    assert max(part.max() for part in excess.values()) < 1e-6
                    sample_id += 1
    assert sample_id == NUM


def test_recording_changes_no_image(coded: Checkpoint, tmp_path: Path) -> None:
    recorded, plain = run(coded, tmp_path / "a"), run(coded, tmp_path / "b", record_codes=False)
    assert recorded.content_root == plain.content_root and recorded.packing_root == plain.packing_root
    assert recorded.rows_root != plain.rows_root
    assert not (tmp_path / "b/codes").exists()


def test_every_way_to_make_it_gives_the_same(coded: Checkpoint, tmp_path: Path) -> None:
    at_once = run(coded, tmp_path / "once")
    plan = plan_of(coded.path, NUM, record_codes=True)
    for index in (1, 2):
        config = SampleConfig(executor="inline", part=Part(index=index, count=2))
        assert sample(plan, tmp_path / "parts", checkpoint=coded.path, config=config) is None
    assert freeze_replica(tmp_path / "parts") == at_once
    run(coded, tmp_path / "small", 40)
    assert run(coded, tmp_path / "extended", parent=tmp_path / "small") == at_once
    names = [codes_path(shard) for shard in range(3)]
    for name in names:
        for folder in ("parts", "extended"):
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    verify(str(tmp_path / "extended"), "full")


@pytest.mark.timeout(400)
def test_ray_workers_record_too(coded: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(coded.path, NUM, record_codes=True)
    replica = sample(plan, tmp_path / "ray", checkpoint=coded.path, config=SampleConfig(num_workers=2))
    assert replica == run(coded, tmp_path / "inline")


def test_a_parent_whose_codes_are_damaged_or_gone(coded: Checkpoint, tmp_path: Path) -> None:
    run(coded, tmp_path / "small", 40)
    sidecar = tmp_path / "small" / codes_path(1)
    data = sidecar.read_bytes()
    sidecar.write_bytes((tmp_path / "small" / codes_path(0)).read_bytes())
    with pytest.raises(IntegrityError, match="codes/shard-000001.parquet: key .*: the codes are not those of row 0"):
        run(coded, tmp_path / "a", parent=tmp_path / "small")
    sidecar.write_bytes(data[:50])
    with pytest.raises(IntegrityError, match="codes/shard-000001.parquet: not a whole Parquet file"):
        run(coded, tmp_path / "b", parent=tmp_path / "small")
    sidecar.unlink()
    with pytest.raises(IntegrityError, match="codes/shard-000001.parquet: missing, the shard is committed"):
        run(coded, tmp_path / "c", parent=tmp_path / "small")


def test_a_generator_without_codes_is_refused(pebble: Checkpoint) -> None:
    with pytest.raises(InputError, match="^record_codes is true, family pebble draws no codes; use false$"):
        plan_of(pebble.path, NUM, record_codes=True)


def test_a_generator_that_says_it_has_codes_and_has_none(coded: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    plan = plan_of(coded.path, NUM, record_codes=True)
    monkeypatch.delattr(CodedPebbleGenerator, "sample_codes")
    with pytest.raises(InputError, match="record_codes is true, family coded draws no codes"):
        sample(plan, tmp_path / "r", checkpoint=coded.path, config=SampleConfig(executor="inline"))


def maps(**changes) -> dict:
    return {level: np.zeros((8, *shape), np.uint16) for level, shape in SHAPES.items()} | changes


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (dict(reversed(maps().items())), "returned levels bottom, top, must be top, bottom"),
        ({"top": maps()["top"]}, "returned levels top, must be top, bottom"),
        (maps(top=np.zeros((8, 2, 3), np.int64)), "returned int64 .* for top, must be uint16"),
        (maps(bottom=np.zeros((7, 4, 3), np.uint16)), r"returned uint16 \(7, 4, 3\) for bottom"),
        (maps(bottom=torch.zeros(8, 4, 3)), "returned Tensor for bottom"),
    ],
)
def test_codes_of_another_form(coded: Checkpoint, codes: dict, message: str) -> None:
    levels = code_levels(CodedPebbleGenerator(coded, Settings()))
    check_codes(maps(), levels, 8, "coded")
    with pytest.raises(RunFailed, match=message):
        check_codes(codes, levels, 8, "coded")


def test_a_dry_run_with_codes(coded: Checkpoint) -> None:
    plan = plan_of(coded.path, NUM, record_codes=True)
    assert dry_run(plan, checkpoint=coded.path, config=SampleConfig(executor="inline")).num_samples == NUM


def problems(coded: Checkpoint) -> list[str]:
    found = check_generator(plan_of(coded.path, 20), checkpoint=coded.path, elsewhere=False).problems
    return [problem.partition(":")[0] for problem in found]


def test_the_contract_of_codes(coded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(coded) == []
    with monkeypatch.context() as patch:
        patch.setattr("coded_family.CODED", False)
        assert problems(coded) == ["CODED is False, but its generator has codes"]
    real = CodedPebbleGenerator.decode_codes
    with monkeypatch.context() as patch:
        patch.setattr(CodedPebbleGenerator, "sample", lambda self, *a: real(self, a[0], maps()))
        assert "sample() is not decode_codes() of sample_codes()" in problems(coded)
    scored = CodedPebbleGenerator.score_codes
    with monkeypatch.context() as patch:
        patch.setattr(
            CodedPebbleGenerator,
            "score_codes",
            lambda *a: {level: excess + 0.01 for level, excess in scored(*a).items()},
        )
        assert problems(coded) == ["score_codes() puts uniforms outside the intervals of the codes drawn with them"]
    with monkeypatch.context() as patch:
        patch.setattr(
            CodedPebbleGenerator, "score_codes", lambda *a: {level: 0 * excess for level, excess in scored(*a).items()}
        )
        assert problems(coded) == ["score_codes() takes other streams' codes for the samples' own"]
