"""Layers one position at a time give what they give for a whole map."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from caskit.gen.autoregressive.cached import CachedAttention, CachedConv, CachedLayer
from caskit.gen.autoregressive.layers import CausalAttention, CausalConv, GatedLayer, pointwise

NUM, HEIGHT, WIDTH = 3, 5, 4


def by_position(step: Callable[[int, int], torch.Tensor], end_row: Callable[[], None]) -> torch.Tensor:
    """Outputs [N, C] of `step(row, column)` as a map [N, C, H, W]."""
    rows = []
    for row in range(HEIGHT):
        rows.append(torch.stack([step(row, column).clone() for column in range(WIDTH)], dim=2))
        end_row()
    return torch.stack(rows, dim=2)


@torch.no_grad()
@pytest.mark.parametrize("see_centre", [False, True])
@pytest.mark.parametrize(("rows_above", "columns"), [(0, 3), (1, 1), (1, 3), (2, 5), (4, 3), (4, 7)])
def test_a_convolution(rows_above: int, columns: int, see_centre: bool) -> None:
    torch.manual_seed(0)
    conv = CausalConv(6, 7, rows_above=rows_above, columns=columns, see_centre=see_centre)
    nn.init.normal_(conv.bias)
    cached = CachedConv(conv, num=NUM, width=WIDTH)

    def step(row: int, column: int) -> torch.Tensor:
        if see_centre:
            cached.store(column, x[:, :, row, column])
            return cached.read(column)
        out = cached.read(column)
        cached.store(column, x[:, :, row, column])
        return out

    for _ in range(2):  # the second map finds the buffers of the first
        x = torch.randn(NUM, 6, HEIGHT, WIDTH)
        cached.reset()
        torch.testing.assert_close(by_position(step, cached.end_row), conv(x))


@torch.no_grad()
@pytest.mark.parametrize("see_centre", [False, True])
def test_attention(see_centre: bool) -> None:
    torch.manual_seed(0)
    attention = CausalAttention(6, 5, heads=2, head_size=4, see_centre=see_centre)
    cached = CachedAttention(attention, num=NUM, positions=HEIGHT * WIDTH)
    for _ in range(2):
        query, key = torch.randn(NUM, 6, HEIGHT, WIDTH), torch.randn(NUM, 5, HEIGHT, WIDTH)
        found = by_position(
            lambda row, column: cached.step(row * WIDTH + column, query[:, :, row, column], key[:, :, row, column]),  # noqa: B023
            lambda: None,
        )
        torch.testing.assert_close(found, attention(query, key))


@torch.no_grad()
@pytest.mark.parametrize("second_causal", [False, True])
@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_a_gated_layer(second_causal: bool, condition: bool, num_classes: int) -> None:
    torch.manual_seed(0)
    reach = {"rows_above": 1, "columns": 3, "see_centre": True}
    layer = GatedLayer(
        CausalConv(4, 6, **reach),  # type: ignore[arg-type]
        CausalConv(6, 8, **reach) if second_causal else pointwise(6, 8),  # type: ignore[arg-type]
        4,
        dropout=0.0,
        side=pointwise(5, 6),
        num_classes=num_classes,
        condition_channels=3 if condition else 0,
    )
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    cached = CachedLayer(layer, num=NUM, width=WIDTH)
    x, side = torch.randn(NUM, 4, HEIGHT, WIDTH), torch.randn(NUM, 5, HEIGHT, WIDTH)
    above = torch.randn(NUM, 3, HEIGHT, 2) if condition else None
    labels = torch.tensor([2, 0, 1]) if num_classes else None
    cached.reset(labels)

    def step(row: int, column: int) -> torch.Tensor:
        if column == 0 and above is not None:
            # Two columns wide against four: every column holds for two, and here every row for one.
            cached.begin_condition(above[:, :, row].transpose(1, 2), 2)
        return cached.step(column, x[:, :, row, column], side[:, :, row, column])

    expected = layer(x, side=side, labels=labels, condition=above)
    torch.testing.assert_close(by_position(step, cached.end_row), expected)
