"""The cost model counts what torch's own counter counts, and parameters exactly."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.costs import fit_flops, gpu_days
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.sampler import CachedSampler
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.vqvae2.config import BOTTOM, TOP, FitConfig
from caskit.gen.vqvae2.costs import network_costs, stages_of
from caskit.gen.vqvae2.network import Autoencoder
from caskit.gen.vqvae2.weights import build_prior

NUM_CLASSES = 3
SIZE = {"height": 16, "width": 32, "channels": 3, "num_classes": NUM_CLASSES}
STAGE = StageConfig(num_steps=5, batch_size=4)
TOP_PRIOR = PriorConfig(
    hidden=12, residual=20, blocks=2, layers=2, rows_above=2, columns=5, heads=2, head_size=4, out_layers=2
)
BOTTOM_PRIOR = PriorConfig(
    hidden=10, residual=14, blocks=2, layers=2, condition_layers=2, condition_hidden=9, condition_residual=11
)


def config(stride: int = 4, **changes: Any) -> FitConfig:
    base = FitConfig(
        preset="tiny",
        bottom_stride=stride,
        channels=12,
        residual_channels=7,
        code_size=6,
        num_codes=16,
        autoencoder=STAGE,
        top=STAGE,
        bottom=STAGE,
        top_prior=TOP_PRIOR,
        bottom_prior=BOTTOM_PRIOR,
    )
    return dataclasses.replace(base, **changes)


def prior(fit: FitConfig, level: str) -> PixelSnail:
    top_shape = (SIZE["height"] // fit.stride, SIZE["width"] // fit.stride)
    return build_prior(fit, level, top_shape=top_shape, num_classes=NUM_CLASSES)


def inputs(model: PixelSnail, num: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    codes = torch.randint(model.num_codes, (num, model.height, model.width))
    above = codes[:, ::2, ::2] if model.condition is not None else None
    return codes, torch.arange(num) % NUM_CLASSES, above


@pytest.mark.parametrize(("stride", "num_bottom_codes"), [(2, 0), (4, 0), (2, 7)])
def test_the_autoencoder_costs_what_is_counted(stride: int, num_bottom_codes: int) -> None:
    fit = config(stride, num_bottom_codes=num_bottom_codes)
    cost = network_costs(fit, **SIZE)["autoencoder"]
    model = Autoencoder(3, fit)
    trained = sum(p.numel() for p in model.parameters())
    assert cost.parameters == trained + sum(fit.level_codes.values()) * fit.code_size
    images = torch.randn(2, 3, SIZE["height"], SIZE["width"])
    with FlopCounterMode(display=False) as counter:
        features = model.encode_bottom(images)
        top = model.top_vectors(features)
        codes_top = model.top.nearest(top.detach())
        straight = (top + (model.top(codes_top) - top).detach()).permute(0, 3, 1, 2)
        bottom = model.bottom_vectors(features, straight)
        codes_bottom = model.bottom.nearest(bottom.detach())
        straight_bottom = (bottom + (model.bottom(codes_bottom) - bottom).detach()).permute(0, 3, 1, 2)
        forward = model.decode(straight, straight_bottom)
        counted_forward = counter.get_total_flops()
        (functional.mse_loss(forward, images) + top.square().mean() + bottom.square().mean()).backward()
    assert cost.forward == pytest.approx(counted_forward / 2 / len(images), rel=0.01)
    assert cost.step == pytest.approx(counter.get_total_flops() / 2 / len(images), rel=0.01)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.decode_codes(codes_top, codes_bottom)
    assert cost.sampling == pytest.approx(counter.get_total_flops() / 2 / len(images), rel=0.01)


@pytest.mark.parametrize("level", [TOP, BOTTOM])
@pytest.mark.parametrize(
    "changes",
    [{}, {"embedding": 0}, {"second_causal": True}, {"see_centre": False}],
    ids=["default", "one-hot", "second", "blind"],
)
@pytest.mark.parametrize("recomputed", [False, True])
def test_a_prior_costs_what_is_counted(level: str, changes: dict[str, Any], recomputed: bool) -> None:
    fit = config(checkpointing=recomputed)
    name = f"{level}_prior"
    fit = dataclasses.replace(fit, **{name: dataclasses.replace(getattr(fit, name), **changes)})  # type: ignore[arg-type]
    cost = network_costs(fit, **SIZE)[level]
    model = prior(fit, level).train()
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    codes, labels, above = inputs(model, 2)
    # Only the plain backend's products are counted on every device; the fused ones do the same arithmetic.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = functional.cross_entropy(model(codes, labels, above), codes)
        counted_forward = counter.get_total_flops()
        loss.backward()  # type: ignore[no-untyped-call]
    assert cost.forward == pytest.approx(counted_forward / 2 / len(codes), rel=0.01)
    assert cost.step == pytest.approx(counter.get_total_flops() / 2 / len(codes), rel=0.01)


def count_addmm_in_place(to: Any, left: Any, right: Any, **_: Any) -> int:
    return int(2 * left[0] * left[1] * right[1])


# torch's counter knows addmm, but not its form in place
IN_PLACE = {torch.ops.aten.addmm_: count_addmm_in_place}


@pytest.mark.parametrize("level", [TOP, BOTTOM])
@pytest.mark.parametrize(
    "changes", [{}, {"second_causal": True}, {"see_centre": False}], ids=["default", "second", "blind"]
)
def test_cached_sampling_costs_what_is_counted(level: str, changes: dict[str, Any]) -> None:
    fit = config()
    name = f"{level}_prior"
    fit = dataclasses.replace(fit, **{name: dataclasses.replace(getattr(fit, name), **changes)})
    cost = network_costs(fit, **SIZE)[level]
    model = prior(fit, level)
    codes, labels, above = inputs(model, 3)
    sampler = CachedSampler(model, len(codes))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        sampler.run(labels, above, lambda logits, row, column: codes[:, row, column])
    assert cost.sampling == pytest.approx(counter.get_total_flops() / 2 / len(codes), rel=0.01)
    assert cost.sampling < cost.forward  # no masked taps, half of the attention


def test_a_fit_is_its_steps_and_a_day_is_the_gpu_at_its_share() -> None:
    fit = config(top=StageConfig(num_steps=7, batch_size=8))
    costs = network_costs(fit, **SIZE)
    by_hand = 2 * (costs["autoencoder"].step * 20 + costs["top"].step * 56 + costs["bottom"].step * 20)
    assert fit_flops(costs, stages_of(fit)) == by_hand
    assert gpu_days(312e12 * 86400, 1.0) == 1.0
    assert gpu_days(312e12 * 86400, 0.25) == 4.0
