"""A map drawn position by position is the map that one pass over the whole of it explains."""

import math
from collections.abc import Callable

import pytest
import torch

from caskit.gen.autoregressive import sampler as sampler_module
from caskit.gen.autoregressive.draws import DrawRule
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.sampler import CachedSampler, score_maps

RULE = DrawRule()
TOLERANCE = 1e-4  # of logits
EDGE = 1e-5  # of the CDF: how near to an edge a uniform has to lie for rounding to matter
VARIANTS = [
    "plain",
    "attention",
    "condition",
    "condition-columns",
    "condition-doubled",
    "condition-doubled-columns",
    "condition-attention",
    "centre-unseen",
    "centre-unseen-attention",
    "two-rows",
    "four-rows",
    "one-column",
    "wide-first",
    "second-causal",
    "second-causal-condition",
    "elu",
    "one-hot",
    "all",
]

MakePrior = Callable[..., PixelSnail]
MakeInputs = Callable[..., tuple]


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_logits_are_those_of_a_full_pass(variant: str, make_prior: MakePrior, make_inputs: MakeInputs) -> None:
    model = make_prior(variant)
    cached = CachedSampler(model, 5)
    for seed in (1, 2):  # the second finds the buffers of the first
        codes, labels, _, above = make_inputs(model, 5, seed)
        steps: list[torch.Tensor] = []

        def force(logits: torch.Tensor, row: int, column: int) -> torch.Tensor:
            steps.append(logits.clone())  # noqa: B023
            return codes[:, row, column]  # noqa: B023

        assert torch.equal(cached.run(labels, above, force), codes)
        found = torch.stack(steps, dim=2).unflatten(2, (model.height, model.width))
        full = model(codes, labels, above)
        assert float(full.std()) > 0.2
        torch.testing.assert_close(found, full, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", ["attention", "condition", "all"])
def test_a_sampler_draws_the_same_maps_whatever_it_drew_before(
    variant: str, make_prior: MakePrior, make_inputs: MakeInputs
) -> None:
    model = make_prior(variant)
    _, labels, uniforms, above = make_inputs(model, 4)
    reused = CachedSampler(model, 4)
    first, finite = reused.sample(labels, uniforms, RULE, above)
    assert finite.all()
    _, other_labels, other_uniforms, other_above = make_inputs(model, 4, 2)
    other, _ = reused.sample(other_labels, other_uniforms, RULE, other_above)
    assert not torch.equal(other, first)
    for sampler in (reused, CachedSampler(model, 4)):
        assert torch.equal(sampler.sample(labels, uniforms, RULE, above)[0], first)


@pytest.mark.parametrize("variant", ["attention", "condition", "condition-doubled-columns", "all"])
def test_a_map_does_not_depend_on_its_batch(variant: str, make_prior: MakePrior, make_inputs: MakeInputs) -> None:
    model = make_prior(variant)
    _, labels, uniforms, above = make_inputs(model, 6)
    together, _ = CachedSampler(model, 6).sample(labels, uniforms, RULE, above)
    part = [4, 1]
    apart, _ = CachedSampler(model, 2).sample(
        labels[part], uniforms[part], RULE, None if above is None else above[part]
    )
    for codes, expected, index in zip(apart, together[part], part, strict=True):
        differing = (codes != expected).flatten().nonzero()
        if len(differing):  # then by a uniform on an edge, and all that follows is another map
            first = int(differing[0])
            outside = score_maps(
                model,
                codes[None],
                labels[[index]],
                uniforms[[index]],
                RULE,
                None if above is None else above[[index]],
            )
            assert outside.flatten()[: first + 1].max() < EDGE


@pytest.mark.parametrize("rule", [RULE, DrawRule(temperature=0.7, top_p=0.8)])
@pytest.mark.parametrize("variant", ["attention", "condition"])
def test_one_pass_explains_an_honest_map(
    variant: str, rule: DrawRule, make_prior: MakePrior, make_inputs: MakeInputs
) -> None:
    model = make_prior(variant)
    _, labels, uniforms, above = make_inputs(model, 16)
    codes, _ = CachedSampler(model, 16).sample(labels, uniforms, rule, above)
    assert score_maps(model, codes, labels, uniforms, rule, above).max() < EDGE
    assert score_maps(model, codes, labels, uniforms, DrawRule(temperature=1.5), above).max() > EDGE


def test_one_pass_finds_what_was_changed(
    make_prior: MakePrior, make_inputs: MakeInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_prior("condition-attention")
    _, labels, uniforms, above = make_inputs(model, 5)
    codes, _ = CachedSampler(model, 5).sample(labels, uniforms, RULE, above)
    honest = score_maps(model, codes, labels, uniforms, RULE, above)

    changed = codes.clone()
    changed[3, 1, 2] = (changed[3, 1, 2] + 4) % model.num_codes
    scores = score_maps(model, changed, labels, uniforms, RULE, above)
    assert scores[3, 1, 2] > EDGE
    assert scores[3].flatten()[: model.width + 2].max() < EDGE, "what was drawn before it still fits"
    assert torch.equal(scores[[0, 1, 2, 4]], honest[[0, 1, 2, 4]])

    other_uniforms = uniforms.clone()
    other_uniforms[1, 2, 3] = (other_uniforms[1, 2, 3] + 0.5) % 1
    scores = score_maps(model, codes, labels, other_uniforms, RULE, above)
    assert (scores > EDGE).nonzero().tolist() == [[1, 2, 3]]

    other_labels = labels.clone()
    other_labels[2] = (other_labels[2] + 1) % model.num_classes
    scores = score_maps(model, codes, other_labels, uniforms, RULE, above)
    assert set((scores > EDGE).nonzero()[:, 0].tolist()) == {2}

    other_above = above.clone()
    other_above[0, 1, 1] = (other_above[0, 1, 1] + 1) % model.num_codes
    scores = score_maps(model, codes, labels, uniforms, RULE, other_above)
    assert set((scores > EDGE).nonzero()[:, 0].tolist()) == {0}

    for unknown in (-1, model.num_codes):
        changed = codes.clone()
        changed[4, 3, 5] = unknown
        scores = score_maps(model, changed, labels, uniforms, RULE, above)
        assert scores[4, 3, 5] == math.inf and scores.isinf().sum() == 1

    monkeypatch.setattr(sampler_module, "CHECK_BATCH", 2)
    torch.testing.assert_close(score_maps(model, codes, labels, uniforms, RULE, above), honest, atol=EDGE, rtol=0)


def test_first_codes_come_as_often_as_they_are_probable(make_prior: MakePrior) -> None:
    model, num = make_prior("attention"), 500
    labels = torch.full((num,), 1)
    uniforms = torch.full((num, model.height, model.width), 0.5, dtype=torch.float64)
    uniforms[:, 0, 0] = (torch.arange(num) + 0.5) / num
    codes, _ = CachedSampler(model, num).sample(labels, uniforms, RULE)
    with torch.no_grad():
        logits = model(codes[:1], labels[:1])[0, :, 0, 0]
    counts = torch.bincount(codes[:, 0, 0], minlength=model.num_codes)
    assert ((counts - num * logits.softmax(0)).abs() < 1.01).all()


@pytest.mark.parametrize("rule", [DrawRule(top_p=1e-6), DrawRule(temperature=1e-3)])
def test_the_limits_of_top_p_and_temperature_take_the_likeliest_code(
    rule: DrawRule, make_prior: MakePrior, make_inputs: MakeInputs
) -> None:
    model = make_prior("attention")
    _, labels, uniforms, above = make_inputs(model, 3)
    codes, _ = CachedSampler(model, 3).sample(labels, uniforms, rule, above)
    with torch.no_grad():
        logits = model(codes, labels, above)
    chosen = logits.gather(1, codes[:, None])[:, 0]
    assert float((logits.amax(dim=1) - chosen).max()) < 0.05  # of codes so close both may come


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_is_reported_for_its_map_and_no_other(
    wrong: float, make_prior: MakePrior, make_inputs: MakeInputs
) -> None:
    model = make_prior("attention")
    _, _, uniforms, _ = make_inputs(model, 4)
    sound = torch.tensor([0, 1, 1, 2])
    expected, _ = CachedSampler(model, 4).sample(sound, uniforms, RULE)
    with torch.no_grad():
        model.blocks[-1].layers[-1].class_vectors.weight[0] = math.nan  # type: ignore[index, union-attr]
    broken = CachedSampler(model, 4)
    codes, finite = broken.sample(sound, uniforms, RULE)
    assert finite.tolist() == [False, True, True, True]
    assert torch.equal(codes[1:], expected[1:])
    assert ((codes >= 0) & (codes < model.num_codes)).all()
    others = torch.tensor([1, 1, 1, 2])
    again, finite = broken.sample(others, uniforms, RULE)
    assert finite.all(), "nothing of the broken map is left in the buffers"
    assert torch.equal(again[1:], expected[1:])

    with torch.no_grad():
        model.logits.bias[3] = wrong  # type: ignore[index]
    _, finite = CachedSampler(model, 4).sample(others, uniforms, RULE)
    assert not finite.any()
