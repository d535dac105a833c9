from pathlib import Path

import pytest
from pebble_drive import plan_of, save_pebble

from caskit.gen import family as family_table
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.family import load_family, make_settings
from caskit.gen.planning import find_checkpoint, make_plan, parse_generator, read_plan, write_plan
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Numerics
from caskit.shards.dataset import open_set
from caskit.shards.store import LocalStore


def test_a_plan_spells_everything_out(pebble: Checkpoint) -> None:
    plan = make_plan(pebble, num=12, sampler={"brightness": 3})
    assert plan.sampler == {"brightness": 3, "not_finite_every": 0}
    assert plan.family == "pebble" and plan.preset == "tiny" and plan.checkpoint_id == pebble.checkpoint_id
    assert plan.codec == Codec.of("png") and plan.quota == "balanced" and sorted(plan.histogram) == [2, 2, 2, 3, 3]
    assert (plan.height, plan.width, plan.channels) == (6, 4, 1)
    assert plan.microbatch_size == 64 and plan.samples_per_shard == 1000 and plan.numerics == Numerics()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num": None}, "how many samples"),
        ({"num": 4}, "num is 4, fewer than the 5 classes"),
        (
            {"sampler": {"colour": 1}},
            "sampler setting 'colour' is not known to family pebble; its settings: brightness",
        ),
        ({"sampler": {"brightness": 300}}, "brightness is 300, allowed: 0..255"),
        ({"numerics": Numerics(compile=True)}, "family pebble does not compile its model"),
        ({"seed": -1}, "seed is -1"),
        ({"samples_per_shard": 0}, "samples_per_shard is 0"),
    ],
)
def test_values_that_are_not_allowed(pebble: Checkpoint, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(pebble, **{"num": 10, **change})


def test_a_plan_like_another_set(pebble: Checkpoint, tmp_path: Path) -> None:
    config = SampleConfig(executor="inline")
    replica = sample(plan_of(pebble.path, 23), tmp_path / "r", checkpoint=pebble.path, config=config)
    assert replica is not None
    real = open_set(str(tmp_path / "r"))
    plan = make_plan(pebble, like=real, seed=9)
    assert plan.histogram == plan_of(pebble.path, 23).histogram and plan.quota == f"like:{replica.content_root}"
    assert make_plan(pebble, like=real, num=230).num == 230
    other = save_pebble(tmp_path / "other", num_classes=4)
    with pytest.raises(
        InputError, match=r"fitted to other classes \(4, c00, ...\) than those of the set to follow \(5"
    ):
        make_plan(other, like=real)


def test_generator_names() -> None:
    assert parse_generator("cvae") == ("cvae", None)
    assert parse_generator("cvae:digits") == ("cvae", "digits")
    with pytest.raises(InputError, match="use one of .*callable, cgan, cvae, ham, pixelcnn, vqvae2"):
        parse_generator("gan:digits")
    with pytest.raises(InputError, match="not of the form FAMILY"):
        parse_generator("cvae:")


def test_finding_a_checkpoint(pebble: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_checkpoint("pebble", None, pebble.path) == find_checkpoint("pebble", "tiny", pebble.path) == pebble
    for arguments, message in (
        (("pebble", "tiny", None), "no checkpoint ships for pebble:tiny; `caskit fit --gen pebble:tiny`"),
        (("pebble", "huge", None), "family pebble has no preset 'huge', use one of tiny"),
        (("pebble", None, None), "name a preset"),
        (("pebble", "huge", pebble.path), "holds a checkpoint of pebble:tiny, not of pebble:huge"),
        (("cvae", None, pebble.path), "holds a checkpoint of pebble:tiny, not of cvae"),
        (("pebble", None, tmp_path), "no checkpoint there"),
    ):
        with pytest.raises(InputError, match=message):
            find_checkpoint(*arguments)
    monkeypatch.setattr("pebble_family.packaged", lambda preset: pebble.path)
    assert find_checkpoint("pebble", "tiny", None) == pebble


def test_plans_are_written_once(pebble: Checkpoint, tmp_path: Path) -> None:
    store, plan = LocalStore(tmp_path / "r"), plan_of(pebble.path, 20)
    with pytest.raises(InputError, match="no replica was begun there"):
        read_plan(store)
    write_plan(store, plan)
    write_plan(store, plan)
    assert read_plan(store) == plan and (tmp_path / "r/plan.json").read_bytes() == plan.to_bytes()
    with pytest.raises(InputError, match="holds a replica of another plan; these fields differ: seed .5 here, 3 there"):
        write_plan(store, plan_of(pebble.path, 20, seed=5))


@pytest.mark.parametrize("name", sorted(family_table.FAMILIES))
def test_every_family_of_the_table(name: str) -> None:
    family = load_family(family_table.FAMILIES[name])
    assert name == family.NAME and family.SAMPLER_VERSION >= 1 and (family.PRESETS or name in family_table.BOUND)
    assert make_settings(family, {}) == family.Settings()
    for preset, config in family.PRESETS.items():
        assert isinstance(config(), family.FitConfig) and config().preset == preset
        assert config.__doc__ and "Command:" in config.__doc__
