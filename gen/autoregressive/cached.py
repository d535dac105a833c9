"""The layers of PixelSNAIL one position at a time: every position is computed once.

A causal convolution is split in two. What a finished row contributes to the rows below it is computed for the whole row
at once, by one ordinary convolution, which reads those weights once per row instead of once per position. What is left
for a position are products with its own row's few columns, added in place. Attention keeps the keys and values of
earlier positions.

All shapes are fixed by the position, and no value is read back by the host, so a row can be captured as one CUDA graph.
Rows are [W, N, C]: a position of all maps is one matrix without gaps, and a row is one image, N wide, to a convolution.
Products have their weights as [in, out], so that they and what they are added to are one call.

Floats kept per map: by a causal convolution (W + columns - 1) in + rows_above W out, by an attention
2 H W heads head_size, by a gated layer 2 C, with a condition times the width of the map above.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.autoregressive.layers import CausalAttention, CausalConv, GatedLayer


class CachedConv:
    """A CausalConv over the rows of a map.

    It keeps the row being read, [W + columns - 1, N, in], and what it owes to the coming rows, rows_above times
    [W, N, out].
    """

    def __init__(self, conv: CausalConv, *, num: int, width: int) -> None:
        weight = (conv.weight * conv.mask).detach()  # [out, in, rows_above + 1, columns]
        outputs, inputs, _, columns = weight.shape
        self._reach = columns // 2
        read = self._reach + int(conv.see_centre)
        self._own = weight[:, :, -1, :read].permute(2, 1, 0).contiguous().unbind(0)  # [in, out] each
        # Kernel rows from the lowest up: what a row adds to the first row below it, to the second, ... The bias goes
        # with the first.
        below = weight[:, :, :-1].flip(2).permute(2, 0, 1, 3)
        self._num_below = conv.rows_above
        below = below.reshape(conv.rows_above * outputs, inputs, columns, 1)
        self._below = below.contiguous(memory_format=torch.channels_last)
        self.bias = conv.bias.detach()
        self._below_bias = functional.pad(self.bias, (0, max(conv.rows_above - 1, 0) * outputs))

        row = weight.new_zeros(self._reach + width + self._reach, num, inputs)  # the padding on both sides stays zero
        self._image = row[None].permute(0, 3, 1, 2)  # [1, in, W + columns - 1, N], channels last
        self._slots = row.unbind(0)
        self._shape = (width, num, outputs)
        self._owed: Sequence[Tensor] = ()  # to each position of the row, [N, out]
        self._owed_later: Sequence[Tensor] = ()  # to the second row below, to the third, ..., [W, N, out]

    def reset(self) -> None:
        """Begin a map."""
        self._owed = self.bias.expand(self._shape).clone().unbind(0)
        self._owed_later = [self.bias.new_zeros(())] * (self._num_below - 1)

    def store(self, column: int, x: Tensor) -> None:
        """Take the input of a position, [N, in]."""
        self._slots[self._reach + column].copy_(x)

    def read(self, column: int) -> Tensor:
        """Return the output of a position, [N, out], once; with see_centre its input has to be stored first."""
        out = self._owed[column]
        padding = max(self._reach - column, 0)  # zeros
        for slot, weight in zip(self._slots[column + padding :], self._own[padding:], strict=False):
            out.addmm_(slot, weight)
        return out

    def end_row(self) -> None:
        """Compute what the finished row contributes to every position of the rows below."""
        if self._num_below == 0:
            self.reset()
            return
        image = functional.conv2d(self._image, self._below, self._below_bias)  # [1, rows_above * out, W, N]
        following, *later = image[0].permute(1, 2, 0).chunk(self._num_below, dim=2)
        for new, old in zip((following, *later), self._owed_later, strict=False):  # nothing was owed to the last yet
            new.add_(old)
        self._owed, self._owed_later = following.unbind(0), later


class CachedPointwise:
    """A 1x1 convolution at one position."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.weight = conv.weight.detach().flatten(1).t().contiguous()
        self.bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """[N, in] to [N, out]; `onto`, [N, out] or [out], takes the place of the bias."""
        return torch.addmm(self.bias if onto is None else onto, x, self.weight)


