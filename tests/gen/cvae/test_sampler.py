"""An image depends on its label and its stream, and on nothing else."""

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.cvae import PRESETS, CvaeGenerator, Settings, load, packaged
from caskit.gen.cvae.sampler import quantise

CPU = torch.device("cpu")
LABELS = (np.arange(64) % 3).astype(np.int64)


@pytest.fixture(scope="module")
def generator(tiny_checkpoint: Path) -> CvaeGenerator:
    return load(load_checkpoint(tiny_checkpoint), Settings(), CPU)


def test_shape_and_determinism(generator: CvaeGenerator, make_streams: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    images, finite = generator.sample(LABELS, make_streams(LABELS))
    torch.manual_seed(1)
    again, _ = generator.sample(LABELS, make_streams(LABELS))
    assert images.shape == (64, 8, 8, 1)
    assert images.dtype == np.uint8
    assert finite.shape == (64,)
    assert finite.dtype == np.bool_
    assert finite.all()
    np.testing.assert_array_equal(images, again)
    other, _ = generator.sample(LABELS, make_streams(LABELS, seed=1))
    assert (images != other).any(axis=(1, 2, 3)).all()


def test_an_image_does_not_depend_on_its_microbatch(generator: CvaeGenerator, make_streams: Callable[..., Any]) -> None:
    together, _ = generator.sample(LABELS, make_streams(LABELS))
    for i in (0, 17, 63):
        alone, _ = generator.sample(LABELS[i : i + 1], make_streams(LABELS[i : i + 1], first=i))
        assert np.abs(alone[0].astype(int) - together[i].astype(int)).max() <= 1
    latents = generator.latents(LABELS, make_streams(LABELS))
    part = generator.latents(LABELS[40:], make_streams(LABELS[40:], first=40))
    np.testing.assert_array_equal(latents[40:], part)


def test_samples_show_their_label(generator: CvaeGenerator, make_streams: Callable[..., Any]) -> None:
    images, _ = generator.sample(LABELS, make_streams(LABELS))
    brightest = images[..., 0].mean(axis=2).argmax(axis=1)
    assert (brightest == 1 + LABELS * 2).mean() > 0.95


def test_settings_change_the_samples(tiny_checkpoint: Path, make_streams: Callable[..., Any]) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    normal = load(checkpoint, Settings(prior="normal", temperature=0.5), CPU).latents(LABELS, make_streams(LABELS))
    assert 0.3 < normal.std() < 0.7
    smooth = load(checkpoint, Settings(noise=0.0), CPU).sample(LABELS, make_streams(LABELS))[0]
    rough = load(checkpoint, Settings(noise=3.0), CPU).sample(LABELS, make_streams(LABELS))[0]
    assert np.abs(np.diff(smooth.astype(int), axis=2)).mean() < np.abs(np.diff(rough.astype(int), axis=2)).mean()
    still = load(checkpoint, Settings(temperature=0.0), CPU).latents(LABELS, make_streams(LABELS))
    assert len(np.unique(still, axis=0)) <= 3 * 2  # one per component


def test_latents_follow_the_mixture(generator: CvaeGenerator, make_streams: Callable[..., Any]) -> None:
    labels = np.full(4000, 1)
    latents = generator.latents(labels, make_streams(labels))
    weights, means = np.diff(generator._bounds[1], prepend=0.0), generator._means[1]
    expected = weights @ means
    assert np.abs(latents.mean(axis=0) - expected).max() < 0.15
    covariance = np.einsum("k,kij,klj->il", weights, generator._factors[1], generator._factors[1])
    covariance += np.einsum("k,ki,kj->ij", weights, means - expected, means - expected)
    np.testing.assert_allclose(np.cov(latents.T), covariance, atol=0.15)


def test_quantise_reports_non_finite_images() -> None:
    means = torch.full((3, 1, 2, 2), 0.5)
    means[1, 0, 0, 0] = float("nan")
    means[2, 0, 1, 1] = float("inf")
    images, finite = quantise(means)
    assert finite.tolist() == [True, False, False]
    assert images[0].tolist() == [[[128], [128]], [[128], [128]]]


def test_a_loaded_generator_can_be_sent_to_a_worker(generator: CvaeGenerator, make_streams: Callable[..., Any]) -> None:
    copied = pickle.loads(pickle.dumps(generator))
    np.testing.assert_array_equal(
        copied.sample(LABELS, make_streams(LABELS))[0], generator.sample(LABELS, make_streams(LABELS))[0]
    )


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_packaged_checkpoints_load_and_sample(preset: str, make_streams: Callable[..., Any]) -> None:
    folder = packaged(preset)
    assert folder is not None, f"no packaged checkpoint for {preset}"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_000_000
    checkpoint = load_checkpoint(folder)
    assert checkpoint.record["config"] == dataclasses.asdict(PRESETS[preset]()), "not what the preset fits"
    generator = load(checkpoint, Settings(), CPU)
    labels = np.arange(10)
    images, finite = generator.sample(labels, make_streams(labels))
    assert images.shape == (10, generator.height, generator.width, 1)
    assert finite.all()
    assert images.reshape(10, -1).std(axis=1).min() > 5
