"""How a classifier is trained: a recipe, every value of which is part of its id. Named ones are in `presets`."""

import dataclasses
import math
import re
import typing
from typing import Any

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError
from caskit.train.augment import check_augmentation
from caskit.train.precision import PRECISIONS

# Names of timm's, whose "sgd" is nesterov; lars is ours, timm's is another algorithm (see `lars`).
OPTIMIZERS = ("nesterov", "momentum", "adamw", "lamb", "muon", "nmuon", "lars")
CHOICES = {
    "decay": ("cosine", "linear", "steps", "quadratic"),
    "precision": PRECISIONS,
    "optimizer": OPTIMIZERS,
    "crop": ("none", "inception", "uniform-area"),
    "interpolation": ("bicubic", "bilinear", "bicubic-tf1"),
    "loss": ("cross-entropy", "binary"),
    "decayed": ("weights", "all-but-norms", "all"),
    "initial": ("model", "tf-resnet"),
    "decode": ("full", "reduced"),
}
# Left out of the JSON at their defaults, so that the ids of recipes without them are what they were before.
ADDED_LATER = frozenset(
    [
        "drops",
        "final_rate",
        "channel_mean",
        "channel_std",
        "crop",
        "crop_area",
        "interpolation",
        "eval_crop",
        "eval_resolution",
        "randaugment",
        "mixup",
        "cutmix",
        "loss",
        "decayed",
        "initial",
        "compile",
        "decode",
        "shuffle_block",
        "shuffle_window",
    ]
)
_MODEL = re.compile(r"convnet|cifar-resnet(\d{1,4})|timm:[\w.:/-]{1,200}")
_RANDAUGMENT = re.compile(r"(rand(-(m|n|mmax|inc)\d{1,2}|-(mstd|p)\d{1,2}(\.\d{1,4})?)*)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a classifier besides the data and the seed.

    Length is counted in optimizer steps, so a small set and a large one cost the same.

    Attributes:
        name: of the preset it began as.
        version: raised whenever a change of the code changes what the recipe gives.
        model: `convnet` (ours, of timm's layers), `cifar-resnetN` (He et al. 2015, section 4.2; N = 6n + 2) or
            `timm:NAME`, any model of timm, without pretrained weights.
        widths: channels of the convnet's blocks; models of timm ignore it and the next two.
        num_poolings: how many of the convnet's first blocks halve the image.
        activation: of the convnet, a name of timm's (relu, gelu, silu, ...).
        resolution: side of the network's images in pixels; a set of others is refused unless `crop` makes them.
        mean, std: of all channels, in units of 1 = 255; constants, so that the recipe is the same for every set.
        channel_mean, channel_std: instead, one number per channel; empty: `mean` and `std`.
        num_steps: optimizer steps.
        batch_size: images per step.
        bn_batch: images per forward pass; batch-norm statistics are over so many, whatever the number of devices.
        optimizer: one of OPTIMIZERS, with its momentum and weight_decay.
        decayed: what weight decay is for: `weights` (no biases, no norms), `all-but-norms`, or `all`.
        initial: first weights: `model`, what the model's own code gives; `tf-resnet`, see `initial.tf_resnet`.
        learning_rate: at its peak.
        warmup: share of the steps in which the learning rate rises to its peak, in a line from zero.
        decay: how it then falls, see `schedule`: `cosine`, `linear`, `quadratic`, or `steps`, to a tenth at each drop.
        drops: of `steps`, the optimizer steps from which on the rate is a tenth.
        final_rate: where cosine, linear and quadratic end.
        loss: `cross-entropy` of the softmax, or `binary`: the mean over the classes of the binary cross entropy, every
            class with more than a fifth of a mixed image counted as present (Wightman et al. 2021, section 3.1).
        label_smoothing: of the cross entropy.
        dropout: before the last layer.
        ema_decay: of the average of the weights that is kept as the classifier; 0 keeps the last weights.
        crop: of training images, see `crops`: `none`, `inception` or `uniform-area`, resized to `resolution`.
        crop_area: smallest and largest share of the image.
        interpolation: of crops, see `resampling`.
        decode: `full`; or `reduced`: a JPEG whose crop is at least 2, 4 or 8 times `resolution` in both directions is
            decoded at that part of its size, see `crops`. Faster, other pixels; test images are decoded in full.
        eval_crop: side of the centre crop of test images as a share of their shorter side, where `crop` is not `none`.
        eval_resolution: side of test images for the network; 0: `resolution`.
        flip, shift: augmentation, see `Augmenter`.
        randaugment: a configuration of timm's RandAugment such as `rand-m6-mstd0.5-inc1`; empty: none.
        mixup, cutmix: alphas of their Beta laws; 0: none; of two, a fair coin takes one for each part of a batch.
        shuffle_block, shuffle_window: an epoch's order for disks that hate random reads, see `order`: blocks of so many
            samples that lie together, shuffled within so many blocks at a time; 0 and 0: all samples are shuffled.
        precision: `float32` or `bfloat16` (autocast).
        threads: of the processor inside an operation; the last bits depend on it, so the host does not choose it.
        compile: whether the network is trained through torch.compile, on which the last bits depend, too.
    """

    name: str
    version: int = 1
    model: str = "convnet"
    widths: tuple[int, ...] = (32, 64, 128, 128)
    num_poolings: int = 3
    activation: str = "relu"
    resolution: int
    mean: float = 0.5
    std: float = 0.25
    num_steps: int
    batch_size: int = 256
    bn_batch: int = 256
    optimizer: str = "nesterov"
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    decay: str = "linear"
    label_smoothing: float = 0.0
    dropout: float = 0.0
    ema_decay: float = 0.0
    flip: str = "none"
    shift: int = 0
    precision: str = "float32"
    threads: int = 2
    drops: tuple[int, ...] = ()
    final_rate: float = 0.0
    channel_mean: tuple[float, ...] = ()
    channel_std: tuple[float, ...] = ()
    crop: str = "none"
    crop_area: tuple[float, float] = (0.08, 1.0)
    interpolation: str = "bicubic"
    eval_crop: float = 0.875
    eval_resolution: int = 0
    randaugment: str = ""
    mixup: float = 0.0
    cutmix: float = 0.0
    loss: str = "cross-entropy"
    decayed: str = "weights"
    initial: str = "model"
    compile: bool = False
    decode: str = "full"
    shuffle_block: int = 0
    shuffle_window: int = 0

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_lists()
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"recipe: {name} is {getattr(self, name)!r}, allowed: {', '.join(allowed)}")
        self._check_model()
        if type(self.compile) is not bool:
            raise InputError(f"recipe: compile is {self.compile!r}, allowed: true, false")
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise InputError("recipe: momentum is 0, optimizer nesterov needs more; optimizer momentum takes 0")
        if self.batch_size % self.bn_batch:
            raise InputError(f"recipe: bn_batch is {self.bn_batch}, must divide batch_size {self.batch_size}")
        check_augmentation(self.flip, self.shift)
        if not isinstance(self.randaugment, str) or _RANDAUGMENT.fullmatch(self.randaugment) is None:
            raise InputError(
                f"recipe: randaugment is {self.randaugment!r}, must be empty or timm's, such as rand-m6-mstd0.5-inc1"
            )
        if self.randaugment and self.interpolation == "bicubic-tf1":
            raise InputError("recipe: randaugment works on 8-bit images, interpolation bicubic-tf1 gives others")
        if bool(self.shuffle_block) != bool(self.shuffle_window):
            raise InputError(
                f"recipe: shuffle_block is {self.shuffle_block} and shuffle_window {self.shuffle_window}, both are 0 "
                "(all samples are shuffled) or neither"
            )
        if self.decode == "reduced" and self.crop == "none":
            raise InputError("recipe: decode reduced is for crops, crop is none")
        if self.label_smoothing and self.loss == "binary":
            raise InputError("recipe: label_smoothing is of the cross entropy, loss binary takes 0")

    def _check_model(self) -> None:
        match = _MODEL.fullmatch(self.model) if isinstance(self.model, str) else None
        if match is None or (match[1] is not None and (int(match[1]) % 6 != 2 or int(match[1]) < 8)):
            raise InputError(
                f"recipe: model is {self.model!r}, allowed: convnet, cifar-resnetN with N = 8, 14, 20, ..., timm:NAME"
            )
        if not 0 <= self.num_poolings <= len(self.widths):
            raise InputError(f"recipe: num_poolings is {self.num_poolings}, allowed: 0..{len(self.widths)}")
        if self.model == "convnet" and self.resolution >> self.num_poolings == 0:
            raise InputError(f"recipe: {self.num_poolings} poolings leave nothing of {self.resolution} pixels")

    def _check_lists(self) -> None:
        def holds(values: object, kinds: tuple[type, ...], low: float, high: float) -> bool:
            return isinstance(values, tuple) and all(type(v) in kinds and low <= v <= high for v in values)

        numbers = (int, float)
        if not self.widths or not holds(self.widths, (int,), 1, 65536):
            raise InputError(f"recipe: widths is {self.widths!r}, must be whole numbers 1..65536")
        if not holds(self.drops, (int,), 1, 2**40) or list(self.drops) != sorted(set(self.drops)):
            raise InputError(f"recipe: drops is {self.drops!r}, must be rising numbers of steps from 1")
        if bool(self.drops) != (self.decay == "steps"):
            raise InputError(f"recipe: drops is {self.drops!r}, decay steps needs some and {self.decay} takes none")
        if not (holds(self.channel_mean, numbers, -10, 10) and holds(self.channel_std, numbers, 1e-3, 10)) or len(
            self.channel_mean
        ) != len(self.channel_std):
            raise InputError(
                f"recipe: channel_mean is {self.channel_mean!r} and channel_std {self.channel_std!r}, must be as many "
                "numbers in each, -10..10 and 0.001..10"
            )
        if (
            not holds(self.crop_area, numbers, 1e-4, 1)
            or len(self.crop_area) != 2
            or sorted(self.crop_area) != list(self.crop_area)
        ):
            raise InputError(f"recipe: crop_area is {self.crop_area!r}, must be two rising shares, 0.0001..1")

    def _check_numbers(self) -> None:
        integers = {
            "version": (1, 2**31),
            "resolution": (1, 16384),
            "num_steps": (1, 2**40),
            "batch_size": (1, 2**20),
            "bn_batch": (1, 2**20),
            "threads": (1, 1024),
            "eval_resolution": (0, 16384),
            "num_poolings": (0, 64),
            "shuffle_block": (0, 2**31),
            "shuffle_window": (0, 2**20),
        }
        for name, (low, high) in integers.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"recipe: {name} is {value!r}, allowed: {low}..{high}")
        numbers = {
            "mean": (-10.0, 10.0),
            "std": (1e-3, 10.0),
            "learning_rate": (0.0, 1e3),
            "momentum": (0.0, 0.9999),
            "weight_decay": (0.0, 10.0),
            "warmup": (0.0, 0.99),
            "label_smoothing": (0.0, 0.99),
            "dropout": (0.0, 0.99),
            "ema_decay": (0.0, 0.99999),
            "final_rate": (0.0, 1e3),
            "eval_crop": (0.01, 1.0),
            "mixup": (0.0, 1.0),
            "cutmix": (0.0, 1.0),
        }
        for name, (lowest, highest) in numbers.items():
            number = getattr(self, name)
            if type(number) not in (int, float) or not math.isfinite(number) or not lowest <= number <= highest:
                raise InputError(f"recipe: {name} is {number!r}, allowed: {lowest}..{highest}")

    @property
    def test_resolution(self) -> int:
        """Side of the images that the network is tested on, in pixels."""
        return self.eval_resolution or self.resolution

    @property
    def num_parts(self) -> int:
        """Forward passes per step."""
        return self.batch_size // self.bn_batch

    def stretched(self, factor: float) -> "Recipe":
        """Return the recipe with so many times the steps, its schedule stretched with them."""
        drops = tuple(round(drop * factor) for drop in self.drops)
        return dataclasses.replace(self, num_steps=max(1, round(self.num_steps * factor)), drops=drops)

    def to_json(self) -> dict[str, object]:
        """Return the recipe as JSON values; fields of ADDED_LATER are there if they are not at their default."""
        values: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ADDED_LATER or value != field.default:
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Recipe":
        """Build a recipe from JSON values. Raises InputError for a missing or an unknown field."""
        known = {field.name for field in dataclasses.fields(cls)}
        wrong = (set(value) - known) | (known - ADDED_LATER - set(value))
        if wrong:
            raise InputError(f"recipe: fields differ from this caskit's: {', '.join(sorted(wrong))}")
        lists = {name for name, kind in typing.get_type_hints(cls).items() if typing.get_origin(kind) is tuple}
        values: dict[str, Any] = {
            name: tuple(v) if name in lists and isinstance(v, list) else v for name, v in value.items()
        }
        return cls(**values)

    @property
    def recipe_id(self) -> str:
        """SHA-256 of the recipe's canonical JSON, 64 hex digits."""
        return sha256_hex(canonical_json(self.to_json()))
