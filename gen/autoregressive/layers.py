"""The layers of PixelSNAIL: causal convolutions, gated residual layers, causal attention. Maps are [N, C, H, W]."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {"silu": functional.silu, "elu": functional.elu}


class CausalConv(nn.Module):
    """A convolution that reads rows above and, in its own row, columns to the left, and its own position if told to.

    Attributes:
        weight: [out, in, rows_above + 1, columns]; the part of the last row that is not causal is never read.
        bias: [out].
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, *, rows_above: int, columns: int, see_centre: bool) -> None:
        super().__init__()
        self.rows_above, self.columns, self.see_centre = rows_above, columns, see_centre
        self.weight = nn.Parameter(torch.empty(outputs, inputs, rows_above + 1, columns))
        self.bias = nn.Parameter(torch.zeros(outputs))
        mask = torch.ones(1, 1, rows_above + 1, columns)
        mask[..., -1, columns // 2 + int(see_centre) :] = 0
        self.register_buffer("mask", mask, persistent=False)
        taps = rows_above * columns + columns // 2 + int(see_centre)  # the ones of the mask
        bound = math.sqrt(3 / (inputs * taps))  # variance 1 / fan in
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, H, W]."""
        padded = functional.pad(x, (self.columns // 2, self.columns // 2, self.rows_above, 0))
        return functional.conv2d(padded, self.weight * self.mask, self.bias)


def pointwise(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
    """Return a 1x1 convolution whose weights have a variance of 1 / inputs."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=bias)
    bound = math.sqrt(3 / inputs)
    nn.init.uniform_(conv.weight, -bound, bound)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def doubling(channels: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles the sides of a map, with weights of a variance of 1 / inputs."""
    conv = nn.ConvTranspose2d(channels, channels, 4, 2, padding=1)
    bound = math.sqrt(3 / (4 * channels))  # a position reads 2x2 places
    nn.init.uniform_(conv.weight, -bound, bound)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class GatedLayer(nn.Module):
    """x + a * sigmoid(b), (a, b) = second(act(first(act(x)) + side(act(s)))) + class vector + condition.

    The class and the map above enter inside the gate (van den Oord et al. 2016, "Conditional image generation with
    PixelCNN decoders", equation 4).
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        channels: int,
        *,
        dropout: float,
        side: nn.Module | None = None,
        num_classes: int = 0,
        condition_channels: int = 0,
        activation: str = "silu",
        add_to_activated: bool = False,
    ) -> None:
        """Take the two convolutions; the second gives twice `channels`.

        Args:
            first: module with parameters `weight` and `bias`.
            second: another.
            channels: of x.
            dropout: between them.
            side: convolution of a second input.
            num_classes: of the class vectors; 0, none.
            condition_channels: of the condition's map; 0, none.
            activation: a name from ACTIVATIONS.
            add_to_activated: add to the activated x instead of x.
        """
        super().__init__()
        self.activation, self.add_to_activated = ACTIVATIONS[activation], add_to_activated
        self.first, self.second, self.side = first, second, side
        self.dropout = nn.Dropout(dropout)
        self.class_vectors = nn.Embedding(num_classes, 2 * channels) if num_classes else None
        self.condition = pointwise(condition_channels, 2 * channels, bias=False) if condition_channels else None
        with torch.no_grad():
            # A layer begins close to the identity, so that a deep stack can be trained without norms.
            second.weight.mul_(0.1)  # type: ignore[operator]
            if self.class_vectors is not None:
                self.class_vectors.weight.zero_()

    def forward(
        self,
        x: Tensor,
        *,
        side: Tensor | None = None,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Keep the shape of x, [N, C, H, W].

        Args:
            x: what the layer adds to.
            side: [N, S, H, W], for a layer that has a side input.
            labels: [N] int64, for one with class vectors.
            condition: [N, K, h, w], for one with a condition; H and W are multiples of h and w.
        """
        activated = self.activation(x)
        hidden = self.first(activated)
        if self.side is not None:
            assert side is not None, "this layer has a side input"
            hidden = hidden + self.side(self.activation(side))
        hidden = self.second(self.dropout(self.activation(hidden)))
        if self.class_vectors is not None:
            hidden = hidden + self.class_vectors(labels)[:, :, None, None]
        if self.condition is not None:
            assert condition is not None, "this layer has a condition"
            # 1x1, so it comes out the same before the map is enlarged, at a fraction of the cost.
            hidden = hidden + enlarged(self.condition(condition), hidden.shape[2:])
        return (activated if self.add_to_activated else x) + functional.glu(hidden, dim=1)


def enlarged(x: Tensor, shape: torch.Size) -> Tensor:
    """Repeat the cells of a map [N, C, h, w] to the height and width of `shape`, which are multiples of h and w."""
    assert not (shape[0] % x.shape[2] or shape[1] % x.shape[3]), f"{tuple(x.shape[2:])} does not divide {tuple(shape)}"
    return functional.interpolate(x, size=tuple(shape), mode="nearest")


class CausalAttention(nn.Module):
    """Multi-head attention over the positions up to each query's in raster order.

    With `see_centre` false a position does not see its own key, and the first one, which then sees none, gets zeros.
    """

    def __init__(self, query_channels: int, key_channels: int, *, heads: int, head_size: int, see_centre: bool) -> None:
        super().__init__()
        self.heads, self.head_size, self.see_centre = heads, head_size, see_centre
        self.query = pointwise(query_channels, heads * head_size)
        self.key = pointwise(key_channels, heads * head_size)
        self.value = pointwise(key_channels, heads * head_size)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """[N, query_channels, H, W] and [N, key_channels, H, W] to [N, heads * head_size, H, W]."""
        num, _, height, width = query.shape
        q, k, v = (self._split(x) for x in (self.query(query), self.key(key), self.value(key)))
        if self.see_centre:
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            # The first query has no key to see: it is computed with the others shifted, and set to zero.
            mask = torch.ones(height * width, height * width, dtype=torch.bool, device=q.device).tril(-1)
            mask[0, 0] = True
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            attended = torch.cat([torch.zeros_like(attended[:, :, :1]), attended[:, :, 1:]], dim=2)
        merged = attended.transpose(1, 2).reshape(num, height, width, self.heads * self.head_size)
        return merged.permute(0, 3, 1, 2)

    def _split(self, x: Tensor) -> Tensor:
        """[N, heads * head_size, H, W] to [N, heads, H * W, head_size]."""
        flat = x.flatten(2).transpose(1, 2)
        return flat.reshape(*flat.shape[:2], self.heads, self.head_size).transpose(1, 2)
