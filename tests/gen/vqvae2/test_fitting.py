"""A fit ends with equal tensors however often it was stopped, and refuses what it cannot fit."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.autoregressive.images import to_input
from caskit.gen.autoregressive.variants import shift_offsets, shifted
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.vqvae2 import FitConfig, fit, fitting
from caskit.gen.vqvae2.weights import load_networks
from caskit.manifests.errors import InputError, NotFinished
from caskit.train.engine import Progress

CPU = torch.device("cpu")


def test_a_fit_stopped_again_and_again_ends_with_equal_tensors(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    # 200 steps of the autoencoder, 1 of encoding, 240 of each prior; stopped once in each stage of many steps.
    answers = iter([False] * 40 + [True] + [False] * 240 + [True] + [False] * 250 + [True] + [False] * 1000)
    stops = 0
    while True:
        try:
            folder = fit(tiny_set(), tiny_config(), tmp_path / "fit", device=CPU, stop=lambda: next(answers))
            break
        except NotFinished:
            stops += 1
            assert not (tmp_path / "fit" / "checkpoint.json").exists()
    assert stops == 3
    for name in ("checkpoint.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tiny_checkpoint / name).read_bytes()


def test_logs_and_progress_tell_every_stage(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    seen: list[Progress] = []
    config = tiny_config()
    short = {
        stage: dataclasses.replace(getattr(config, stage), num_steps=20) for stage in ("autoencoder", "top", "bottom")
    }
    folder = fit(tiny_set(), tiny_config(**short), tmp_path / "fit", device=CPU, progress=seen.append)
    assert list(dict.fromkeys(p.stage for p in seen)) == ["autoencoder", "codes", "top", "bottom"]
    last = json.loads((folder / "_work/autoencoder/autoencoder.jsonl").read_text().splitlines()[-1])
    assert {"loss", "mse", "perplexity_top", "perplexity_bottom", "usage_top", "usage_bottom", "revived"} <= set(last)
    assert 1 <= last["perplexity_top"] <= 16 and 0 <= last["usage_bottom"] <= 1
    for stage in ("top", "bottom"):
        assert "loss" in json.loads((folder / f"_work/{stage}/{stage}.jsonl").read_text().splitlines()[-1])


def test_the_priors_learn_and_the_codes_are_the_autoencoders(
    tiny_set: Callable[..., Any], tiny_checkpoint: Path
) -> None:
    for stage, uniform in (("top", np.log(16)), ("bottom", np.log(16))):
        lines = (tiny_checkpoint / f"_work/{stage}/{stage}.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["loss"] < 0.75 * uniform
    data = tiny_set()
    autoencoder, _, _ = load_networks(load_checkpoint(tiny_checkpoint))
    pixels = torch.from_numpy(data.images.transpose(0, 3, 1, 2)).float() / 127.5 - 1
    with torch.no_grad():
        top, bottom = autoencoder.encode(pixels)
    stored = [np.load(tiny_checkpoint / f"_work/codes/{name}.npy") for name in ("top", "bottom")]
    # A batch of another size may round a tie the other way.
    assert (top.numpy() == stored[0]).mean() > 0.99 and (bottom.numpy() == stored[1]).mean() > 0.99


def test_other_priors_keep_the_autoencoder_and_another_autoencoder_is_refused(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    folder = fit(tiny_set(), tiny_config(), tmp_path / "fit", device=CPU)
    before = (folder / "_work/autoencoder/resume.pt").read_bytes()
    wider = dataclasses.replace(tiny_config().top_prior, hidden=24)
    with pytest.raises(InputError, match=r"prior\.hidden"):
        fit(tiny_set(), tiny_config(top_prior=wider), folder, device=CPU)
    assert (folder / "_work/autoencoder/resume.pt").read_bytes() == before
    with pytest.raises(InputError, match=r"config\.seed"):
        fit(tiny_set(), tiny_config(seed=1), folder, device=CPU)
    with pytest.raises(InputError, match="content_root"):
        fit(tiny_set(content_root="cd" * 32), tiny_config(), folder, device=CPU)


def test_half_precision_storage_halves_the_file_and_keeps_the_weights(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = fit(tiny_set(), tiny_config(storage="float16"), tmp_path / "fit", device=CPU)
    size, full = ((path / "model.safetensors").stat().st_size for path in (folder, tiny_checkpoint))
    assert size < 0.6 * full
    exact, rounded = load_checkpoint(tiny_checkpoint).tensors(), load_checkpoint(folder).tensors()
    assert exact.keys() == rounded.keys()
    for name, tensor in exact.items():
        assert torch.allclose(tensor, rounded[name].float(), rtol=1e-3, atol=1e-6), name


def test_sets_that_cannot_be_fitted_are_refused(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"images are 10x10, .* multiples of 4"):
        fit(tiny_set(side=10), tiny_config(), tmp_path / "side", device=CPU)
    with pytest.raises(InputError, match=r"autoencoder\.batch_size is 16, the set has 9 images"):
        fit(tiny_set(num=9), tiny_config(), tmp_path / "batch", device=CPU)
    assert not any(tmp_path.iterdir())


def test_mirror_images_are_encoded_after_the_images_and_learnt_under_their_labels(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    short = {name: dataclasses.replace(getattr(config, name), num_steps=3) for name in ("autoencoder", "top", "bottom")}
    learnt: list[np.ndarray] = []
    real_task = fitting.PriorTask
    monkeypatch.setattr(
        fitting,
        "PriorTask",
        lambda model, codes, labels, *rest, **more: (
            learnt.append(labels) or real_task(model, codes, labels, *rest, **more)
        ),
    )
    data = tiny_set()
    checkpoint = load_checkpoint(fit(data, tiny_config(mirrored=True, **short), tmp_path / "fit", device=CPU))
    autoencoder, _, loaded = load_networks(checkpoint)
    assert loaded.mirrored
    images, labels = data.arrays(max_bytes=2**30)
    for order, part in ((1, slice(0, len(data))), (-1, slice(len(data), None))):
        top, bottom = autoencoder.encode(to_input(images[:, :, ::order], CPU))
        for level, codes in (("top", top), ("bottom", bottom)):
            stored = np.load(tmp_path / f"fit/_work/codes/{level}.npy")
            assert len(stored) == 2 * len(data)
            assert (stored[part] == codes.numpy()).all()
    assert all((seen == np.concatenate([labels, labels])).all() for seen in learnt) and len(learnt) == 2


def test_shifted_images_are_encoded_shift_by_shift_and_the_checkpoint_is_that_of_no_shift(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    config, data = tiny_config(), tiny_set()
    short = {name: dataclasses.replace(getattr(config, name), num_steps=3) for name in ("autoencoder", "top", "bottom")}
    checkpoint = load_checkpoint(fit(data, tiny_config(mirrored=True, shifts=1, **short), tmp_path / "fit", device=CPU))
    autoencoder, priors, loaded = load_networks(checkpoint)
    assert loaded.shifts == 1 and all(prior.variant_positions is None for prior in priors.values())
    images, _ = data.arrays(max_bytes=2**30)
    both = np.concatenate([images, images[:, :, ::-1]])
    stored = np.load(tmp_path / "fit/_work/codes/top.npy")
    assert len(stored) == 9 * len(both)
    assert len(np.load(tmp_path / "fit/_work/codes/bottom.npy")) == len(both)
    for variant, offset in enumerate(shift_offsets(1)):
        top, _ = autoencoder.encode(to_input(shifted(both, offset), CPU))
        assert (stored[variant * len(both) : (variant + 1) * len(both)] == top.numpy()).all()


def test_levels_may_have_different_codes_and_priors_different_optimizers(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    config = tiny_config()
    changes: dict[str, Any] = {
        name: dataclasses.replace(getattr(config, name), num_steps=5) for name in ("autoencoder", "top", "bottom")
    }
    changes["top"] = dataclasses.replace(changes["top"], optimizer="muon")
    changes["top_prior"] = dataclasses.replace(config.top_prior, class_positions=True)
    config = tiny_config(num_codes=16, num_bottom_codes=5, **changes)
    checkpoint = load_checkpoint(fit(tiny_set(), config, tmp_path / "fit", device=CPU))
    autoencoder, priors, loaded = load_networks(checkpoint)
    assert loaded == config
    assert (autoencoder.top.num_codes, autoencoder.bottom.num_codes) == (16, 5)
    assert (priors["top"].num_codes, priors["bottom"].num_codes, priors["bottom"].condition_codes) == (16, 5, 16)
    assert priors["top"].class_positions is not None
    assert (
        np.load(tmp_path / "fit/_work/codes/bottom.npy").max()
        < 5
        <= np.load(tmp_path / "fit/_work/codes/top.npy").max()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bottom_codes": 1}, "num_bottom_codes is 1, allowed: 0 .as num_codes., whole numbers 2..65535"),
        ({"num_bottom_codes": -1}, "num_bottom_codes is -1"),
        ({"num_bottom_codes": 8.0}, "num_bottom_codes is 8.0"),
    ],
)
def test_a_number_of_bottom_codes_that_cannot_be_is_refused(
    tiny_config: Callable[..., FitConfig], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny_config(**changes)


def test_an_optimizer_that_a_stage_does_not_have_is_refused(tiny_config: Callable[..., FitConfig]) -> None:
    config = tiny_config()
    with pytest.raises(InputError, match="optimizer is 'sgd', allowed: adam, muon"):
        dataclasses.replace(config.top, optimizer="sgd")
    with pytest.raises(InputError, match="autoencoder.optimizer is 'muon', allowed: adam"):
        tiny_config(autoencoder=dataclasses.replace(config.autoencoder, optimizer="muon"))


def test_with_a_label_loss_the_top_codes_say_the_class_and_a_resumed_fit_is_the_same(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    base = tiny_config()
    short = {stage: dataclasses.replace(getattr(base, stage), num_steps=2) for stage in ("top", "bottom")}
    config = tiny_config(label_loss=0.1, **short)
    whole = fit(tiny_set(), config, tmp_path / "whole", device=CPU)
    log = [json.loads(line) for line in (whole / "_work/autoencoder/autoencoder.jsonl").read_text().splitlines()]
    assert log[0]["label_right"] < 0.8 and log[-1]["label_right"] == 1.0
    assert log[-1]["label"] < 0.1 * log[0]["label"]
    answers = iter([False] * 70 + [True])
    with pytest.raises(NotFinished):
        fit(tiny_set(), config, tmp_path / "resumed", device=CPU, stop=lambda: next(answers))
    resumed = fit(tiny_set(), config, tmp_path / "resumed", device=CPU)
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not any("classifier" in name for name in load_checkpoint(whole).tensors())


def test_no_fit_begins_with_a_label_loss_below_zero(tiny_config: Callable[..., FitConfig]) -> None:
    with pytest.raises(InputError, match=r"label_loss is -1.0"):
        tiny_config(label_loss=-1.0)
