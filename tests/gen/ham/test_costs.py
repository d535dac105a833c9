"""The cost model counts what torch's own counter counts, and parameters exactly."""

from typing import Any

import pytest
import tiny_ham as tiny
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from caskit.gen.autoregressive.sampler import CachedSampler
from caskit.gen.ham.abstraction import AbstractionPass
from caskit.gen.ham.costs import network_costs, stages_of
from caskit.gen.ham.weights import build_networks
from caskit.train.engine import ALONE

SIZE = {"height": 16, "width": 8, "channels": 3, "num_classes": 3}
SHAPE = (16, 8, 3)


def config(**changes: Any) -> Any:
    return tiny.tiny_config(levels=(tiny.tiny_level(**changes), tiny.tiny_level(upsamplings=0, **changes)))


def count_addmm_in_place(to: Any, left: Any, right: Any, **_: Any) -> int:
    return int(2 * left[0] * left[1] * right[1])


# torch's counter knows addmm, but not its form in place
IN_PLACE = {torch.ops.aten.addmm_: count_addmm_in_place}


@pytest.mark.parametrize("auxiliary", ["feedforward", "msp"])
def test_a_level_costs_what_is_counted(auxiliary: str) -> None:
    fit = config(auxiliary=auxiliary)
    costs = network_costs(fit, **SIZE)
    networks = build_networks(fit, shape=SHAPE, num_classes=3)
    num = 4
    for name, level, x in (
        ("level1", networks.levels[0], torch.randn(num, 3, 16, 8)),
        ("level2", networks.levels[1], torch.randint(16, (num, 8, 4))),
    ):
        cost = costs[name]
        assert cost.parameters == sum(p.numel() for p in level.parameters()) + level.codebook.weight.numel()
        training = AbstractionPass(level, "float32", ALONE)
        with FlopCounterMode(display=False) as counter:
            loss, _ = training(x, False)
            forward = counter.get_total_flops()
            loss.backward()
        assert cost.forward == pytest.approx(forward / 2 / num, rel=0.01), name
        assert cost.step == pytest.approx(counter.get_total_flops() / 2 / num, rel=0.01), name


def test_decoders_cost_what_is_counted_fitted_and_sampled() -> None:
    fit = config()
    costs = network_costs(fit, **SIZE)
    networks = build_networks(fit, shape=SHAPE, num_classes=3)
    labels = torch.arange(2)
    for name, model, side in (("decoder1", networks.decoders[0], (8, 4)), ("decoder2", networks.decoders[1], (4, 2))):
        codes = torch.randint(model.num_codes, (2, model.height, model.width))
        above = torch.randint(16, (2, *side))
        cost = costs[name]
        assert cost.parameters == sum(p.numel() for p in model.parameters())
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            loss = functional.cross_entropy(model.train()(codes, labels, above), codes)
            forward = counter.get_total_flops()
            loss.backward()  # type: ignore[no-untyped-call]
        assert cost.forward == pytest.approx(forward / 2 / 2, rel=0.01), name
        assert cost.step == pytest.approx(counter.get_total_flops() / 2 / 2, rel=0.01), name
        sampler = CachedSampler(model, 2)
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            sampler.run(labels, above, lambda logits, row, column: codes[:, row, column])  # noqa: B023
        assert cost.sampling == pytest.approx(counter.get_total_flops() / 2 / 2, rel=0.01), name


def test_stages_have_the_names_of_the_networks() -> None:
    fit = tiny.tiny_config()
    assert (
        list(stages_of(fit))
        == list(network_costs(fit, **SIZE))
        == ["level1", "decoder1", "level2", "decoder2", "prior"]
    )
    assert stages_of(fit)["decoder2"] == fit.levels[1].decoding
