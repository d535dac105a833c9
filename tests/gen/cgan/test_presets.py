"""The named fits build without storage, and their docstrings say what the cost model says."""

import inspect

import pytest

from caskit.gen.adversarial.costs import cost_lines, fit_cost
from caskit.gen.cgan.presets import PRESETS

# Sides, channels, classes, whether a GPU's time is worth telling, millions of parameters of both networks.
SHAPES = {
    "fashion-mnist": (28, 1, 10, False, 0.563, 0.160),
    "digits": (8, 1, 10, False, 0.066, 0.040),
    "cifar-32": (32, 3, 10, True, 4.304, 1.055),
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_docstring_says_what_the_cost_model_says(name: str) -> None:
    side, channels, num_classes, estimated, generator, discriminator = SHAPES[name]
    config = PRESETS[name]()
    assert (config.preset, config.image_size) == (name, side)
    said = " ".join(inspect.getdoc(PRESETS[name]).split())  # type: ignore[union-attr]
    lines = cost_lines(config, channels=channels, num_classes=num_classes)
    for line in lines if estimated else lines[:2]:
        assert line in said
    assert f"caskit fit --gen cgan:{name} " in said
    assert "Expected score:" in said
    cost = fit_cost(config, channels=channels, num_classes=num_classes)
    assert cost.generator_parameters / 1e6 == pytest.approx(generator, abs=1e-3)
    assert cost.discriminator_parameters / 1e6 == pytest.approx(discriminator, abs=1e-3)


def test_half_precision_checkpoints_of_the_small_fits_are_below_two_megabytes() -> None:
    for name in ("fashion-mnist", "digits"):
        config = PRESETS[name]()
        assert config.storage == "float16"
        assert 2 * fit_cost(config, channels=1, num_classes=10).generator_parameters < 2_000_000
