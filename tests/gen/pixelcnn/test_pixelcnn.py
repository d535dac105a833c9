"""Pixels are drawn one by one from what was fitted, depend on label and stream alone, and have exact likelihoods."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.pixels import PixelMaps, to_images
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.pixelcnn import PRESETS, FitConfig, PixelCnnGenerator, Settings, fit, load
from caskit.gen.pixelcnn.sampler import PIXELS, build_network
from caskit.gen.streams import Streams
from caskit.manifests.errors import InputError, NotFinished

CPU = torch.device("cpu")


def test_samples_look_like_their_class(generator: PixelCnnGenerator, make_streams: Callable[..., Streams]) -> None:
    labels = np.repeat(np.arange(3), 30)
    images, finite = generator.sample(labels, make_streams(labels))
    assert images.shape == (90, 8, 8, 1) and images.dtype == np.uint8 and finite.all()
    brightest = images[..., 0].astype(float).mean(axis=2).argmax(axis=1)
    assert (brightest == 1 + labels * 2).mean() > 0.8


def test_likelihoods_tell_the_class_and_are_those_of_every_pixel(
    generator: PixelCnnGenerator, tiny_set: Callable[..., Any]
) -> None:
    data = tiny_set(num=30)
    found = generator.log_likelihoods(data.images)
    assert found.shape == (30, 3) and (found < 0).all()
    assert (found.argmax(axis=1) == data.labels).mean() > 0.9
    # p(all pixels) summed over the values of the last one is p(the others), whatever the last one was.
    image = data.images[:1].repeat(256, axis=0)
    image[:, 7, 7, 0] = np.arange(256)
    joint = np.logaddexp.reduce(generator.log_likelihoods(image)[:, 1])
    maps = torch.from_numpy(data.images[:1, :, :, 0].astype(np.int64))
    with torch.no_grad():
        logits = generator._network(maps, torch.tensor([1])).double()
    nats = -torch.nn.functional.cross_entropy(logits, maps, reduction="none").flatten()
    assert joint == pytest.approx(float(nats[:-1].sum()), abs=1e-3)


def test_draws_pass_their_check_and_recorded_codes_are_the_pixels(
    generator: PixelCnnGenerator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(12) % 3
    codes = generator.sample_codes(labels, make_streams(labels))
    assert list(codes) == [PIXELS] and dict(generator.code_shapes) == {PIXELS: (8, 8)}
    images, _ = generator.sample(labels, make_streams(labels))
    assert np.array_equal(codes[PIXELS], images[..., 0])
    assert generator.score_codes(labels, make_streams(labels), codes)[PIXELS].max() < 1e-5
    forged = {PIXELS: codes[PIXELS].copy()}
    forged[PIXELS][5, 3, 3] = (forged[PIXELS][5, 3, 3] + 40) % 256
    found = generator.score_codes(labels, make_streams(labels), forged)[PIXELS]
    assert found[5, 3, 3] > 0 and np.delete(found, 5, axis=0).max() < 1e-5


def test_a_sample_does_not_depend_on_its_batch(
    generator: PixelCnnGenerator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(9) % 3
    together, _ = generator.sample(labels, make_streams(labels))
    streams = make_streams(labels)
    alone, _ = generator.sample(labels[4:5], Streams(streams.keys[4:5]))
    assert (together[4] != alone[0]).mean() < 0.1  # equal but where a uniform lies in the last bits of an edge


def test_an_interrupted_fit_ends_with_the_same_checkpoint(
    tiny_set: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = load_checkpoint(tiny_checkpoint).record["config"]
    stage = {**config["stage"], "num_steps": 12}
    short = _config({**config, "stage": stage})
    whole = fit(tiny_set(), short, tmp_path / "whole", device=CPU)
    steps = iter([False] * 5 + [True])
    with pytest.raises(NotFinished):
        fit(tiny_set(), short, tmp_path / "parts", device=CPU, stop=lambda: next(steps))
    parts = fit(tiny_set(), short, tmp_path / "parts", device=CPU)
    assert load_checkpoint(parts).checkpoint_id == load_checkpoint(whole).checkpoint_id
    with pytest.raises(InputError, match="differing in"):
        fit(tiny_set(content_root="cd" * 32), short, tmp_path / "parts", device=CPU)


def _config(values: dict[str, Any]) -> FitConfig:
    from caskit.gen.autoregressive.stage import StageConfig

    return FitConfig(**{**values, "network": PriorConfig(**values["network"]), "stage": StageConfig(**values["stage"])})


def test_colour_is_a_map_whose_channels_stand_side_by_side() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
    images = SimpleNamespace(height=4, width=6, channels=3, batch=lambda ids: pixels[ids])
    maps = PixelMaps(images, 5, mirrored=True)  # type: ignore[arg-type]
    assert maps.shape == (10, 4, 18) and len(maps) == 10
    chosen = maps[np.array([1, 6])]
    assert chosen.dtype == np.uint16 and chosen[0, 2].tolist() == pixels[1, 2].reshape(-1).tolist()
    restored = to_images(torch.from_numpy(chosen.astype(np.int64)), 3)
    assert np.array_equal(restored[0], pixels[1]) and np.array_equal(restored[1], pixels[1][:, ::-1])


def test_red_is_drawn_without_a_look_at_the_blue_of_its_pixel() -> None:
    config = _config(
        {
            "preset": "colour",
            "network": {"hidden": 8, "residual": 8, "blocks": 1, "layers": 1, "embedding": 4},
            "stage": {"num_steps": 1},
        }
    )
    torch.manual_seed(0)
    network = build_network(config, shape=(4, 4, 3), num_classes=2).eval()
    maps = torch.randint(256, (1, 4, 12))
    changed = maps.clone()
    changed[0, 2, 8] = (changed[0, 2, 8] + 1) % 256  # blue of pixel (2, 2)
    with torch.no_grad():
        difference = (network(maps, torch.zeros(1).long()) - network(changed, torch.zeros(1).long())).abs().amax(1)[0]
    assert difference[2, 9:].max() > 0 and difference[3].max() > 0
    assert difference[:2].max() == 0 and difference[2, :9].max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"storage": "int8"}, "storage is 'int8'"),
        ({"mirrored": 1}, "mirrored is 1, allowed: true, false"),
        ({"preset": ""}, "preset is ''"),
    ],
)
def test_configs_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(PRESETS["digits"](), **change)


def test_a_checkpoint_of_other_layers_is_refused(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    network = {**checkpoint.record["config"]["network"], "layers": 2}
    other = dataclasses.replace(
        checkpoint, record={**checkpoint.record, "config": {**checkpoint.record["config"], "network": network}}
    )
    with pytest.raises(InputError, match="tensors do not go with the config, first blocks.0.layers.2"):
        load(other, Settings(), CPU)
    broken = dataclasses.replace(checkpoint, record={**checkpoint.record, "config": {"preset": "x"}})
    with pytest.raises(InputError, match="config is not that of this family"):
        load(broken, Settings(), CPU)
