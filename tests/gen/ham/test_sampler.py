"""What is drawn depends on label and stream alone, follows the data, and passes its own check."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.ham import HamGenerator, Settings, load
from caskit.gen.streams import Streams
from caskit.manifests.errors import InputError

CPU = torch.device("cpu")
MAPS = ["codes2", "codes1", "pixels"]


def test_samples_look_like_their_class(generator: HamGenerator, make_streams: Callable[..., Streams]) -> None:
    labels = np.repeat(np.arange(3), 40)
    images, finite = generator.sample(labels, make_streams(labels))
    assert images.shape == (120, 8, 8, 1) and images.dtype == np.uint8 and finite.all()
    brightest = images[..., 0].astype(float).mean(axis=2).argmax(axis=1)
    assert (brightest == 1 + labels * 2).mean() > 0.7


def test_the_maps_are_drawn_from_the_last_level_down_to_the_pixels(
    generator: HamGenerator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(12) % 3
    codes = generator.sample_codes(labels, make_streams(labels))
    assert list(codes) == MAPS and dict(generator.code_shapes) == {"codes2": (2, 2), "codes1": (4, 4), "pixels": (8, 8)}
    images, _ = generator.sample(labels, make_streams(labels))
    assert np.array_equal(codes["pixels"], images[..., 0])
    decoded, finite = generator.decode_codes(labels, codes)
    assert np.array_equal(decoded, images) and finite.all()


def test_a_sample_does_not_depend_on_its_batch(generator: HamGenerator, make_streams: Callable[..., Streams]) -> None:
    labels = np.arange(9) % 3
    together, _ = generator.sample(labels, make_streams(labels))
    alone, _ = generator.sample(labels[4:5], Streams(make_streams(labels).keys[4:5]))
    assert (together[4] != alone[0]).mean() < 0.1  # equal but where a uniform lies in the last bits of an edge


def test_an_honest_draw_passes_its_check_and_a_changed_one_does_not(
    generator: HamGenerator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(30) % 3
    codes = generator.sample_codes(labels, make_streams(labels))
    outside = generator.score_codes(labels, make_streams(labels), codes)
    assert max(o.max() for o in outside.values()) < 1e-5
    for level, num_codes in (("codes2", 12), ("codes1", 16), ("pixels", 256)):
        forged = {name: c.copy() for name, c in codes.items()}
        forged[level][7, 1, 0] = (forged[level][7, 1, 0] + num_codes // 3) % num_codes
        found = generator.score_codes(labels, make_streams(labels), forged)[level]
        assert found[7, 1, 0] > 0
        assert found[np.arange(30) != 7].max() < 1e-5
    assert max(o.max() for o in generator.score_codes(labels, make_streams(labels, seed=1), codes).values()) > 0.1


def test_codes_that_the_model_does_not_have_are_not_finite(generator: HamGenerator) -> None:
    codes = {name: np.zeros((2, *shape), np.uint16) for name, shape in generator.code_shapes.items()}
    codes["codes2"][1, 1, 1] = 12
    _, finite = generator.decode_codes(np.zeros(2, np.int64), codes)
    assert finite.tolist() == [True, False]


def test_settings_change_the_draw(
    tiny_checkpoint: Path, generator: HamGenerator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(30) % 3
    plain = generator.sample_codes(labels, make_streams(labels))
    for settings in (Settings(temperature=0.5), Settings(top_p=0.5)):
        other = load(load_checkpoint(tiny_checkpoint), settings, CPU)
        drawn = other.sample_codes(labels, make_streams(labels))
        assert not np.array_equal(drawn["pixels"], plain["pixels"])
        assert max(o.max() for o in other.score_codes(labels, make_streams(labels), drawn).values()) < 1e-5


def test_a_checkpoint_of_other_tensors_is_refused(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    checkpoint.record["config"]["levels"][1]["channels"] = 24
    with pytest.raises(InputError, match="tensors do not go with the config, first level2"):
        load(checkpoint, Settings(), CPU)
    checkpoint = load_checkpoint(tiny_checkpoint)
    del checkpoint.record["config"]["levels"][1]
    checkpoint.record["config"]["prior_network"]["embedding"] = 8
    with pytest.raises(InputError, match="tensors do not go with the config, first prior"):
        load(checkpoint, Settings(), CPU)
    for broken in ({}, {"levels": 3}, {"levels": [4]}):
        checkpoint.record["config"] = broken
        with pytest.raises(InputError, match="config is not that of this family"):
            load(checkpoint, Settings(), CPU)


def test_reconstructions_are_near_their_images(tiny_set: Callable[..., Any], generator: HamGenerator) -> None:
    images = tiny_set().images
    spread = np.abs(images - images.astype(float).mean(axis=0)).mean()
    for number in (1, 2):
        again, finite = generator.reconstruct_from(images, number)  # type: ignore[attr-defined]
        assert again.shape == images.shape and again.dtype == np.uint8 and finite.all()
        assert np.abs(again.astype(float) - images).mean() < 0.7 * spread
    whole, _ = generator.reconstruct(images)  # type: ignore[attr-defined]
    assert np.array_equal(whole, again)
