"""Every family of the table keeps the contract; every broken promise is noticed."""

import dataclasses
import random
import sys
from collections.abc import Callable
from pathlib import Path

import coded_family
import numpy as np
import pebble_family
import pytest
import torch

from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.contract import CHECK_NUM, Contract, check_generator
from caskit.gen.contract.labels import binomial_tail
from caskit.gen.family import FAMILIES, load_family
from caskit.gen.planning import find_checkpoint, make_plan
from caskit.gen.streams import Streams
from caskit.manifests.plan import Plan

PLAIN = pebble_family.PebbleGenerator.sample


def shipped() -> list[tuple[str, str]]:
    families = [(name, load_family(module)) for name, module in sorted(FAMILIES.items())]
    return [(name, preset) for name, family in families for preset in family.PRESETS if family.packaged(preset)]


@pytest.mark.parametrize(("family", "preset"), shipped())
def test_shipped_generators(family: str, preset: str) -> None:
    checkpoint = find_checkpoint(family, preset, None)
    contract = check_generator(checked_plan(checkpoint.path, 8), checkpoint=checkpoint.path, elsewhere=False)
    assert contract.problems == []
    assert {check.name for check in contract.checks if not check.checked} <= {"codes"}
    assert contract.cost is not None and contract.cost.images_per_s > 0 and contract.cost.peak_bytes > 2**20


def checked_plan(checkpoint: Path, microbatch_size: int, **changes: object) -> Plan:
    num = CHECK_NUM * microbatch_size
    return make_plan(load_checkpoint(checkpoint), num=num, microbatch_size=microbatch_size, **changes)


def check(pebble: Checkpoint, **options: object) -> Contract:
    return check_generator(checked_plan(pebble.path, 8), checkpoint=pebble.path, elsewhere=False, **options)


def problems_of(pebble: Checkpoint, name: str) -> str:
    return " | ".join(problem for found in check(pebble).checks if found.name == name for problem in found.problems)


def test_the_test_families(pebble: Checkpoint, coded: Checkpoint) -> None:
    for checkpoint in (pebble, coded):
        contract = check(checkpoint)
        assert contract.passed, contract.problems
    assert [found.name for found in contract.checks] == [
        *("config", "arrays", "seed", "batch", "randomness", "labels", "codes", "settings", "process")
    ]
    assert all(found.checked for found in contract.checks)


def test_a_new_process_draws_the_same_and_is_measured(pebble: Checkpoint) -> None:
    contract = check_generator(checked_plan(pebble.path, 8), checkpoint=pebble.path)
    assert contract.problems == []
    assert contract.cost is not None and contract.cost.load_s > 0


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


def fails(self, labels: np.ndarray, streams: Streams):
    raise ZeroDivisionError("no step was taken")


def never_finite(self, labels: np.ndarray, streams: Streams):
    images, finite = PLAIN(self, labels, streams)
    return images, np.zeros_like(finite)


def returns_images_alone(self, labels: np.ndarray, streams: Streams):
    return PLAIN(self, labels, streams)[0]


def draws_entropy(self, labels: np.ndarray, streams: Streams):
    images, finite = PLAIN(self, labels, streams)
    return images + np.random.default_rng().integers(0, 8, images.shape, dtype=np.uint8), finite


def ignores_labels(self, labels: np.ndarray, streams: Streams):
    return PLAIN(self, np.zeros_like(labels), streams)


def seeds_globally(self, labels: np.ndarray, streams: Streams):
    """Draws nothing that depends on a global state, and leaves another one behind."""
    torch.manual_seed(int(labels[0]))
    return PLAIN(self, labels, streams)


