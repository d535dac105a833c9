"""A prior is a product over positions in raster order: no logit knows its own code or a later one."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from caskit.gen.autoregressive.pixelsnail import PixelSnail

NUM_CODES = 9
NOISE, EFFECT = 1e-5, 1e-4  # of float32 sums in other batches; of one code
VARIANTS = [
    "plain",
    "attention",
    "condition",
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


def changes_by_code(model: PixelSnail, inputs: tuple) -> torch.Tensor:
    """Change each code of one map in turn; return how far each logit moves, [changed position, position]."""
    codes, labels, _, above = inputs
    positions = model.height * model.width
    maps = codes[:1].repeat(positions + 1, 1, 1)
    changed = maps.flatten(1)
    diagonal = torch.arange(positions)
    changed[diagonal, diagonal] = (changed[diagonal, diagonal] + 1) % NUM_CODES
    with torch.no_grad():
        logits = model(
            maps, labels[:1].expand(len(maps)), None if above is None else above[:1].expand(len(maps), -1, -1)
        )
    logits = logits.flatten(2)
    return (logits[:-1] - logits[-1:]).abs().amax(dim=1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_code_changes_later_logits_and_no_other(
    variant: str, make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]
) -> None:
    model = make_prior(variant)
    moved = changes_by_code(model, make_inputs(model, 1))
    later = torch.ones_like(moved, dtype=torch.bool).triu(1)
    assert float(moved[~later].max()) < NOISE
    reaches = moved.where(later, 0).amax(dim=1) > EFFECT
    # A reach of one column is straight down, so codes of the last row are read by nothing.
    last = model.width if variant == "one-column" else 1
    assert reaches[:-last].all() and not reaches[-1]
    if model.config.heads:
        assert (moved[0, 1:] > NOISE).all(), "attention brings the first code to every position"


def test_only_a_wide_first_convolution_sees_the_codes_right_of_it_in_the_row_above(
    make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]
) -> None:
    for variant, sees in (("plain", False), ("wide-first", True)):
        model = make_prior(variant)
        moved = changes_by_code(model, make_inputs(model, 1)).unflatten(0, (model.height, model.width))
        moved = moved.unflatten(2, (model.height, model.width))
        far = [moved[row, column + 3, row + 1, column] for row in range(3) for column in range(model.width - 3)]
        assert (min(far) > EFFECT) if sees else (max(far) < NOISE)


def test_the_next_position_sees_the_code_before_it(
    make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]
) -> None:
    model = make_prior("plain")
    moved = changes_by_code(model, make_inputs(model, 1))
    neighbours = moved.diagonal(1)
    in_one_row = (torch.arange(len(neighbours)) + 1) % model.width != 0
    assert (neighbours[in_one_row] > EFFECT).all()


@pytest.mark.parametrize("variant", ["condition", "condition-attention", "second-causal-condition", "all"])
def test_the_first_and_the_last_position_see_every_code_of_the_map_above(
    variant: str, make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]
) -> None:
    model = make_prior(variant)
    codes, labels, _, above = make_inputs(model, 1)
    num = above[0].numel()
    maps = above.repeat(num + 1, 1, 1)
    flat = maps.flatten(1)
    flat[torch.arange(num), torch.arange(num)] = (flat[torch.arange(num), torch.arange(num)] + 1) % NUM_CODES
    with torch.no_grad():
        logits = model(codes.repeat(num + 1, 1, 1), labels.expand(num + 1), maps).flatten(2)
    moved = (logits[:-1] - logits[-1:]).abs().amax(dim=1)  # [code of the map above, position]
    assert (moved[:, 0] > NOISE).all()
    assert (moved[:, -1] > NOISE).all()


@pytest.mark.parametrize("variant", ["plain", "attention", "condition", "all"])
def test_the_class_matters_at_every_position(
    variant: str, make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]
) -> None:
    model = make_prior(variant)
    codes, _, _, above = make_inputs(model, 1)
    with torch.no_grad():
        one, other = (model(codes, torch.tensor([label]), above) for label in (0, 2))
    assert ((one - other).abs().amax(dim=1) > EFFECT).all()


def test_a_prior_without_classes_takes_no_labels(
    make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]
) -> None:
    model = make_prior("attention", num_classes=0)
    codes, _, _, above = make_inputs(model, 2)
    assert model(codes, None, above).shape == (2, NUM_CODES, model.height, model.width)


def test_images_of_a_batch_do_not_mix(make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]) -> None:
    model = make_prior("condition-attention")
    codes, labels, _, above = make_inputs(model, 5)
    with torch.no_grad():
        together = model(codes, labels, above)
        alone = torch.cat([model(codes[n : n + 1], labels[n : n + 1], above[n : n + 1]) for n in range(5)])
    torch.testing.assert_close(together, alone, atol=NOISE, rtol=0)


@pytest.mark.parametrize("variant", ["condition-attention", "all"])
def test_checkpointing_gives_the_same_gradients(
    variant: str, make_prior: Callable[..., PixelSnail], make_inputs: Callable[..., tuple]
) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make_prior(variant, dropout=0.3).train()
        model.checkpointing = checkpointing
        codes, labels, _, above = make_inputs(model, 3)
        torch.manual_seed(5)  # of dropout
        functional.cross_entropy(model(codes, labels, above), codes).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.any(), f"{name} is not trained"
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
