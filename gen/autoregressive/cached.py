"""The layers of PixelSNAIL one position at a time: every position is computed once.

A causal convolution is split in two. What the rows above contribute is computed for a whole row at once, when the row
begins: one ordinary convolution, which reads those weights once per row instead of once per position. What is left for
a position is a product with its own row's few columns. Attention keeps the keys and values of earlier positions.

All shapes are fixed, buffers are written in place, and no value is read back by the host, so a row can be captured as
one CUDA graph. Buffers are [N, W, C]: a position's columns lie side by side and are one operand without copying.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.autoregressive.layers import CausalAttention, CausalConv, GatedLayer


class CachedConv:
    """A CausalConv over the rows of a map."""

    def __init__(self, conv: CausalConv, *, num: int, width: int) -> None:
        outputs, inputs = conv.weight.shape[:2]
        self.reach = conv.columns // 2
        weight = (conv.weight * conv.mask).detach()
        self._above = weight[:, :, :-1].contiguous(memory_format=torch.channels_last) if conv.rows_above else None
        self._bias = conv.bias.detach()
        self._read = self.reach + int(conv.see_centre)
        own = weight[:, :, -1, : self._read]  # [out, in, columns]
        self._own = own.permute(2, 1, 0).reshape(self._read * inputs, outputs).contiguous()
        make = weight.new_zeros
        self._rows = make(num, conv.rows_above, width, inputs)
        self._row = make(num, self.reach + width, inputs)  # padded on the left
        self._from_above = self._bias.expand(num, width, outputs)

    def reset(self) -> None:
        """Forget all rows."""
        self._rows.zero_()
        self._row.zero_()

    def begin_row(self, row: int) -> None:
        """Compute what the rows above contribute to every position of the row."""
        if self._above is None or row == 0:
            self._from_above = self._bias.expand(*self._row.shape[:1], self._row.shape[1] - self.reach, -1)
            return
        images = self._rows.permute(0, 3, 1, 2)  # channels last
        above = functional.conv2d(images, self._above, self._bias, padding=(0, self.reach))
        self._from_above = above[:, :, 0].permute(0, 2, 1)

    def store(self, column: int, x: Tensor) -> None:
        """Take the input of a position, [N, in]."""
        self._row[:, self.reach + column] = x

    def read(self, column: int) -> Tensor:
        """Return the output of a position, [N, out]; with see_centre its input has to be stored first."""
        own = self._row[:, column : column + self._read].flatten(1)
        return torch.addmm(self._from_above[:, column], own, self._own)

    def end_row(self) -> None:
        """Move the finished row to the rows above."""
        if self._above is None:
            return
        if self._rows.shape[1] > 1:
            self._rows[:, :-1] = self._rows[:, 1:].clone()
        self._rows[:, -1] = self._row[:, self.reach :]


class CachedPointwise:
    """A 1x1 convolution at one position."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._weight = conv.weight.detach().flatten(1)
        self._bias = None if conv.bias is None else conv.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """[N, in] to [N, out]."""
        return functional.linear(x, self._weight, self._bias)


class CachedLayer:
    """A GatedLayer of causal or pointwise convolutions."""

    def __init__(self, layer: GatedLayer, *, num: int, width: int) -> None:
        self._layer = layer
        self._first = self._cached(layer.first, num, width)
        self._second = self._cached(layer.second, num, width)
        self._side = None if layer.side is None else self._cached(layer.side, num, width)
        self._condition = None if layer.condition is None else layer.condition.weight.detach().flatten(1)
        self._class_bias: Tensor | None = None
        self._gate_bias: Tensor | None = None
        self._scale = 1

    @staticmethod
    def _cached(module: nn.Module, num: int, width: int) -> CachedConv | CachedPointwise:
        if isinstance(module, CausalConv):
            return CachedConv(module, num=num, width=width)
        assert isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1), "a layer of the prior itself is causal"
        return CachedPointwise(module)

    def _convs(self) -> list[CachedConv]:
        return [conv for conv in (self._first, self._second) if isinstance(conv, CachedConv)]

    def reset(self, labels: Tensor | None) -> None:
        """Begin a map with labels [N]."""
        for conv in self._convs():
            conv.reset()
        vectors = self._layer.class_vectors
        self._class_bias = None if vectors is None else vectors.weight.detach()[labels]

    def begin_row(self, row: int, condition: Tensor | None, scale: int) -> None:
        """Begin a row; `condition` is the row of the map above that it belongs to, [N, w, K], w times `scale` wide."""
        for conv in self._convs():
            conv.begin_row(row)
        if self._condition is None:
            return
        assert condition is not None, "this layer has a condition"
        if row % scale == 0:
            bias = functional.linear(condition, self._condition)
            self._gate_bias = bias if self._class_bias is None else bias + self._class_bias[:, None]
            self._scale = scale

    def end_row(self) -> None:
        """End a row."""
        for conv in self._convs():
            conv.end_row()

    def step(self, column: int, x: Tensor, side: Tensor | None = None) -> Tensor:
        """Return the output of a position, [N, C], from its input."""
        layer = self._layer
        activated = layer.activation(x)
        hidden = _apply(self._first, column, activated)
        if self._side is not None:
            assert side is not None, "this layer has a side input"
            hidden = hidden + _apply(self._side, column, layer.activation(side))
        hidden = _apply(self._second, column, layer.activation(hidden))
        if self._gate_bias is not None:
            hidden = hidden + self._gate_bias[:, column // self._scale]
        elif self._class_bias is not None:
            hidden = hidden + self._class_bias
        return (activated if layer.add_to_activated else x) + functional.glu(hidden, dim=1)


def _apply(conv: CachedConv | CachedPointwise, column: int, x: Tensor) -> Tensor:
    if isinstance(conv, CachedPointwise):
        return conv(x)
    conv.store(column, x)
    return conv.read(column)


class CachedAttention:
    """A CausalAttention that keeps keys and values."""

    def __init__(self, attention: CausalAttention, *, num: int, positions: int) -> None:
        self._query, self._key, self._value = (
            CachedPointwise(conv) for conv in (attention.query, attention.key, attention.value)
        )
        self._heads, self._size, self._see_centre = attention.heads, attention.head_size, attention.see_centre
        make = attention.query.weight.new_zeros
        self._keys = make(num, self._heads, positions, self._size)
        self._values = make(num, self._heads, positions, self._size)

    def step(self, position: int, query: Tensor, key: Tensor) -> Tensor:
        """[N, query channels] and [N, key channels] of a position in raster order to [N, heads * head_size]."""
        shape = (len(query), self._heads, self._size)
        q = self._query(query).reshape(shape)[:, :, None]
        self._keys[:, :, position] = self._key(key).reshape(shape)
        self._values[:, :, position] = self._value(key).reshape(shape)
        seen = position + int(self._see_centre)
        if seen == 0:
            return q.new_zeros(len(q), self._heads * self._size)
        keys, values = self._keys[:, :, :seen], self._values[:, :, :seen]
        return functional.scaled_dot_product_attention(q, keys, values).flatten(1)
