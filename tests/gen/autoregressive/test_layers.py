"""Every layer against its definition, written out."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.autoregressive.layers import CausalAttention, CausalConv, GatedLayer, pointwise


def convolved(conv: CausalConv, x: Tensor) -> Tensor:
    """A causal convolution as loops over positions and taps."""
    _, _, height, width = x.shape
    weight, reach = conv.weight.detach(), conv.columns // 2
    out = conv.bias.detach()[None, :, None, None].repeat(len(x), 1, height, width)
    for i, j in itertools.product(range(height), range(width)):
        for row, column in itertools.product(range(i - conv.rows_above, i + 1), range(j - reach, j + reach + 1)):
            earlier = (row, column) < (i, j) or (conv.see_centre and (row, column) == (i, j))
            if earlier and row >= 0 and 0 <= column < width:
                out[:, :, i, j] += x[:, :, row, column] @ weight[:, :, row - i - 1, column - j + reach].T
    return out


@pytest.mark.parametrize("see_centre", [False, True])
@pytest.mark.parametrize(("rows_above", "columns"), [(0, 3), (1, 1), (1, 3), (2, 5), (4, 3)])
def test_a_causal_convolution_is_the_sum_over_earlier_positions(
    rows_above: int, columns: int, see_centre: bool
) -> None:
    torch.manual_seed(0)
    conv = CausalConv(3, 4, rows_above=rows_above, columns=columns, see_centre=see_centre)
    nn.init.normal_(conv.bias)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(conv(x), convolved(conv, x))


def test_a_causal_convolution_starts_with_outputs_as_large_as_its_inputs() -> None:
    torch.manual_seed(0)
    conv = CausalConv(64, 64, rows_above=2, columns=5, see_centre=True)
    inner = conv(torch.randn(4, 64, 12, 12))[:, :, 2:, 2:-2]
    assert 0.9 < float(inner.detach().std()) < 1.1


@pytest.mark.parametrize("see_centre", [False, True])
def test_attention_averages_the_values_of_earlier_positions(see_centre: bool) -> None:
    torch.manual_seed(0)
    num, height, width, heads, size = 2, 3, 4, 2, 5
    attention = CausalAttention(6, 7, heads=heads, head_size=size, see_centre=see_centre)
    query, key = torch.randn(num, 6, height, width), torch.randn(num, 7, height, width)
    with torch.no_grad():
        found = attention(query, key).flatten(2)
        q, k, v = (
            conv(x).flatten(2) for conv, x in ((attention.query, query), (attention.key, key), (attention.value, key))
        )
    for n, position, head in itertools.product(range(num), range(height * width), range(heads)):
        channels = slice(head * size, (head + 1) * size)
        seen = position + int(see_centre)
        scores = q[n, channels, position] @ k[n, channels, :seen] / math.sqrt(size)
        expected = v[n, channels, :seen] @ scores.softmax(0)
        torch.testing.assert_close(found[n, channels, position], expected)
    if not see_centre:
        assert not found[:, :, 0].any()


def gated(**options: object) -> GatedLayer:
    torch.manual_seed(0)
    layer = GatedLayer(pointwise(4, 6), pointwise(6, 8), 4, dropout=0.0, **options)  # type: ignore[arg-type]
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def test_a_gated_layer_adds_what_its_gate_lets_through() -> None:
    layer = gated(num_classes=3, condition_channels=2, side=pointwise(5, 6))
    x, side, condition = torch.randn(2, 4, 6, 4), torch.randn(2, 5, 6, 4), torch.randn(2, 2, 3, 2)
    labels = torch.tensor([2, 0])
    hidden = layer.first(functional.silu(x)) + layer.side(functional.silu(side))  # type: ignore[misc]
    hidden = layer.second(functional.silu(hidden)) + layer.class_vectors.weight[labels][:, :, None, None]  # type: ignore[union-attr, index]
    above = condition.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    hidden = hidden + layer.condition(above)  # type: ignore[misc]
    a, b = hidden.chunk(2, dim=1)
    torch.testing.assert_close(
        layer(x, side=side, labels=labels, condition=condition), x + a * torch.sigmoid(b), atol=1e-5, rtol=1e-5
    )


def test_a_gated_layer_may_add_to_its_activated_input() -> None:
    layer = gated(activation="elu", add_to_activated=True)
    x = torch.randn(2, 4, 3, 3)
    a, b = layer.second(functional.elu(layer.first(functional.elu(x)))).chunk(2, dim=1)
    torch.testing.assert_close(layer(x), functional.elu(x) + a * torch.sigmoid(b))


def test_a_gated_layer_begins_close_to_the_identity() -> None:
    torch.manual_seed(0)
    layer = GatedLayer(pointwise(32, 32), pointwise(32, 64), 32, dropout=0.5, num_classes=3).eval()
    x = torch.randn(2, 32, 4, 4)
    change = (layer(x, labels=torch.tensor([0, 1])) - x).std()
    assert 0 < float(change.detach()) < 0.1


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    layer = GatedLayer(pointwise(4, 6), pointwise(6, 8), 4, dropout=0.5)
    x = torch.randn(2, 4, 3, 3)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
