"""PixelSNAIL over a map of codes (Chen et al. 2018; Razavi et al. 2019, section 3.2 and appendix A).

An embedded map goes through a causal convolution that does not see its own position; from then on the features of a
position depend on earlier codes only. Then blocks of gated causal layers, each ended by causal attention or a pointwise
convolution, a stack of pointwise layers and the logits. The class enters every gated causal layer; so does the map of
the level above, through a stack of its own that sees all of it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.layers import (
    ACTIVATIONS,
    CausalAttention,
    CausalConv,
    GatedLayer,
    doubling,
    pointwise,
)

NUM_COORDINATES = 2
CLASS_SPREAD = 0.3  # standard deviation of the class vectors per position, beside features of about 1
VARIANT_SPREAD = 0.1  # of those of variants


class CodeEmbedding(nn.Module):
    """Vectors of codes as a map; of size 0, one-hot vectors."""

    def __init__(self, num_codes: int, size: int) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.table = nn.Embedding(num_codes, size) if size else None
        self.size = size or num_codes

    def forward(self, codes: Tensor) -> Tensor:
        """[N, H, W] int64 to [N, size, H, W]."""
        vectors = functional.one_hot(codes, self.num_codes).float() if self.table is None else self.table(codes)
        return vectors.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """The end of a block: keys from the block's input and output, queries from its output, both with coordinates."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        hidden = config.hidden
        keys, queries, attended = (
            2 * hidden + NUM_COORDINATES,
            hidden + NUM_COORDINATES,
            config.heads * config.head_size,
        )
        self.key_layer = _pointwise_layer(keys, hidden, config)
        self.query_layer = _pointwise_layer(queries, hidden, config)
        self.attention = CausalAttention(
            queries, keys, heads=config.heads, head_size=config.head_size, see_centre=config.see_centre
        )
        self.out_layer = GatedLayer(
            pointwise(hidden, hidden),
            pointwise(hidden, 2 * hidden),
            hidden,
            dropout=config.dropout,
            side=pointwise(attended, hidden),
            activation=config.activation,
            add_to_activated=config.add_to_activated,
        )

    def forward(self, before: Tensor, after: Tensor, coordinates: Tensor) -> Tensor:
        """The block's input and output, [N, C, H, W] each, and [N, 2, H, W], to [N, C, H, W]."""
        keys = self.key_layer(torch.cat([before, after, coordinates], dim=1))
        queries = self.query_layer(torch.cat([after, coordinates], dim=1))
        out: Tensor = self.out_layer(after, side=self.attention(queries, keys))
        return out


class Block(nn.Module):
    """Gated causal layers, then attention or a pointwise convolution."""

    def __init__(self, config: PriorConfig, num_classes: int) -> None:
        super().__init__()
        self.before = ACTIVATIONS[config.activation] if config.add_to_activated else None
        self.layers = nn.ModuleList(_causal_layer(config, num_classes) for _ in range(config.layers))
        self.attention = Attention(config) if config.heads else None
        self.out = None if config.heads else pointwise(config.hidden + NUM_COORDINATES, config.hidden)

    def forward(self, x: Tensor, coordinates: Tensor, labels: Tensor | None, condition: Tensor | None) -> Tensor:
        """Keep the shape [N, C, H, W]."""
        out = x
        for layer in self.layers:
            out = layer(out, labels=labels, condition=condition)
        if self.attention is not None:
            before = x if self.before is None else self.before(x)
            attended: Tensor = self.attention(before, out, coordinates)
            return attended
        assert self.out is not None
        mixed: Tensor = self.out(torch.cat([out, coordinates], dim=1))
        return mixed


def _causal_layer(config: PriorConfig, num_classes: int) -> GatedLayer:
    hidden, residual = config.hidden, config.residual
    first = _causal_conv(hidden, residual, config)
    second = _causal_conv(residual, 2 * hidden, config) if config.second_causal else pointwise(residual, 2 * hidden)
    return GatedLayer(
        first,
        second,
        hidden,
        dropout=config.dropout,
        num_classes=num_classes,
        condition_channels=config.condition_hidden if config.condition_layers else 0,
        activation=config.activation,
        add_to_activated=config.add_to_activated,
    )


def _pointwise_layer(channels: int, residual: int, config: PriorConfig) -> GatedLayer:
    return GatedLayer(
        pointwise(channels, residual),
        pointwise(residual, 2 * channels),
        channels,
        dropout=config.dropout,
        activation=config.activation,
        add_to_activated=config.add_to_activated,
    )


def _causal_conv(inputs: int, outputs: int, config: PriorConfig) -> CausalConv:
    return CausalConv(
        inputs, outputs, rows_above=config.rows_above, columns=config.columns, see_centre=config.see_centre
    )


