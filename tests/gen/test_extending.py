import shutil
from pathlib import Path

import pytest
from pebble_drive import plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.extending import same_shards
from caskit.gen.sampling import SampleConfig, sample
from caskit.gen.telemetry import Progress
from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.replica import Replica
from caskit.shards.commit import shard_path
from caskit.shards.verify import verify

INLINE = SampleConfig(executor="inline")


def run(checkpoint: Checkpoint, out: Path, num: int, parent: Path | None = None, **changes) -> tuple[Replica, int]:
    """Return the replica and how many images were drawn."""
    config = SampleConfig(executor="inline", extend=parent, allow_environment=changes.pop("allow", False))
    told: list[Progress] = []
    plan = plan_of(checkpoint.path, num, **changes)
    replica = sample(plan, out, checkpoint=checkpoint.path, config=config, progress=told.append)
    assert replica is not None
    drawn = (out / "_work/telemetry").glob("*.jsonl")
    lines = [line for file in drawn for line in file.read_text().splitlines() if '"event": "shard"' in line]
    return replica, sum(int(line.split('"num_drawn": ')[1].split(",")[0]) for line in lines)


def tars(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


@pytest.mark.parametrize("first", [60, 63, 11])
def test_extended_equals_made_at_once(first: int, pebble: Checkpoint, tmp_path: Path) -> None:
    """Whole shards are adopted, also when neither number is a multiple of the five classes or of the shard's 20."""
    run(pebble, tmp_path / "small", first)
    kept = tars(tmp_path / "small")
    extended, drawn = run(pebble, tmp_path / "large", 143, tmp_path / "small")
    at_once, _ = run(pebble, tmp_path / "once", 143)
    assert extended == at_once and tars(tmp_path / "large") == tars(tmp_path / "once")
    assert drawn == 143 - first // 20 * 20
    assert tars(tmp_path / "small") == kept
    verify(str(tmp_path / "large"), "full")
    provenance = parse_canonical((tmp_path / "large/provenance.json").read_bytes(), name="provenance")
    plan_id = plan_of(pebble.path, first).plan_id
    assert provenance["extended"] == ([{"plan_id": plan_id, "num": first}] if first >= 20 else [])


def test_a_copy_is_a_copy(pebble: Checkpoint, tmp_path: Path) -> None:
    """Damage done later to one replica does not reach the other."""
    run(pebble, tmp_path / "small", 40)
    run(pebble, tmp_path / "large", 80, tmp_path / "small")
    assert (tmp_path / "small" / shard_path(0)).stat().st_ino != (tmp_path / "large" / shard_path(0)).stat().st_ino


def test_extending_downwards_and_unfrozen(pebble: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(pebble.path, 200)
    done: list[int] = []
    with pytest.raises(NotFinished):
        sample(
            plan,
            tmp_path / "half",
            checkpoint=pebble.path,
            config=INLINE,
            progress=lambda progress: done.append(progress.shards_done),
            stop=lambda: done[-1:] == [4],
        )
    replica, drawn = run(pebble, tmp_path / "less", 90, tmp_path / "half")
    assert replica == run(pebble, tmp_path / "once", 90)[0] and drawn == 10


def test_like_plans_share_what_is_equal(pebble: Checkpoint) -> None:
    balanced, longer = plan_of(pebble.path, 100), plan_of(pebble.path, 1000)
    assert same_shards(longer, balanced, "here") == [0, 1, 2, 3, 4]
    other_seed = plan_of(pebble.path, 1000, seed=4)
    with pytest.raises(InputError, match="here: cannot be extended, its plan differs in seed .4 here, 3 there"):
        same_shards(other_seed, balanced, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"microbatch_size": 4}, "its plan differs in microbatch_size .4 here, 8 there"),
        ({"samples_per_shard": 10}, "its plan differs in samples_per_shard"),
        ({"sampler": {"brightness": 1}}, "its plan differs in sampler.brightness"),
    ],
)
def test_plans_that_differ_otherwise(pebble: Checkpoint, tmp_path: Path, change: dict, message: str) -> None:
    run(pebble, tmp_path / "small", 40)
    with pytest.raises(InputError, match=message):
        run(pebble, tmp_path / "large", 80, tmp_path / "small", **change)


def test_a_parent_that_is_damaged_or_absent(pebble: Checkpoint, tmp_path: Path) -> None:
    run(pebble, tmp_path / "small", 40)
    tar = tmp_path / "small" / shard_path(1)
    data = bytearray(tar.read_bytes())
    data[2000] ^= 1
    tar.chmod(0o644)
    tar.write_bytes(data)
    with pytest.raises(IntegrityError, match="shard-000001.tar: sha256 .* its commit says"):
        run(pebble, tmp_path / "large", 80, tmp_path / "small")
    with pytest.raises(InputError, match="no replica was begun there"):
        run(pebble, tmp_path / "large", 80, tmp_path / "nowhere")
    shutil.rmtree(tmp_path / "small" / "_work")
    with pytest.raises(InputError, match="has no commits under _work/commits"):
        run(pebble, tmp_path / "large", 80, tmp_path / "small")


def test_a_parent_of_another_environment_class(pebble: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    run(pebble, tmp_path / "small", 40)
    monkeypatch.delenv("MKL_CBWR")
    with pytest.raises(InputError, match="shard 0 was drawn in another environment class.*MKL_CBWR .'' here, 'COMPAT"):
        run(pebble, tmp_path / "large", 80, tmp_path / "small")
    replica, _ = run(pebble, tmp_path / "large", 80, tmp_path / "small", allow=True)
    assert replica == run(pebble, tmp_path / "once", 80)[0]
    provenance = parse_canonical((tmp_path / "large/provenance.json").read_bytes(), name="provenance")
    assert provenance["one_environment"] is False
    assert [entry["num_shards"] for entry in provenance["environments"]] == [2, 2]
    assert canonical_json(provenance)
