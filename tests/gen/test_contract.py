"""Every family of the table keeps the contract; every broken promise is noticed."""

import random
from collections.abc import Callable

import numpy as np
import pebble_family
import pytest
import torch
from pebble_drive import plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.contract import check_generator
from caskit.gen.family import FAMILIES, load_family
from caskit.gen.planning import find_checkpoint, make_plan
from caskit.gen.streams import Streams

PLAIN = pebble_family.PebbleGenerator.sample


def shipped() -> list[tuple[str, str]]:
    families = [(name, load_family(module)) for name, module in sorted(FAMILIES.items())]
    return [(name, preset) for name, family in families for preset in family.PRESETS if family.packaged(preset)]


@pytest.mark.parametrize(("family", "preset"), shipped())
def test_shipped_generators(family: str, preset: str) -> None:
    checkpoint = find_checkpoint(family, preset, None)
    plan = make_plan(checkpoint, num=100, microbatch_size=16)
    assert check_generator(plan, module=FAMILIES[family], checkpoint=checkpoint.path) == []


def check(pebble: Checkpoint) -> list[str]:
    return check_generator(plan_of(pebble.path, 20), module="pebble_family", checkpoint=pebble.path)


def test_the_test_family(pebble: Checkpoint) -> None:
    assert check(pebble) == []


def wrong_type(self, labels: np.ndarray, streams: Streams):
    images, finite = PLAIN(self, labels, streams)
    return images.astype(np.float32), finite


def wrong_shape(self, labels: np.ndarray, streams: Streams):
    images, finite = PLAIN(self, labels, streams)
    return images[..., 0], finite


def no_finite(self, labels: np.ndarray, streams: Streams):
    return PLAIN(self, labels, streams)[0], None


def changes_labels(self, labels: np.ndarray, streams: Streams):
    result = PLAIN(self, labels, streams)
    labels += 1
    return result


def ignores_streams(self, labels: np.ndarray, streams: Streams):
    return PLAIN(self, labels, Streams([bytes(16)] * streams.num))


def sees_the_batch(self, labels: np.ndarray, streams: Streams):
    images, finite = PLAIN(self, labels, streams)
    return images - images.min(axis=0), finite


def numbers_the_batch(self, labels: np.ndarray, streams: Streams):
    images, finite = PLAIN(self, labels, streams)
    return images + np.arange(len(images), dtype=np.uint8)[:, None, None, None] * 8, finite


def draws_globally(library: str) -> Callable:
    noise = {
        "torch": lambda: int(torch.randint(0, 100, ())),
        "numpy": lambda: int(np.random.randint(100)),
        "random": lambda: random.randrange(100),
    }[library]

    def sample(self, labels: np.ndarray, streams: Streams):
        images, finite = PLAIN(self, labels, streams)
        return images + np.uint8(noise()), finite

    return sample


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (wrong_type, "images are float32"),
        (wrong_shape, "must be uint8 (8, 6, 4, 1)"),
        (no_finite, "finite must be a bool array"),
        (changes_labels, "changes the labels"),
        (ignores_streams, "other streams give the same images"),
        (sees_the_batch, "depends on the other samples of its batch"),
        (numbers_the_batch, "depends on its place in the batch"),
        (draws_globally("torch"), "the global generator of torch"),
        (draws_globally("numpy"), "the global generator of numpy"),
        (draws_globally("random"), "the global generator of random"),
    ],
)
def test_broken_promises(sample: Callable, message: str, pebble: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pebble_family.PebbleGenerator, "sample", sample)
    assert any(message in problem for problem in check(pebble)), check(pebble)
