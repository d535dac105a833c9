"""A code is where the CDF of its distribution passes the uniform, and the check of a draw uses the same products."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caskit.gen.autoregressive.draws import DrawRule, choose, excess

ALMOST_ONE = 1 - 2.0**-53
logits_lists = st.lists(st.floats(-30, 30) | st.just(-1e5), min_size=1, max_size=12)
uniform_values = st.integers(0, 2**53 - 1).map(lambda word: word * 2.0**-53)


def reference_masses(logits: list[float], temperature: float, top_p: float) -> list[float]:
    """Masses before normalisation, by the definition."""
    highest = max(logits)
    masses = [math.exp((logit - highest) / temperature) for logit in logits]
    kept, reached = set(), 0.0
    for code in sorted(range(len(masses)), key=lambda code: (-masses[code], code)):
        if top_p < 1 and reached >= top_p * math.fsum(masses):
            break
        kept.add(code)
        reached += masses[code]
    return [mass if code in kept else 0.0 for code, mass in enumerate(masses)]


def reference_edges(masses: list[float]) -> list[Fraction]:
    """The exact CDF after every code, [0, ...]."""
    edges = [Fraction(0)]
    for mass in masses:
        edges.append(edges[-1] + Fraction(mass))
    return [edge / edges[-1] for edge in edges]


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def cumulative_of(logits: list[float], rule: DrawRule | None = None) -> Tensor:
    return (rule or DrawRule()).cumulative(torch.tensor(logits, dtype=torch.float64))


@settings(max_examples=200, deadline=None)
@given(logits_lists, uniform_values, st.sampled_from([1.0, 0.5, 3.0]))
def test_a_code_is_the_interval_that_the_uniform_falls_into(
    logits: list[float], uniform: float, temperature: float
) -> None:
    masses = reference_masses(logits, temperature, 1.0)
    edges = reference_edges(masses)
    code = int(choose(cumulative_of(logits, DrawRule(temperature=temperature)), double(uniform)))
    assert masses[code] > 0
    slack = Fraction(1, 10**12)  # of float64 sums
    assert edges[code] - slack <= Fraction(uniform) < edges[code + 1] + slack


@settings(max_examples=200, deadline=None)
@given(logits_lists, uniform_values, st.sampled_from([1.0, 0.9, 0.4]))
def test_a_code_fits_its_own_uniform_exactly_and_another_code_by_its_distance(
    logits: list[float], uniform: float, top_p: float
) -> None:
    cumulative = cumulative_of(logits, DrawRule(top_p=top_p))
    edges = [0.0, *cumulative.tolist()]
    target, mass = uniform * edges[-1], edges[-1]
    chosen = int(choose(cumulative, double(uniform)))
    for code in range(len(logits)):
        distance = float(excess(cumulative, double(uniform), torch.tensor(code)))
        low, high = edges[code], edges[code + 1]
        if code == chosen:
            assert distance == 0
        elif high == low:
            assert distance == math.inf
        else:
            assert distance == max(low - target, target - high) / mass
            # The interval is closed for the check: a uniform right on an edge fits both its codes.
            assert distance > 0 or target == high


def test_codes_of_known_intervals() -> None:
    cumulative = torch.tensor([0.0, 0.25, 0.25, 1.0, 1.0], dtype=torch.float64)
    uniforms = torch.tensor([0.0, 0.2, 0.25, 0.5, ALMOST_ONE], dtype=torch.float64)
    assert choose(cumulative.expand(5, 5), uniforms).tolist() == [1, 1, 3, 3, 3]
    assert excess(cumulative, double(0.5), torch.tensor(1)) == 0.25
    assert excess(cumulative, double(0.125), torch.tensor(3)) == 0.125
    for empty in (0, 2, 4):
        assert excess(cumulative, double(0.25), torch.tensor(empty)) == math.inf


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 40), min_size=1, max_size=300))
def test_the_largest_uniform_falls_on_a_code_with_mass(logits: list[float]) -> None:
    logits = [*logits, -1e9]
    cumulative = cumulative_of(logits)
    uniform = torch.tensor(ALMOST_ONE, dtype=torch.float64)
    assert uniform * cumulative[-1] < cumulative[-1], "the product does not round up to the mass"
    assert int(choose(cumulative, uniform)) < len(logits) - 1
    assert excess(cumulative, uniform, choose(cumulative, uniform)) == 0


def test_a_uniform_of_zero_falls_on_the_first_code_with_mass() -> None:
    assert int(choose(cumulative_of([-1e9, -1e9, 0.0, 5.0]), torch.zeros((), dtype=torch.float64))) == 2


def test_top_p_keeps_the_most_probable_codes_and_of_equals_the_lower() -> None:
    tie = cumulative_of([0.0, 0.0, 0.0, 0.0], DrawRule(top_p=0.5))
    assert tie.tolist() == [1, 2, 2, 2]
    kept = cumulative_of([math.log(1 / 8), math.log(1 / 2), math.log(3 / 8)], DrawRule(top_p=0.6))
    assert kept.tolist() == pytest.approx([0, 1, 1.75])
    single = cumulative_of([0.0, 2.0, 1.0], DrawRule(top_p=1e-6))
    assert single.tolist() == [0, 1, 1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.sampled_from([0.1, 0.37, 0.62, 0.9]))
def test_top_p_is_what_its_definition_says(logits: list[float], top_p: float) -> None:
    found = cumulative_of(logits, DrawRule(top_p=top_p)).diff(prepend=torch.zeros(1, dtype=torch.float64))
    assert found.tolist() == pytest.approx(reference_masses(logits, 1.0, top_p), abs=1e-12)


def test_a_temperature_divides_the_logits() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 7)
    for temperature in (0.3, 1.0, 4.0):
        divided = DrawRule().cumulative(logits.double() / temperature)
        assert torch.equal(DrawRule(temperature=temperature).cumulative(logits), divided)


def test_logits_are_left_as_they_are() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64)
    before = logits.clone()
    DrawRule(top_p=0.5).cumulative(logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_broken_distribution_gives_some_code_and_fits_none(wrong: float) -> None:
    cumulative = cumulative_of([0.0, wrong, 1.0])
    uniform = double(0.5)
    assert 0 <= int(choose(cumulative, uniform)) < 3
    for code in range(3):
        assert excess(cumulative, uniform, torch.tensor(code)) == math.inf


def test_any_leading_dimensions_and_strides_are_allowed() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5)  # [N, K, H, W], as a network gives them
    uniforms = torch.rand(2, 4, 5, dtype=torch.float64)
    cumulative = DrawRule().cumulative(logits.permute(0, 2, 3, 1))
    codes = choose(cumulative, uniforms)
    assert codes.shape == (2, 4, 5)
    for index in [(0, 0, 0), (1, 3, 4), (0, 2, 1)]:
        single = DrawRule().cumulative(logits[index[0], :, index[1], index[2]].contiguous())
        assert int(codes[index]) == int(choose(single, uniforms[index]))
    assert not excess(cumulative, uniforms, codes).any()
