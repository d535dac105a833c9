import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caskit.train.classifier import build_model
from caskit.train.lars import Lars
from caskit.train.optimizers import build_optimizer, split_parameters
from caskit.train.presets import cas_resnet50, cas_resnet50_tpu128
from caskit.train.recipes import Recipe


def tiny(**changes: Any) -> Recipe:
    base = Recipe(
        name="tiny",
        widths=(4, 6),
        num_poolings=1,
        resolution=8,
        num_steps=10,
        batch_size=8,
        bn_batch=8,
        learning_rate=0.1,
        optimizer="momentum",
        momentum=0.0,
        weight_decay=0.0,
    )
    return dataclasses.replace(base, **changes)


def test_norms_and_biases_are_not_decayed() -> None:
    recipe = tiny(weight_decay=0.1)
    model = build_model(recipe, 3, 1)
    decayed = {
        id(parameter)
        for group in build_optimizer(recipe, model).param_groups
        for parameter in group["params"]
        if group["weight_decay"] > 0
    }
    assert {name for name, p in model.named_parameters() if id(p) in decayed} == {
        "0.conv.weight",
        "1.conv.weight",
        "4.weight",
    }


def by_group(recipe: Recipe) -> tuple[dict[str, dict[str, Any]], nn.Module]:
    model = build_model(recipe, 1000, 3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(recipe, model).param_groups
    return {names[id(p)]: group for group in groups for p in group["params"]}, model


def test_the_paper_decays_everything_but_batch_norms() -> None:
    """resnet_main.py: l2_loss of all variables without `batch_normalization` in their name, so of the last bias too."""
    recipe = cas_resnet50()
    groups, model = by_group(recipe)
    norms = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }
    assert len(groups) == 161 and len(norms) == 106
    assert {name for name, group in groups.items() if group["weight_decay"] == 0} == norms
    assert {group["weight_decay"] for group in groups.values()} == {0.0, 1e-4}
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in groups.values())


def test_lars_leaves_biases_and_batch_norms_alone() -> None:
    """lars_util.py: skip_list=['batch_normalization', 'bias'] for both decay and trust ratio."""
    groups, _ = by_group(cas_resnet50_tpu128())
    skipped = {name for name, group in groups.items() if not group["adapt"]}
    assert skipped == {name for name, group in groups.items() if group["weight_decay"] == 0}
    assert len(skipped) == 107 and "fc.bias" in skipped and "fc.weight" not in skipped
    assert all((g["momentum"], g["coefficient"], g["lr"]) == (0.9, 0.001, 25.0) for g in groups.values())


def test_all_is_all() -> None:
    model = build_model(tiny(), 3, 1)
    chosen, others = split_parameters(model, "all")
    assert len(chosen) == len(list(model.parameters())) and not others


def lars_by_hand(weight: Tensor, gradients: list[Tensor], rates: list[float], decay: float, adapt: bool) -> Tensor:
    """tf.contrib.opt.LARSOptimizer: the rate of a step, with its trust ratio, times the momentum of all steps."""
    weight, momentum = weight.double(), torch.zeros(weight.shape, dtype=torch.float64)
    for gradient, rate in zip((g.double() for g in gradients), rates, strict=True):
        scaled = rate
        if adapt:
            size, slope = weight.norm(), gradient.norm()
            trust = 0.001 * size / (slope + decay * size) if size > 0 and slope > 0 else 1.0
            scaled = rate * float(trust)
        momentum = 0.9 * momentum + gradient + decay * weight
        weight = weight - scaled * momentum
    return weight


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_lars_is_tensorflows(adapt: bool, start: str) -> None:
    torch.manual_seed(0)
    first = torch.randn(5, 4) if start == "random" else torch.zeros(5, 4)
    gradients, rates = [torch.randn(5, 4) for _ in range(4)], [3.0, 5.0, 4.0, 0.5]
    gradients[2].zero_()
    weight, decay = nn.Parameter(first.clone()), 0.01 if adapt else 0.0
    optimizer = Lars([{"params": [weight], "weight_decay": decay, "adapt": adapt}], lr=1.0, momentum=0.9)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = gradient
        optimizer.step()
    expected = lars_by_hand(first, gradients, rates, decay, adapt)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_a_state_of_lars_comes_back() -> None:
    def make() -> tuple[nn.Parameter, Lars]:
        weight = nn.Parameter(torch.ones(3))
        return weight, Lars([{"params": [weight], "weight_decay": 0.1, "adapt": True}], lr=1.0, momentum=0.9)

    (weight, whole), (other, resumed) = make(), make()
    for optimizer, parameter in ((whole, weight), (resumed, other)):
        parameter.grad = torch.tensor([1.0, -2.0, 0.5])
        optimizer.step()
    fresh = make()[1]
    fresh.load_state_dict(whole.state_dict())
    state = fresh.state[fresh.param_groups[0]["params"][0]]
    assert torch.equal(state["momentum_buffer"], whole.state[weight]["momentum_buffer"])


def test_lamb_is_timms() -> None:
    optimizer = build_optimizer(dataclasses.replace(tiny(), optimizer="lamb"), build_model(tiny(), 3, 1))
    assert type(optimizer).__module__.startswith("timm.")


@pytest.mark.parametrize(("optimizer", "decayed"), [("nesterov", "weights"), ("momentum", "all-but-norms")])
def test_all_tensors_at_once_are_the_same_bits_as_one_by_one(optimizer: str, decayed: str) -> None:
    recipe = tiny(optimizer=optimizer, decayed=decayed, momentum=0.9, weight_decay=1e-2)
    ended = []
    for at_once in (True, False):
        torch.manual_seed(0)
        model = build_model(recipe, 3, 1)
        stepping = build_optimizer(recipe, model)
        assert all(group["foreach"] is True for group in stepping.param_groups)
        for group in stepping.param_groups:
            group["foreach"] = at_once
        for _ in range(4):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            stepping.step()
        ended.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))
