"""What the maps of an image hold: bits per level, what is drawn below given codes, boxes of masked prediction."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.autoregressive.draws import DrawRule
from caskit.gen.ham import HamGenerator
from caskit.gen.ham.abstraction import random_boxes
from caskit.gen.ham.network import self_prediction_loss
from caskit.gen.streams import Streams


def test_bits_are_those_of_the_draws(generator: HamGenerator, tiny_set: Callable[..., Any]) -> None:
    data = tiny_set(num=12)
    maps = generator.encode(data.images)
    assert list(maps) == list(generator.code_shapes)
    bits = generator.map_bits(data.labels, maps)
    assert list(bits) == list(maps) and all(values.shape == (12,) for values in bits.values())
    # The probability of the pixels is the product of the lengths of the intervals that uniforms have to fall into.
    level = generator._levels["pixels"]
    with torch.no_grad():
        logits = level.prior(
            torch.from_numpy(maps["pixels"].astype(np.int64)),
            torch.from_numpy(data.labels),
            torch.from_numpy(maps["codes1"].astype(np.int64)),
        )
    cumulative = DrawRule().cumulative(logits.permute(0, 2, 3, 1)).numpy()
    edges = np.concatenate([np.zeros_like(cumulative[..., :1]), cumulative], axis=-1) / cumulative[..., -1:]
    chosen = np.take_along_axis(np.diff(edges, axis=-1), maps["pixels"][..., None].astype(int), axis=-1)
    assert bits["pixels"] == pytest.approx(-np.log2(chosen).sum(axis=(1, 2, 3)), rel=1e-5)
    wrong = generator.map_bits((data.labels + 1) % 3, maps)
    assert sum(values.sum() for values in bits.values()) < sum(values.sum() for values in wrong.values())


def test_given_codes_are_kept_and_what_is_below_is_drawn(
    generator: HamGenerator, tiny_set: Callable[..., Any], make_streams: Callable[..., Streams]
) -> None:
    data = tiny_set(num=30)
    maps = generator.encode(data.images)
    given = {name: maps[name] for name in ("codes2", "codes1")}
    first, second = (
        generator.sample_codes(data.labels, make_streams(data.labels, seed=seed), given=given) for seed in (0, 1)
    )
    for name in given:
        assert np.array_equal(first[name], maps[name]) and first[name].dtype == np.uint16
    assert list(first) == list(maps)
    assert not np.array_equal(first["pixels"], second["pixels"])
    # The pixels are what the streams give below these codes, and the codes are not what the streams give.
    outside = generator.score_codes(data.labels, make_streams(data.labels, seed=0), first)
    assert outside["pixels"].max() < 1e-5 and max(outside["codes2"].max(), outside["codes1"].max()) > 0.1
    wrong = {**first, "codes1": maps["codes1"][::-1]}
    assert generator.score_codes(data.labels, make_streams(data.labels, seed=0), wrong)["pixels"].max() > 1e-3


def test_boxes_are_whole_and_of_every_size_that_is_asked_for() -> None:
    torch.manual_seed(0)
    boxes = random_boxes(400, torch.Size([10, 6]), 0.5)
    assert boxes.shape == (400, 1, 10, 6) and set(boxes.unique().tolist()) == {0.0, 1.0}
    heights, widths = boxes.amax(dim=3).sum(dim=2), boxes.amax(dim=2).sum(dim=2)
    assert torch.equal(boxes.sum(dim=(1, 2, 3)), (heights * widths).flatten())
    assert set(heights.flatten().tolist()) == {1, 2, 3, 4, 5} and set(widths.flatten().tolist()) == {1, 2, 3}
    assert (boxes.sum(dim=0) > 0).all(), "every cell is masked some time"
    assert random_boxes(5, torch.Size([2, 2]), 0.01).sum(dim=(1, 2, 3)).tolist() == [1.0] * 5


def test_the_error_of_knowing_nothing_is_one_and_constant_features_are_punished() -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 5, 4, 4) * 2 + torch.randn(1, 5, 4, 4)
    mask = random_boxes(64, torch.Size([4, 4]), 1.0)
    error, apart = self_prediction_loss(torch.zeros_like(features), features, mask)
    assert float(error) == pytest.approx(1.0, abs=0.1) and float(apart) < 0.3
    target = features - features.mean(dim=0)
    told, _ = self_prediction_loss(target / target.transpose(0, 1).flatten(1).std(dim=1)[:, None, None], features, mask)
    assert float(told) < 1e-3
    # A feature that tells the position and nothing of the image is as bad as a constant one.
    position = torch.randn(1, 5, 4, 4).expand(64, -1, -1, -1)
    assert float(self_prediction_loss(torch.zeros_like(features), position, mask)[1]) > 0.9
    copies = features[:, :1].expand(-1, 5, -1, -1)
    assert float(self_prediction_loss(torch.zeros_like(features), copies, mask)[1]) > float(apart) + 0.2
    # No gradient reaches the features as targets: predicting them better is all that lowers the error.
    features.requires_grad_()
    error, _ = self_prediction_loss(torch.zeros_like(features), features, mask)
    assert not error.requires_grad
