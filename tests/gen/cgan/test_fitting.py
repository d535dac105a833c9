"""A fit ends with equal tensors however often it was stopped, and what it keeps is sampled as it was trained."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from caskit.gen.adversarial.config import CollapseConfig
from caskit.gen.adversarial.fitting import WORK_FOLDER, standing_batches
from caskit.gen.adversarial.gan_task import GanTask
from caskit.gen.adversarial.standing import norms, standing_moments
from caskit.gen.cgan import FitConfig, fit
from caskit.gen.cgan.generator import Generator
from caskit.gen.checkpoint import load_checkpoint
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.train.distributed import World
from caskit.train.images import Images

CPU = torch.device("cpu")
MakeSet = Callable[..., Any]


def test_a_fit_stopped_again_and_again_ends_with_equal_tensors(
    tiny_set: MakeSet, config: FitConfig, fitted: Path, tmp_path: Path
) -> None:
    def answers() -> Iterator[bool]:
        for steps in (1, 3, 6):  # before the first look at samples, around it, near the end
            yield from [False] * (steps - 1) + [True]
        yield from [False] * 100

    asked, stops, out = answers(), 0, tmp_path / "fit"
    while True:
        try:
            fit(tiny_set(), config, out, device=CPU, stop=lambda: next(asked))
            break
        except NotFinished:
            stops += 1
            assert not (out / "checkpoint.json").exists()
    assert stops == 3
    for name in ("checkpoint.json", "model.safetensors"):
        assert (out / name).read_bytes() == (fitted / name).read_bytes()
    with pytest.raises(InputError, match="second_beta"):
        fit(tiny_set(), dataclasses.replace(config, second_beta=0.99), out, device=CPU)


def test_the_checkpoint_is_of_this_family_with_statistics_of_its_stored_weights(
    config: FitConfig, fitted: Path
) -> None:
    checkpoint = load_checkpoint(fitted)
    record, tensors = checkpoint.record, checkpoint.tensors()
    assert (record["family"], record["preset"], record["config"]["trained_steps"]) == ("cgan", "tiny", 12)
    assert (record["height"], record["width"], record["channels"]) == (8, 8, 1)
    assert {t.dtype for k, t in tensors.items() if k.endswith(("means", "variances"))} == {torch.float32}
    assert {t.dtype for k, t in tensors.items() if not k.endswith(("means", "variances"))} == {torch.float16}
    generator = Generator(config.network, num_classes=3, channels=1).eval()
    generator.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    moments = standing_moments(generator, standing_batches(generator, config))
    for name, norm in norms(generator).items():
        for stored, computed in zip((norm.means[0], norm.variances[0]), moments[name], strict=True):
            torch.testing.assert_close(stored, computed.float(), rtol=1e-4, atol=1e-6)


def test_a_step_moves_both_networks_and_the_classes_gains(tiny_set: MakeSet, config: FitConfig, tmp_path: Path) -> None:
    data = tiny_set()
    task = GanTask(Images(data), data.labels, 3, config, folder=tmp_path, world=World())
    before = {name: tensor.clone() for name, tensor in task.generator.state_dict().items()}
    scores = {name: tensor.clone() for name, tensor in task.discriminator.state_dict().items()}
    torch.manual_seed(0)
    numbers = task.step(0)
    assert numbers["rate"] == 1.0
    assert task._optimizers["generator"].defaults["betas"] == (0.0, 0.9)
    moved = {name for name, tensor in task.generator.state_dict().items() if not torch.equal(before[name], tensor)}
    assert {"first.weight", "image.weight", "gain", "blocks.1.norms.1.gains.weight"} <= moved
    assert not any(name.endswith(("means", "variances")) for name in moved)
    trained = "embedding.parametrizations.weight.original"
    assert not torch.equal(scores[trained], task.discriminator.state_dict()[trained])


def test_a_collapse_is_told(tiny_set: MakeSet, config: FitConfig, tmp_path: Path) -> None:
    look = CollapseConfig(check_every=2, grace=2, min_diversity=0.0, max_diversity=1e6, max_saturation=0.0)
    message = r"collapsed at step \d+: saturation of the discriminator is 0\.\d+, allowed: up to 0\.0; no look"
    with pytest.raises(RunFailed, match=message):
        fit(tiny_set(), dataclasses.replace(config, collapse=look), tmp_path, device=CPU)
    assert (tmp_path / WORK_FOLDER / "collapse.json").exists()
    assert not (tmp_path / "checkpoint.json").exists()


def test_a_set_of_another_size_is_refused(tiny_set: MakeSet, config: FitConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images are 12x12, the network of preset tiny draws 8x8"):
        fit(tiny_set(side=12), config, tmp_path, device=CPU)
