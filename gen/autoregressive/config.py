"""The architecture of a prior over a map of codes, and how it is sampled."""

import dataclasses

from caskit.manifests.errors import InputError

OPTIMIZERS = ("adam", "muon")  # of a prior, see optimizers.py


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise InputError unless a field is a whole number within bounds."""
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{name} is {value!r}, allowed: whole numbers {low}..{high}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise InputError unless a field is a number within bounds; a NaN is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}, allowed: numbers {low}..{high}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The layers of a PixelSNAIL (Chen et al. 2018; Razavi et al. 2019, appendix A, table 5).

    Attributes:
        hidden: channels between layers.
        residual: channels inside a gated layer.
        blocks: of `layers` gated layers each.
        layers: gated layers of a block.
        rows_above, columns: reach of a causal convolution: rows above the current one, and columns, an odd number.
        first_rows_above, first_columns: reach of the first convolution, which reads the codes themselves; 0, the same.
            Features of a position know the codes before it, so where there is no attention the codes of the row above
            that stand right of its reach are seen by no layer: make it wide.
        see_centre: a convolution reads its own position and attention its own key. Features of a position depend on
            earlier codes only, so both is causal; rosinality/vq-vae-2-pytorch does neither.
        second_causal: the second convolution of a gated layer is like the first, not pointwise.
        activation: `silu`, or `elu`, which torch computes fifty times slower on a CPU (docs/LOG.md).
        add_to_activated: a gated layer adds to its activated input, as the in-place ELUs of
            rosinality/vq-vae-2-pytorch make theirs do.
        class_positions: a class also has a vector per position of the map, added to what the first convolution gives.
            For few classes, as these are classes x hidden x height x width numbers; gated layers have one vector each.
        embedding: dimensions of a code's vector; 0 stands for one per code, a one-hot vector that is not learned.
        heads: of the attention that ends a block; 0 ends it with a pointwise convolution.
        head_size: channels of a head.
        condition_layers, condition_hidden, condition_residual: of the stack over the map above; 0 layers, no such map.
        out_layers: pointwise gated layers before the logits.
        dropout: inside gated layers, while training.
    """

    hidden: int
    residual: int
    blocks: int
    layers: int
    rows_above: int = 1
    columns: int = 3
    first_rows_above: int = 0
    first_columns: int = 0
    see_centre: bool = True
    second_causal: bool = False
    activation: str = "silu"
    add_to_activated: bool = False
    class_positions: bool = False
    embedding: int = 64
    heads: int = 0
    head_size: int = 16
    condition_layers: int = 0
    condition_hidden: int = 0
    condition_residual: int = 0
    out_layers: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        bounds = {
            "hidden": (1, 8192),
            "residual": (1, 8192),
            "blocks": (1, 64),
            "layers": (1, 64),
            "rows_above": (1, 16),
            "columns": (1, 33),
            "first_rows_above": (0, 64),
            "first_columns": (0, 129),
            "embedding": (0, 8192),
            "heads": (0, 64),
            "head_size": (1, 512),
            "condition_layers": (0, 64),
            "condition_hidden": (1 if self.condition_layers else 0, 8192),
            "condition_residual": (1 if self.condition_layers else 0, 8192),
            "out_layers": (0, 64),
        }
        for name, (low, high) in bounds.items():
            check_integer(name, getattr(self, name), low, high)
        if self.activation not in ("silu", "elu"):
            raise InputError(f"activation is {self.activation!r}, allowed: silu, elu")
        for name in ("columns", "first_columns"):
            columns = getattr(self, name)
            if columns % 2 == 0 and (name, columns) != ("first_columns", 0):
                raise InputError(f"{name} is {columns}, must be odd")
        for name in ("see_centre", "second_causal", "add_to_activated", "class_positions"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} is {getattr(self, name)!r}, allowed: true, false")
        check_number("dropout", self.dropout, 0.0, 0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a fitted generator is sampled; all its maps alike.

    Attributes:
        temperature: divides the logits; 1 samples the priors as fitted.
        top_p: keep the most probable codes whose probabilities add up to this; 1 keeps all (Holtzman et al. 2020).
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 1e-3, 1e3)
        check_number("top_p", self.top_p, 1e-6, 1.0)
