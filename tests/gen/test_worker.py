import dataclasses
import errno
import pickle
from pathlib import Path

import pytest
import torch
from pebble_drive import plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.dry_run import dry_run, suggest_samples_per_shard
from caskit.gen.executors import Part
from caskit.gen.numerics import numerics_applied
from caskit.gen.planning import write_plan
from caskit.gen.ray_pool import portable
from caskit.gen.sampling import SampleConfig, sample
from caskit.gen.worker import Worker
from caskit.manifests.errors import InputError, NonReproducible, RunFailed
from caskit.manifests.plan import Numerics
from caskit.shards.commit import committed_shards
from caskit.shards.store import LocalStore

INLINE = SampleConfig(executor="inline")


def test_a_worker_is_small_and_remembers_its_generator(pebble: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(pebble.path, 45)
    write_plan(LocalStore(tmp_path / "r"), plan)
    worker = Worker(plan, module="pebble_family", location=str(tmp_path / "r"), checkpoint=pebble.path)
    assert worker(0).outcome == "committed" and worker(2).num_drawn == 5
    assert len(pickle.dumps(worker)) < 4000
    copy = pickle.loads(pickle.dumps(worker))
    (pebble.path / "model.safetensors").unlink()  # the loaded one does not look again
    assert worker(1).outcome == "committed"
    assert copy(1).outcome == "already" and copy(1).num_drawn == 0


def test_numerics_are_taken_back() -> None:
    def state() -> tuple:
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.is_inference_mode_enabled()

    before = state()
    with numerics_applied(Numerics(threads=3)):
        assert state() == (3, True, True)
        with numerics_applied(Numerics(threads=1, deterministic=False, precision="bfloat16")):
            assert state() == (1, False, True) and torch.is_autocast_enabled("cpu")
        assert state() == (3, True, True) and not torch.is_autocast_enabled("cpu")
    assert state() == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more(number: int, pebble: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    """The error comes through with its file, nothing is left half-written, and the same call goes on later."""
    plan, create = plan_of(pebble.path, 103), LocalStore.create_from

    def full(self: LocalStore, name: str, path: Path) -> None:
        if name == "shards/shard-000002.tar":
            raise OSError(number, "no more", name)
        create(self, name, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "create_from", full)
        with pytest.raises(OSError, match="no more: 'shards/shard-000002.tar'"):
            sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE)
    assert committed_shards(LocalStore(tmp_path / "r")) == {0, 1}
    assert not list((tmp_path / "r/_work/tmp").iterdir())
    assert sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE) is not None


def test_errors_that_travel() -> None:
    for error in (InputError("a"), RunFailed("b"), NonReproducible("c"), OSError(errno.ENOSPC, "full", "x.tar")):
        travelled = pickle.loads(pickle.dumps(portable(error)))
        assert type(travelled) is type(error) and str(travelled) == str(error)

    class LocalError(Exception):
        pass

    assert str(portable(LocalError("d"))) == "LocalError: d" and type(portable(LocalError())) is RunFailed
    assert type(portable(KeyError("k"))) is RunFailed


def test_a_dry_run_writes_nothing(pebble: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    plan = plan_of(pebble.path, 103)
    cost = dry_run(plan, checkpoint=pebble.path, config=INLINE)
    assert sorted(tmp_path.rglob("*")) == before
    assert (cost.num_samples, cost.num_shards, cost.num_workers) == (103, 6, 1)
    assert cost.images_per_s > 0 and cost.seconds >= cost.load_s > 0
    assert cost.shard_s == pytest.approx(plan.samples_per_shard / cost.images_per_s)
    assert plan_of(pebble.path, 103) == plan, "what was measured here is no part of a plan"
    config = SampleConfig(num_workers=4)
    assert dry_run(plan, checkpoint=pebble.path, config=config).num_workers == 4
    part = dry_run(plan, checkpoint=pebble.path, config=dataclasses.replace(INLINE, part=Part(index=6, count=6)))
    assert (part.num_samples, part.num_shards) == (3, 1)
    sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE)
    size = sum(path.stat().st_size for path in (tmp_path / "r/shards").iterdir())
    assert cost.num_bytes == pytest.approx(size, rel=0.1)
    with pytest.raises(InputError, match="device is 'cuda'"):
        dry_run(plan, checkpoint=pebble.path, config=dataclasses.replace(INLINE, device="cuda"))


@pytest.mark.parametrize(
    ("images_per_s", "samples_per_shard", "suggested"),
    [
        (100.0, 1000, None),  # ten seconds
        (1000 / 300, 1000, None),  # five minutes
        (3.0, 1000, 512),  # 333 s; 900 images are 14 microbatches, a power of two of them are 8
        (1.0, 1000, 256),
        (0.1, 1000, 64),  # a microbatch takes longer than five minutes, and none is smaller
        (0.1, 64, None),
    ],
)
def test_shards_are_suggested_that_take_five_minutes(
    images_per_s: float, samples_per_shard: int, suggested: int | None
) -> None:
    assert suggest_samples_per_shard(images_per_s, samples_per_shard, 64) == suggested
