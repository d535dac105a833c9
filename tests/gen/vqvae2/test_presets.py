"""The named fits build, fit their images, and their docstrings say what the cost model says."""

import inspect
import json
from typing import NamedTuple

import pytest
import torch

from caskit.gen.autoregressive.costs import cost_lines
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.own_judge import own_judge, own_rejection
from caskit.gen.vqvae2.costs import network_costs, stages_of
from caskit.gen.vqvae2.presets import PRESETS, packaged
from caskit.gen.vqvae2.weights import config_of
from caskit.train.training import load_classifier


class Shape(NamedTuple):
    side: int
    channels: int
    num_classes: int
    top: int  # side of the top map
    estimated: bool  # whether a GPU's days are worth telling


SHAPES = {
    "digits": Shape(8, 1, 10, 2, False),
    "fashion-mnist": Shape(28, 1, 10, 7, False),
    "cifar-32": Shape(32, 3, 10, 8, True),
    "imagenet-128": Shape(128, 3, 1000, 16, True),
    "imagenet-256": Shape(256, 3, 1000, 32, True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_docstring_says_what_the_cost_model_says(name: str) -> None:
    shape, preset = SHAPES[name], PRESETS[name]
    config = preset()
    assert config.preset == name
    assert shape.side == shape.top * config.stride
    said = " ".join(inspect.getdoc(preset).split())  # type: ignore[union-attr]
    costs = network_costs(
        config, height=shape.side, width=shape.side, channels=shape.channels, num_classes=shape.num_classes
    )
    lines = cost_lines(costs, stages_of(config))
    for line in lines if shape.estimated else lines[:2]:
        assert line in said
    assert f"caskit fit --gen vqvae2:{name} " in said
    assert "Expected score:" in said


def test_the_full_size_model_has_the_sizes_of_the_paper() -> None:
    config = PRESETS["imagenet-256"]()
    assert (config.num_codes, config.code_size, config.channels) == (512, 64, 128)
    assert (config.residual_blocks, config.residual_channels, config.commitment) == (2, 64, 0.25)
    top, bottom = config.top_prior, config.bottom_prior
    assert (top.hidden, top.residual, top.blocks * top.layers, top.out_layers) == (512, 2048, 20, 20)
    assert (top.blocks, top.heads, top.columns, top.rows_above, top.dropout) == (4, 8, 5, 2, 0.1)
    assert (bottom.hidden, bottom.residual, bottom.blocks * bottom.layers, bottom.heads) == (512, 1024, 20, 0)
    assert (bottom.condition_layers, bottom.columns, bottom.rows_above, bottom.dropout) == (20, 5, 2, 0.1)


def test_a_checkpoint_of_the_digits_is_below_two_megabytes() -> None:
    costs = network_costs(PRESETS["digits"](), height=8, width=8, channels=1, num_classes=10)
    assert PRESETS["digits"]().storage == "float16"
    assert 2 * sum(cost.parameters for cost in costs.values()) < 2_000_000


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_the_packaged_checkpoint_is_a_fit_of_the_preset(name: str) -> None:
    folder, config = packaged(name), PRESETS[name]()
    assert folder is not None
    checkpoint = load_checkpoint(folder)
    assert config_of(checkpoint.record) == config
    rejection = own_rejection(checkpoint)
    assert (rejection is None) == (config.judge.recipe == "")
    if rejection is not None:
        judge = load_classifier(own_judge(checkpoint, rejection), device=torch.device("cpu"))  # verifies its weights
        assert judge.classifier_id == rejection.classifier_id and judge.recipe == config.judge.resolved()
        assert (rejection.candidates, rejection.threshold) == (config.judge.candidates, config.judge.threshold)
        assert [{"id": i, "name": n} for i, n in zip(judge.classes.ids, judge.classes.names, strict=True)] == (
            checkpoint.record["classes"]
        )
        assert "/" not in json.dumps([judge.record["versions"], judge.record["hardware"], judge.record["data"]])
