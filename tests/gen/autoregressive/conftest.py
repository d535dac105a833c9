"""Small priors of every kind of layer, with weights large enough that every path through them shows."""

from collections.abc import Callable

import pytest
import torch

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.pixelsnail import PixelSnail

HEIGHT, WIDTH = 4, 6
NUM_CODES, NUM_CLASSES = 9, 3

SMALL = {"hidden": 8, "residual": 12, "blocks": 2, "layers": 2, "embedding": 6}
CONDITION = {"condition_layers": 2, "condition_hidden": 8, "condition_residual": 6}
VARIANTS: dict[str, dict] = {
    "plain": SMALL,
    "attention": {**SMALL, "heads": 2, "head_size": 4, "out_layers": 1},
    "condition": {**SMALL, **CONDITION},
    "condition-columns": {**SMALL, **CONDITION},
    "condition-doubled": {**SMALL, **CONDITION},
    "condition-doubled-columns": {**SMALL, **CONDITION, "second_causal": True, "heads": 2, "head_size": 4},
    "condition-attention": {**SMALL, **CONDITION, "heads": 2, "head_size": 4, "out_layers": 2},
    "centre-unseen": {**SMALL, "see_centre": False},
    "centre-unseen-attention": {**SMALL, "see_centre": False, "heads": 2, "head_size": 4},
    "two-rows": {**SMALL, "rows_above": 2, "columns": 5},
    "four-rows": {**SMALL, "rows_above": 4},
    "one-column": {**SMALL, "columns": 1},
    "wide-first": {**SMALL, "first_rows_above": 2, "first_columns": 11},
    "class-positions": {**SMALL, "class_positions": True},
    "second-causal": {**SMALL, "second_causal": True},
    "second-causal-condition": {**SMALL, **CONDITION, "second_causal": True, "rows_above": 2},
    "elu": {**SMALL, "activation": "elu", "add_to_activated": True, "heads": 2, "head_size": 4},
    "one-hot": {**SMALL, "embedding": 0},
    "all": {
        **SMALL,
        **CONDITION,
        "rows_above": 2,
        "columns": 5,
        "see_centre": False,
        "second_causal": True,
        "activation": "elu",
        "add_to_activated": True,
        "class_positions": True,
        "embedding": 0,
        "heads": 2,
        "head_size": 4,
        "out_layers": 1,
    },
}

# The map above and the learned doublings of the condition, where they are not a half of the sides and none.
ABOVE: dict[str, tuple[int, int]] = {
    "condition-columns": (2, 2),  # 2 rows and 3 columns for each place, as for pixels in colour
    "condition-doubled": (2, 3),
    "condition-doubled-columns": (1, 1),
}
UPSAMPLINGS = {"condition-doubled": 1, "condition-doubled-columns": 1}


def perturb(model: torch.nn.Module) -> None:
    """Move all weights: class vectors and positions begin at zero, gated layers close to the identity."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)


@pytest.fixture
def make_prior() -> Callable[..., PixelSnail]:
    def make(
        variant: str = "attention", *, num_classes: int = NUM_CLASSES, num_variants: int = 1, **changes: object
    ) -> PixelSnail:
        torch.manual_seed(0)
        config = PriorConfig(**{**VARIANTS[variant], **changes})
        model = PixelSnail(
            config,
            height=HEIGHT,
            width=WIDTH,
            num_codes=NUM_CODES,
            num_classes=num_classes,
            num_variants=num_variants,
            condition_codes=NUM_CODES if config.condition_layers else 0,
            condition_upsamplings=UPSAMPLINGS.get(variant, 0),
        )
        model.above_shape = ABOVE.get(variant, (HEIGHT // 2, WIDTH // 2))
        perturb(model)
        return model.eval()

    return make


@pytest.fixture
def make_inputs() -> Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Return codes, labels, uniforms and the map above (None for a prior without a condition) for `num` maps."""

    def make(
        model: PixelSnail, num: int, seed: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randint(NUM_CODES, (num, HEIGHT, WIDTH), generator=generator)
        labels = torch.randint(NUM_CLASSES, (num,), generator=generator)
        uniforms = torch.rand(num, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
        above = torch.randint(NUM_CODES, (num, *model.above_shape), generator=generator)
        return codes, labels, uniforms, above if model.condition is not None else None

    return make
