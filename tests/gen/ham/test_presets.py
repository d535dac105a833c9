"""The named fits build, fit their images, and their docstrings say what the cost model says."""

import inspect
from typing import NamedTuple

import pytest

from caskit.gen.autoregressive.costs import cost_lines
from caskit.gen.ham.costs import network_costs, stages_of
from caskit.gen.ham.presets import PRESETS


class Shape(NamedTuple):
    side: int
    channels: int
    num_classes: int
    sides: tuple[int, ...]  # of the maps, from the pixels up
    estimated: bool  # whether a GPU's days are worth telling


SHAPES = {
    "digits": Shape(8, 1, 10, (4,), False),
    "fashion-mnist": Shape(28, 1, 10, (7,), False),
    "cifar-32": Shape(32, 3, 10, (8,), True),
    "imagenet-128": Shape(128, 3, 1000, (32, 16), True),
}


def test_all_presets_are_here() -> None:
    assert set(SHAPES) == set(PRESETS)


@pytest.mark.parametrize("name", SHAPES)
def test_the_docstring_says_what_the_cost_model_says(name: str) -> None:
    shape, preset = SHAPES[name], PRESETS[name]
    config = preset()
    assert config.preset == name
    assert tuple(shape.side // stride for stride in config.strides) == shape.sides
    assert shape.side % config.stride == 0
    said = " ".join(inspect.getdoc(preset).split())  # type: ignore[union-attr]
    costs = network_costs(
        config, height=shape.side, width=shape.side, channels=shape.channels, num_classes=shape.num_classes
    )
    lines = cost_lines(costs, stages_of(config))
    for line in lines if shape.estimated else lines[:2]:
        assert line in said
    assert f"caskit fit --gen ham:{name} " in said
    assert "Expected score:" in said


def test_imagenet_is_masked_self_prediction_and_fashion_mnist_decodes_forward() -> None:
    assert [level.auxiliary for level in PRESETS["imagenet-128"]().levels] == ["msp", "msp"]
    assert [level.auxiliary for level in PRESETS["fashion-mnist"]().levels] == ["feedforward"]
