"""Priors of rosinality/vq-vae-2-pytorch (class `PixelSNAIL`) as ours: for comparison and as a warm start.

Theirs have no classes. What differs and what becomes of it:

- Weights are normalised (weight_g, weight_v): folded into one. The norm is that of the taps that are causal.
- Two first convolutions, one over rows above, shifted down, and one over the columns to the left, shifted right: added
  into our one. A shift drops the bias with the row 0 or column 0 that it empties: `positions` takes it away there.
- Codes enter as one-hot vectors: `embedding` = 0.
- Their earlier revisions activate in place, so that what a layer adds to, and a block's input where the keys of its
  attention read it, is activated: `add_to_activated`. No tensor tells, so the caller has to.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.layers import CausalConv, GatedLayer
from caskit.gen.autoregressive.pixelsnail import Attention, PixelSnail
from caskit.gen.foreign import Ledger
from caskit.manifests.errors import InputError

BACKGROUND = "background"  # the map of coordinates, which tells height and width


def infer_config(
    tensors: Mapping[str, Tensor], *, heads: int, in_place: bool, dropout: float, name: str
) -> PriorConfig:
    """Return the config of their state dict. Raises InputError where a shape that tells it is missing."""

    def shape(key: str) -> tuple[int, ...]:
        if key not in tensors or tensors[key].dim() != 4:
            raise InputError(f"{name}: no PixelSNAIL's state dict, {key} is missing or not of 4 dimensions")
        return tuple(tensors[key].shape)

    hidden = shape("horizontal.conv.conv.weight_v")[0]
    residual, _, kernel, columns = shape("blocks.0.resblocks.0.conv1.conv.conv.weight_v")
    if kernel != columns or kernel % 2 == 0:
        raise InputError(f"{name}: a causal convolution of {kernel}x{columns}, only odd squares can be imported")
    attention = "blocks.0.causal_attention.query.weight_v" in tensors
    if attention and (heads < 1 or hidden // 2 % heads):
        raise InputError(f"heads is {heads}, must divide the {hidden // 2} channels of the attention of {name}")
    condition = _count(tensors, "cond_resnet.blocks.{}.conv1.conv.weight_v", 1)
    shapes = shape("cond_resnet.blocks.1.conv1.conv.weight_v") if condition else (0, 0)
    return PriorConfig(
        hidden=hidden,
        residual=residual,
        blocks=_count(tensors, "blocks.{}.resblocks.0.conv1.conv.conv.weight_v"),
        layers=_count(tensors, "blocks.0.resblocks.{}.conv1.conv.conv.weight_v"),
        rows_above=kernel - 1,
        columns=kernel,
        first_rows_above=kernel // 2,
        see_centre=False,
        second_causal=True,
        activation="elu",
        add_to_activated=in_place,
        embedding=0,
        heads=heads if attention else 0,
        head_size=hidden // 2 // heads if attention else 1,
        condition_layers=condition,
        condition_hidden=shapes[1],
        condition_residual=shapes[0],
        out_layers=_count(tensors, "out.{}.conv1.conv.weight_v"),
        dropout=dropout,
    )


def _count(tensors: Mapping[str, Tensor], pattern: str, first: int = 0) -> int:
    number = first
    while pattern.format(number) in tensors:
        number += 1
    return number - first


def load_prior(
    tensors: Mapping[str, Tensor],
    *,
    heads: int = 8,
    in_place: bool,
    dropout: float = 0.1,
    name: str = "state dict",
) -> PixelSnail:
    """Build our PixelSnail with the weights of theirs.

    Args:
        tensors: the state dict of a `PixelSNAIL`.
        heads: of its attention, `n_head`, 8 in all their revisions; shapes do not tell.
        in_place: whether it was trained with in-place ELUs, as in their revisions without a cache.
        dropout: of further training.
        name: of the state dict in errors.

    Raises:
        InputError: keys are missing, unknown or of another shape: all of them in one message, nothing is loaded.
    """
    config = infer_config(tensors, heads=heads, in_place=in_place, dropout=dropout, name=name)
    if BACKGROUND not in tensors or tensors[BACKGROUND].dim() != 4:
        raise InputError(f"{name}: no PixelSNAIL's state dict, {BACKGROUND} is missing or not of 4 dimensions")
    height, width = tensors[BACKGROUND].shape[2:]
    num_codes = tensors["horizontal.conv.conv.weight_v"].shape[1]
    model = PixelSnail(
        config,
        height=height,
        width=width,
        num_codes=num_codes,
        num_classes=0,
        condition_codes=num_codes if config.condition_layers else 0,
    )
    ledger = Ledger(tensors, name)
    state = _Import(model, ledger).state()
    if not torch.allclose(ledger.take(BACKGROUND, 1, 2, height, width)[0], model.coordinates, atol=1e-6):
        ledger.note(f"{BACKGROUND} other coordinates")
    ledger.close()
    model.load_state_dict(state)
    return model.eval()


class _Import:
    """Collects our state dict from a ledger over theirs."""

    def __init__(self, model: PixelSnail, ledger: Ledger) -> None:
        self._model, self._ledger = model, ledger
        self._state: dict[str, Tensor] = {}

    def state(self) -> dict[str, Tensor]:
        """Take everything there is for our model."""
        self._first()
        if self._model.condition is not None:
            self._conv("condition.first", "cond_resnet.blocks.0.conv")
            for number in range(len(self._model.condition.layers)):
                self._layer(f"condition.layers.{number}", f"cond_resnet.blocks.{number + 1}")
        for number, block in enumerate(self._model.blocks):
            ours = theirs = f"blocks.{number}"
            for layer in range(self._model.config.layers):
                self._layer(f"{ours}.layers.{layer}", f"{theirs}.resblocks.{layer}")
            if isinstance(block.attention, Attention):
                for part in ("key", "query", "out"):
                    self._layer(f"{ours}.attention.{part}_layer", f"{theirs}.{part}_resblock")
                for part in ("query", "key", "value"):
                    self._conv(f"{ours}.attention.attention.{part}", f"{theirs}.causal_attention.{part}", linear=True)
            else:
                self._conv(f"{ours}.out", f"{theirs}.out.conv")
        out_layers = len(self._model.out_layers)
        for number in range(out_layers):
            self._layer(f"out_layers.{number}", f"out.{number}")
        self._conv("logits", f"out.{out_layers + 1}.conv")  # an activation stands between
        return self._state

    def _folded(self, theirs: str, shape: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
        """Return g v / |v|, the norm over all axes but the first; what the mask hides is not part of v."""
        direction = self._ledger.take(f"{theirs}.weight_v", *shape)
        if mask is not None:
            direction = direction * mask
        length = self._ledger.take(f"{theirs}.weight_g", shape[0], *(1 for _ in shape[1:]))
        norm = direction.flatten(1).norm(dim=1).reshape(length.shape)
        # A norm of zero is NaN in theirs; here it is what is reported as missing, or a filter that was never trained.
        folded: Tensor = direction * (length / norm.clamp_min(torch.finfo(torch.float32).tiny))
        return folded

    def _conv(self, ours: str, theirs: str, *, linear: bool = False, causal: bool = False) -> None:
        """Take one convolution; a `linear` one is a matrix there, a `causal` one is wrapped once more."""
        module = self._model.get_submodule(ours)
        weight = module.weight
        assert isinstance(weight, Tensor)
        mask = module.mask if isinstance(module, CausalConv) else None
        prefix = f"{theirs}.conv" if causal else theirs
        shape = tuple(weight.shape[:2] if linear else weight.shape)
        self._state[f"{ours}.weight"] = self._folded(prefix, shape, mask).reshape(weight.shape)
        if module.bias is not None:
            self._state[f"{ours}.bias"] = self._ledger.take(f"{prefix}.bias", shape[0])

    def _layer(self, ours: str, theirs: str) -> None:
        """Take a gated layer."""
        layer = self._model.get_submodule(ours)
        assert isinstance(layer, GatedLayer)
        causal = isinstance(layer.first, CausalConv)
        self._conv(f"{ours}.first", f"{theirs}.conv1.conv", causal=causal)
        self._conv(f"{ours}.second", f"{theirs}.conv2.conv", causal=causal)
        if layer.side is not None:
            self._conv(f"{ours}.side", f"{theirs}.aux_conv.conv")
        if layer.condition is not None:
            self._conv(f"{ours}.condition", f"{theirs}.condition.conv")

    def _first(self) -> None:
        """Merge the two first convolutions and their dropped biases."""
        first = self._model.first
        outputs, inputs, rows, columns = first.weight.shape
        half = columns // 2
        above = self._folded("horizontal.conv.conv", (outputs, inputs, half, columns))
        left = self._folded("vertical.conv.conv", (outputs, inputs, half + 1, half))
        above_bias = self._ledger.take("horizontal.conv.conv.bias", outputs)
        left_bias = self._ledger.take("vertical.conv.conv.bias", outputs)
        weight = torch.zeros(outputs, inputs, rows, columns)
        weight[:, :, :half] += above
        weight[:, :, :, :half] += left
        positions = torch.zeros_like(self._model.positions)
        positions[:, 0] -= above_bias[:, None]
        positions[:, :, 0] -= left_bias[:, None]
        self._state |= {"first.weight": weight, "first.bias": above_bias + left_bias, "positions": positions.detach()}