class CachedLayer:
    """A GatedLayer one position at a time.

    What enters the gate besides the second convolution is one sum, computed once per map, or with a condition once per
    row of the map above: the second bias, the class vector, the condition.
    """

    def __init__(self, layer: GatedLayer, *, num: int, width: int) -> None:
        self._activation, self._add_to_activated = layer.activation, layer.add_to_activated
        self._first = _cached(layer.first, num, width)
        self._second = _cached(layer.second, num, width)
        self._side = None if layer.side is None else _cached(layer.side, num, width)
        self._convs = [conv for conv in (self._first, self._second, self._side) if isinstance(conv, CachedConv)]
        self._class_vectors = None if layer.class_vectors is None else layer.class_vectors.weight.detach()
        self._condition = None if layer.condition is None else CachedPointwise(layer.condition)
        # A causal convolution adds its bias itself.
        bias = self._second.bias
        self._second_bias = bias if isinstance(self._second, CachedPointwise) else torch.zeros_like(bias)
        self._gate = self._second_bias  # of the map
        self._gates: Sequence[Tensor] = (self._gate,)  # along the row, each for `_scale` positions
        self._scale = width

    def reset(self, labels: Tensor | None) -> None:
        """Begin a map with labels [N]."""
        for conv in self._convs:
            conv.reset()
        if self._class_vectors is not None:
            assert labels is not None, "this layer has class vectors"
            self._gate = self._class_vectors[labels] + self._second_bias  # [N, 2C]
        self._gates = (self._gate,)

    def begin_condition(self, condition: Tensor, scale: int) -> None:
        """Take a row of the condition, [N, w, K], for the coming rows, which are `scale` times as wide."""
        if self._condition is None:
            return
        num, width, channels = condition.shape
        gates = self._condition(condition.reshape(num * width, channels)).reshape(num, width, -1)
        gates.add_(self._gate if self._gate.dim() < 2 else self._gate[:, None])
        self._gates, self._scale = gates.unbind(1), scale

    def end_row(self) -> None:
        """End a row."""
        for conv in self._convs:
            conv.end_row()

    def step(self, column: int, x: Tensor, side: Tensor | None = None) -> Tensor:
        """Return the output of a position, [N, C], from its input [N, C] and the side input [N, S]."""
        activated = self._activation(x)
        hidden = _step(self._first, column, activated)
        if self._side is not None:
            assert side is not None, "this layer has a side input"
            hidden.add_(_step(self._side, column, self._activation(side)))
        hidden = self._activation(hidden, inplace=True)
        gate = self._gates[column // self._scale]
        if isinstance(self._second, CachedPointwise):
            hidden = self._second(hidden, onto=gate)
        else:
            hidden = _step(self._second, column, hidden).add_(gate)
        return functional.glu(hidden, dim=1).add_(activated if self._add_to_activated else x)


def _cached(module: nn.Module, num: int, width: int) -> CachedConv | CachedPointwise:
    if isinstance(module, CausalConv):
        return CachedConv(module, num=num, width=width)
    assert isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1), "a layer of the prior itself is causal"
    return CachedPointwise(module)


def _step(conv: CachedConv | CachedPointwise, column: int, x: Tensor) -> Tensor:
    if isinstance(conv, CachedPointwise):
        return conv(x)
    conv.store(column, x)
    return conv.read(column)


class CachedAttention:
    """A CausalAttention that keeps keys and values, [N, heads, H * W, head_size] each."""

    def __init__(self, attention: CausalAttention, *, num: int, positions: int) -> None:
        self._query, self._key, self._value = (
            CachedPointwise(conv) for conv in (attention.query, attention.key, attention.value)
        )
        self._see_centre = attention.see_centre
        self._split = (num, attention.heads, attention.head_size)
        make = attention.query.weight.new_zeros
        self._keys = make(num, attention.heads, positions, attention.head_size)
        self._values = torch.zeros_like(self._keys)

    def step(self, position: int, query: Tensor, key: Tensor) -> Tensor:
        """[N, query channels] and [N, key channels] of a position in raster order to [N, heads * head_size]."""
        self._keys[:, :, position] = self._key(key).reshape(self._split)
        self._values[:, :, position] = self._value(key).reshape(self._split)
        q = self._query(query).reshape(self._split)[:, :, None]
        seen = position + int(self._see_centre)
        if seen == 0:
            return torch.zeros_like(q).flatten(1)
        keys, values = self._keys[:, :, :seen], self._values[:, :, :seen]
        return functional.scaled_dot_product_attention(q, keys, values).flatten(1)
