"""What is drawn depends on label and stream alone, follows the data, and passes its own check."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.streams import Streams
from caskit.gen.vqvae2 import Settings, Vqvae2Generator, load
from caskit.manifests.errors import InputError


def test_samples_look_like_their_class(generator: Vqvae2Generator, make_streams: Callable[..., Streams]) -> None:
    labels = np.repeat(np.arange(3), 40)
    images, finite = generator.sample(labels, make_streams(labels))
    assert images.shape == (120, 8, 8, 1) and images.dtype == np.uint8 and finite.all()
    brightest = images[..., 0].astype(float).mean(axis=2).argmax(axis=1)
    assert (brightest == 1 + labels * 2).mean() > 0.7


def test_sampling_is_decoding_what_was_drawn(generator: Vqvae2Generator, make_streams: Callable[..., Streams]) -> None:
    labels = np.arange(12) % 3
    codes = generator.sample_codes(labels, make_streams(labels))
    assert {level: c.shape[1:] for level, c in codes.items()} == dict(generator.code_shapes)
    assert list(codes) == ["top", "bottom"] and all(c.dtype == np.uint16 for c in codes.values())
    decoded, _ = generator.decode_codes(labels, codes)
    assert np.array_equal(decoded, generator.sample(labels, make_streams(labels))[0])


def test_an_honest_draw_passes_its_check_and_a_changed_one_does_not(
    generator: Vqvae2Generator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(30) % 3
    codes = generator.sample_codes(labels, make_streams(labels))
    outside = generator.score_codes(labels, make_streams(labels), codes)
    assert max(o.max() for o in outside.values()) < 1e-5
    for level in ("top", "bottom"):
        forged = {name: c.copy() for name, c in codes.items()}
        forged[level][7, 1, 0] = (forged[level][7, 1, 0] + 1) % 16
        found = generator.score_codes(labels, make_streams(labels), forged)[level]
        assert found[7, 1, 0] > 0
        others = np.arange(30) != 7
        assert found[others].max() < 1e-5
    assert max(o.max() for o in generator.score_codes(labels, make_streams(labels, seed=1), codes).values()) > 0.1
    assert max(o.max() for o in generator.score_codes((labels + 1) % 3, make_streams(labels), codes).values()) > 0.01
    unknown = {**codes, "top": np.where(codes["top"] >= 0, 999, 0).astype(np.uint16)}
    assert np.isinf(generator.score_codes(labels, make_streams(labels), unknown)["top"]).all()


def test_codes_that_the_model_does_not_have_are_not_finite(generator: Vqvae2Generator) -> None:
    codes = {"top": np.zeros((2, 2, 2), np.uint16), "bottom": np.zeros((2, 4, 4), np.uint16)}
    codes["bottom"][1, 3, 3] = 16
    _, finite = generator.decode_codes(np.zeros(2, np.int64), codes)
    assert finite.tolist() == [True, False]


def test_logits_that_are_not_finite_make_the_sample_so(
    generator: Vqvae2Generator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(6) % 3
    prior = generator._levels["bottom"].prior
    with torch.no_grad():
        prior.blocks[0].layers[0].class_vectors.weight[1] = float("nan")  # type: ignore[index, union-attr]
    _, finite = generator.sample(labels, make_streams(labels))
    assert finite.tolist() == [label != 1 for label in labels]


def test_settings_change_the_draw(
    tiny_checkpoint: Path, generator: Vqvae2Generator, make_streams: Callable[..., Streams]
) -> None:
    labels = np.arange(30) % 3
    plain = generator.sample_codes(labels, make_streams(labels))
    for settings in (Settings(temperature=0.5), Settings(top_p=0.5)):
        other = load(load_checkpoint(tiny_checkpoint), settings, torch.device("cpu"))
        drawn = other.sample_codes(labels, make_streams(labels))
        assert not np.array_equal(drawn["bottom"], plain["bottom"])
        assert max(o.max() for o in other.score_codes(labels, make_streams(labels), drawn).values()) < 1e-5
    with pytest.raises(InputError, match="top_p is 0, allowed"):
        Settings(top_p=0)


def test_reconstructions_are_near_their_images(tiny_set: Callable[..., Any], generator: Vqvae2Generator) -> None:
    images = tiny_set().images
    again, finite = generator.reconstruct(images)
    assert again.shape == images.shape and again.dtype == np.uint8 and finite.all()
    error = np.abs(again.astype(float) - images).mean()
    spread = np.abs(images - images.astype(float).mean(axis=0)).mean()
    assert error < 0.6 * spread


def test_a_checkpoint_of_other_tensors_is_refused(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    checkpoint.record["config"]["top_prior"]["hidden"] = 24
    with pytest.raises(InputError, match="tensors do not go with the config, first top"):
        load(checkpoint, Settings(), torch.device("cpu"))
    del checkpoint.record["config"]["top_prior"]["hidden"]
    with pytest.raises(InputError, match="config is not that of this family"):
        load(checkpoint, Settings(), torch.device("cpu"))