class Condition(nn.Module):
    """The stack over the map of the level above, which sees all of it, and learned doublings of what it gives.

    What is left of the way to the map's size is bridged by repetition (`layers.enlarged`).
    """

    def __init__(self, config: PriorConfig, num_codes: int, upsamplings: int) -> None:
        super().__init__()
        hidden, residual = config.condition_hidden, config.condition_residual
        self.embedding = CodeEmbedding(num_codes, config.embedding)
        self.first = nn.Conv2d(self.embedding.size, hidden, 3, padding=1)
        self.layers = nn.ModuleList(
            GatedLayer(
                nn.Conv2d(hidden, residual, 3, padding=1),
                nn.Conv2d(residual, 2 * hidden, 3, padding=1)
                if config.second_causal
                else pointwise(residual, 2 * hidden),
                hidden,
                dropout=config.dropout,
                activation=config.activation,
                add_to_activated=config.add_to_activated,
            )
            for _ in range(config.condition_layers)
        )
        self.activation = ACTIVATIONS[config.activation]
        self.upsample = nn.ModuleList(doubling(hidden) for _ in range(upsamplings))

    def forward(self, codes: Tensor) -> Tensor:
        """[N, h, w] int64 to [N, condition_hidden, h * 2^upsamplings, w * 2^upsamplings]."""
        out: Tensor = self.first(self.embedding(codes))
        for layer in self.layers:
            out = layer(out)
        for double in self.upsample:
            out = double(self.activation(out))
        return out


class PixelSnail(nn.Module):
    """p(codes | label, map above) as a product over positions in raster order."""

    coordinates: Tensor

    def __init__(
        self,
        config: PriorConfig,
        *,
        height: int,
        width: int,
        num_codes: int,
        num_classes: int,
        condition_codes: int = 0,
        condition_upsamplings: int = 0,
        num_variants: int = 1,
        checkpointing: bool = False,
    ) -> None:
        """Build it with random weights.

        Args:
            config: the layers.
            height: of the map.
            width: of the map.
            num_codes: of the map.
            num_classes: 0 for a prior without classes.
            condition_codes: codes of the map above, for a config with condition layers.
            condition_upsamplings: learned doublings of the condition; height and width must be multiples of those of
                what they give.
            num_variants: of each image while fitting, 1 for the image alone; a variant has a vector per position.
            checkpointing: recompute blocks in the backward pass (for less memory, same values).
        """
        super().__init__()
        assert bool(config.condition_layers) == bool(condition_codes), (
            "a condition needs layers, and layers a condition"
        )
        self.config, self.height, self.width = config, height, width
        self.num_codes, self.num_classes, self.condition_codes = num_codes, num_classes, condition_codes
        self.checkpointing = checkpointing
        self.embedding = CodeEmbedding(num_codes, config.embedding)
        self.first = CausalConv(
            self.embedding.size,
            config.hidden,
            rows_above=config.first_rows_above or config.rows_above,
            columns=config.first_columns or config.columns,
            see_centre=False,
        )
        self.positions = nn.Parameter(torch.zeros(config.hidden, height, width))
        # Random, not zero: a stack that has to tell classes apart from its first position on learns it sooner.
        self.class_positions = (
            nn.Parameter(torch.randn(num_classes, config.hidden, height, width) * CLASS_SPREAD)
            if config.class_positions and num_classes
            else None
        )
        self.variant_positions = (
            nn.Parameter(torch.randn(num_variants, config.hidden, height, width) * VARIANT_SPREAD)
            if num_variants > 1
            else None
        )
        self.condition = Condition(config, condition_codes, condition_upsamplings) if config.condition_layers else None
        self.blocks = nn.ModuleList(Block(config, num_classes) for _ in range(config.blocks))
        self.out_layers = nn.ModuleList(
            _pointwise_layer(config.hidden, config.residual, config) for _ in range(config.out_layers)
        )
        self.activation = ACTIVATIONS[config.activation]
        self.logits = pointwise(config.hidden, num_codes)
        rows = (torch.arange(height) - height / 2) / height
        columns = (torch.arange(width) - width / 2) / width
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        self.register_buffer("coordinates", grid, persistent=False)

    @torch.no_grad()
    def keep_first_variant(self) -> None:
        """Become the prior of the images themselves, variant 0, which is how it is stored and sampled."""
        if self.variant_positions is not None:
            self.positions.add_(self.variant_positions[0])
            self.variant_positions = None

    def forward(
        self,
        codes: Tensor,
        labels: Tensor | None = None,
        above: Tensor | None = None,
        variants: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of every position given the codes before it.

        Args:
            codes: [N, H, W] int64.
            labels: [N] int64, for a class-conditional prior.
            above: [N, h, w] int64, the map above, for a prior with a condition.
            variants: [N] int64, for a prior that is fitted to several.

        Returns:
            [N, num_codes, H, W].
        """
        out = self.first(self.embedding(codes)) + self.positions
        if self.class_positions is not None:
            out = out + self.class_positions[labels]
        if self.variant_positions is not None:
            out = out + self.variant_positions[variants]
        condition = self.condition(above) if self.condition is not None else None
        coordinates = self.coordinates.expand(len(codes), -1, -1, -1)
        for block in self.blocks:
            if self.checkpointing and self.training:
                out = checkpoint(block, out, coordinates, labels, condition, use_reentrant=False)
            else:
                out = block(out, coordinates, labels, condition)
        for layer in self.out_layers:
            out = layer(out)
        logits: Tensor = self.logits(self.activation(out))
        return logits
