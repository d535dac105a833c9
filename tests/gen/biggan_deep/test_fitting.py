"""A fit ends with equal tensors however often it was stopped, holds what sampling needs, and tells its collapse."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.adversarial.config import CollapseConfig
from caskit.gen.adversarial.fitting import WORK_FOLDER, standing_batches
from caskit.gen.adversarial.standing import norms, standing_moments
from caskit.gen.biggan_deep.fitting import fit
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.checkpoint import load_checkpoint
from caskit.manifests.errors import InputError, NotFinished, RunFailed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fitted(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "tiny"
    return fit(tiny.TinySet(), tiny.tiny_config(storage="float16"), folder, device=CPU)


def test_a_fit_stopped_again_and_again_ends_with_equal_tensors(tiny: Any, fitted: Path, tmp_path: Path) -> None:
    def answers() -> Iterator[bool]:
        for steps in (1, 4, 9):  # before the average begins, before the first look, after it
            yield from [False] * (steps - 1) + [True]
        yield from [False] * 100

    asked, stops, out = answers(), 0, tmp_path / "fit"
    while True:
        try:
            fit(tiny.TinySet(), tiny.tiny_config(storage="float16"), out, device=CPU, stop=lambda: next(asked))
            break
        except NotFinished:
            stops += 1
            assert not (out / "checkpoint.json").exists()
    assert stops == 3
    for name in ("checkpoint.json", "model.safetensors"):
        assert (out / name).read_bytes() == (fitted / name).read_bytes()
    assert (out / WORK_FOLDER / "gan.jsonl").exists()


def test_the_checkpoint_holds_a_plain_generator_with_statistics_of_its_stored_weights(tiny: Any, fitted: Path) -> None:
    checkpoint = load_checkpoint(fitted)
    config, tensors = checkpoint.record["config"], checkpoint.tensors()
    assert config["statistics"] == {
        "kind": "standing",
        "z_law": "normal",
        "num_batches": 3,
        "batch_size": 16,
        "seed": 0,
    }
    assert config["trained_steps"] == 24
    generator = Generator(tiny.tiny_config().network, num_classes=3, channels=1)
    assert {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in generator.state_dict().items()}
    assert {t.dtype for k, t in tensors.items() if k.endswith(("means", "variances"))} == {torch.float32}
    assert {t.dtype for k, t in tensors.items() if not k.endswith(("means", "variances"))} == {torch.float16}
    generator.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    for name, part in generator.named_modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            assert float(torch.linalg.svdvals(part.weight.detach().flatten(1))[0]) <= 1.01, name
    moments = standing_moments(generator.eval(), standing_batches(generator, tiny.tiny_config()))
    for name, norm in norms(generator).items():
        for stored, computed in zip((norm.means[0], norm.variances[0]), moments[name], strict=True):
            torch.testing.assert_close(stored, computed.float(), rtol=1e-4, atol=1e-6)


def test_a_finished_fit_returns_at_once_and_another_config_is_refused(tiny: Any, fitted: Path) -> None:
    before = (fitted / "checkpoint.json").read_bytes()
    fit(tiny.TinySet(), tiny.tiny_config(storage="float16"), fitted, device=CPU)
    assert (fitted / "checkpoint.json").read_bytes() == before
    with pytest.raises(InputError, match="generator_rate"):
        fit(tiny.TinySet(), tiny.tiny_config(storage="float16", generator_rate=1e-3), fitted, device=CPU)


def test_a_collapse_keeps_the_last_good_generator_and_is_final(tiny: Any, tmp_path: Path) -> None:
    # A discriminator far too strong for a generator that hardly moves.
    look = CollapseConfig(
        check_every=2, grace=2, window=4, min_diversity=0.0, max_diversity=1e6, max_saturation=0.9, max_score=1e9
    )
    config = tiny.tiny_config(
        discriminator_rate=2e-2, generator_rate=1e-9, num_steps=80, decay_after=1.0, accumulation=1, collapse=look
    )
    with pytest.raises(RunFailed, match=r"training collapsed at step \d+: saturation of the discriminator is 0\.9"):
        fit(tiny.TinySet(), config, tmp_path, device=CPU)
    verdict = json.loads((tmp_path / WORK_FOLDER / "collapse.json").read_text())
    record = load_checkpoint(tmp_path).record
    assert verdict["kept"] == record["config"]["trained_steps"] < verdict["step"]
    tensors = load_checkpoint(tmp_path).tensors()
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())

    work = {path.name: path.read_bytes() for path in (tmp_path / WORK_FOLDER).iterdir()}
    (tmp_path / "checkpoint.json").unlink()  # as if killed between the verdict and the checkpoint
    with pytest.raises(RunFailed, match=f"the checkpoint is the generator of step {verdict['kept']}, the last that"):
        fit(tiny.TinySet(), config, tmp_path, device=CPU)
    assert load_checkpoint(tmp_path).record == record
    assert {path.name: path.read_bytes() for path in (tmp_path / WORK_FOLDER).iterdir()} == work
    with pytest.raises(InputError, match="holds another fit, which collapsed; choose another folder"):
        fit(tiny.TinySet(), dataclasses.replace(config, seed=1), tmp_path, device=CPU)


def test_a_collapse_before_any_good_look_keeps_nothing(tiny: Any, tmp_path: Path) -> None:
    class Blank(tiny.TinySet):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.images = np.random.default_rng(0).integers(0, 2, self.images.shape).astype(np.uint8) * 255

    # Samples at the beginning are no noise: with a bound of nearly one they are too much alike.
    look = CollapseConfig(check_every=3, grace=3, min_diversity=0.99)
    with pytest.raises(RunFailed, match=r"step 3: diversity of samples within classes is .*nothing is kept"):
        fit(Blank(), tiny.tiny_config(collapse=look, generator_rate=1e-6), tmp_path, device=CPU)
    assert not (tmp_path / "checkpoint.json").exists()


def test_sets_that_cannot_be_fitted_are_refused(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images are 12x12, the network of preset tiny draws 8x8"):
        fit(tiny.TinySet(side=12), tiny.tiny_config(), tmp_path, device=CPU)
    with pytest.raises(InputError, match="batch_size is 16, the set has 9 images"):
        fit(tiny.TinySet(num=9), tiny.tiny_config(), tmp_path, device=CPU)