def changes_threads(self, labels: np.ndarray, streams: Streams):
    torch.set_num_threads(2)
    return PLAIN(self, labels, streams)


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
    ("sample", "name", "message"),
    [
        (wrong_type, "arrays", "images are float32 (8, 6, 4, 1), must be uint8 (8, 6, 4, 1): scale to 0..255"),
        (wrong_shape, "arrays", "must be uint8 (8, 6, 4, 1): one image [height, width, channels] per label"),
        (no_finite, "arrays", "finite is NoneType, must be a bool array of shape (8,)"),
        (never_finite, "arrays", "not one image of a whole batch was finite"),
        (returns_images_alone, "arrays", "sample() returned uint8 (8, 6, 4, 1), must be a pair"),
        (changes_labels, "arrays", "sample() changes the labels it was given: copy them first"),
        (fails, "arrays", "sample() raised ZeroDivisionError: no step was taken ("),
        (draws_entropy, "seed", "in the same batch give other images the second time: draw every random number from"),
        (ignores_streams, "seed", "other streams give the same images, so the seed has no effect"),
        (sees_the_batch, "batch", "depends on the other samples of its batch"),
        (numbers_the_batch, "batch", "depends on its place in the batch"),
        (draws_globally("torch"), "randomness", "the global generator of torch, which no plan knows"),
        (draws_globally("numpy"), "randomness", "the global generator of numpy, which no plan knows"),
        (draws_globally("random"), "randomness", "the global generator of random, which no plan knows"),
        (draws_globally("numpy"), "randomness", "images depend on a global random state"),
        (seeds_globally, "randomness", "the global generator of torch"),
        (ignores_labels, "labels", "another label with the same stream gives the same image: pass the labels"),
        (changes_threads, "settings", "loading or drawing changes torch's number of threads"),
    ],
)
def test_broken_promises(
    sample: Callable, name: str, message: str, pebble: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pebble_family.PebbleGenerator, "sample", sample)
    assert message in problems_of(pebble, name)


@pytest.mark.parametrize("sample", [sees_the_batch, ignores_labels, changes_threads, seeds_globally])
def test_one_broken_promise_is_one_message(
    sample: Callable, pebble: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pebble_family.PebbleGenerator, "sample", sample)
    assert len(check(pebble).problems) == 1


def test_what_loading_draws_must_not_show(pebble: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(checkpoint: Checkpoint, settings: object, device: torch.device):
        generator = pebble_family.PebbleGenerator(checkpoint, settings)
        generator.base = generator.base + np.random.default_rng().integers(1, 100, 5).astype(np.uint8)
        return generator

    monkeypatch.setattr(pebble_family, "load", load)
    assert "look for random numbers drawn while loading" in problems_of(pebble, "process")


def test_a_generator_that_does_not_load(pebble: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pebble_family, "load", lambda checkpoint, settings, device: {}["weights"])
    assert "loading raised KeyError: 'weights' (" in problems_of(pebble, "load")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    brightness: int = 0
    not_finite_every: int = 0
    sides: tuple[int, ...] = (1, 2)


def test_settings_that_a_plan_changes(pebble: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pebble_family, "Settings", Pairs)
    monkeypatch.setattr(sys.modules[Pairs.__module__], "Pairs", Pairs, raising=False)
    assert "use lists, not tuples or sets" in problems_of(pebble, "config")


def test_settings_that_cannot_be_pickled(pebble: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    local = dataclasses.make_dataclass("Local", [("brightness", int, 0), ("not_finite_every", int, 0)], frozen=True)
    monkeypatch.setattr(pebble_family, "Settings", local)
    found = problems_of(pebble, "config")
    assert "Settings cannot be pickled" in found and "define its class at the top of a module" in found


def test_codes_are_promised_or_not(pebble: Checkpoint, coded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pebble_family, "CODED", True)
    assert "CODED is True, but its generator has no codes" in problems_of(pebble, "codes")
    monkeypatch.setattr(coded_family, "CODED", False)
    assert "CODED is False, but its generator has codes" in problems_of(coded, "codes")


def test_the_tail_of_a_binomial() -> None:
    assert binomial_tail(10, 0.5, 0) == pytest.approx(1)
    assert binomial_tail(10, 0.5, 10) == pytest.approx(2**-10)
    assert binomial_tail(4, 0.25, 3) == pytest.approx((4 * 3 + 1) / 256)
