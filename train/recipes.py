"""How a classifier is trained: named presets, every value of which is part of the recipe's id."""

import dataclasses
import math
from collections.abc import Callable

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError
from caskit.train.augment import check_augmentation
from caskit.train.precision import PRECISIONS

DECAYS = ("cosine", "linear")
OPTIMIZERS = ("nesterov", "momentum", "adamw", "lamb", "muon", "nmuon")  # names of timm's, whose "sgd" is nesterov


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a classifier besides the data and the seed.

    Length is counted in optimizer steps, so a small set and a large one cost the same.

    Attributes:
        name: of the preset it began as.
        version: raised whenever a change of the code changes what the recipe gives.
        model: `convnet` (ours, of timm's layers) or `timm:NAME`, any model of timm, without pretrained weights.
        widths: channels of the convnet's blocks; models of timm ignore it and the next two.
        num_poolings: how many of the convnet's first blocks halve the image.
        activation: of the convnet, a name of timm's (relu, gelu, silu, ...).
        resolution: side of the images in pixels; a set of another size is refused.
        mean, std: of all channels, in units of 1 = 255; constants, so that the recipe is the same for every set.
        num_steps: optimizer steps.
        batch_size: images per step.
        bn_batch: images per forward pass; batch-norm statistics are over so many, whatever the number of devices.
        optimizer: a name of timm's, with its momentum and weight_decay (none on biases and norms).
        learning_rate: at its peak.
        warmup: share of the steps in which the learning rate rises to its peak, in a line from zero.
        decay: how it then falls to zero, `cosine` or `linear`.
        label_smoothing: of the cross entropy.
        dropout: before the last layer.
        ema_decay: of the average of the weights that is kept as the classifier; 0 keeps the last weights.
        flip, shift: augmentation, see `Augmenter`.
        precision: `float32` or `bfloat16` (autocast).
        threads: of the processor inside an operation; the last bits depend on it, so the host does not choose it.
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

    def __post_init__(self) -> None:
        self._check_numbers()
        choices = {"decay": DECAYS, "precision": PRECISIONS, "optimizer": OPTIMIZERS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"recipe: {name} is {getattr(self, name)!r}, allowed: {', '.join(allowed)}")
        if self.model != "convnet" and not self.model.startswith("timm:"):
            raise InputError(f"recipe: model is {self.model!r}, allowed: convnet, timm:NAME")
        if not self.widths or any(type(w) is not int or not 1 <= w <= 65536 for w in self.widths):
            raise InputError(f"recipe: widths is {self.widths!r}, must be whole numbers 1..65536")
        if not 0 <= self.num_poolings <= len(self.widths):
            raise InputError(f"recipe: num_poolings is {self.num_poolings}, allowed: 0..{len(self.widths)}")
        if self.model == "convnet" and self.resolution >> self.num_poolings == 0:
            raise InputError(f"recipe: {self.num_poolings} poolings leave nothing of {self.resolution} pixels")
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise InputError("recipe: momentum is 0, optimizer nesterov needs more; optimizer momentum takes 0")
        if self.batch_size % self.bn_batch:
            raise InputError(f"recipe: bn_batch is {self.bn_batch}, must divide batch_size {self.batch_size}")
        check_augmentation(self.flip, self.shift)

    def _check_numbers(self) -> None:
        integers = {
            "version": (1, 2**31),
            "resolution": (1, 16384),
            "num_steps": (1, 2**40),
            "batch_size": (1, 2**20),
            "bn_batch": (1, 2**20),
            "threads": (1, 1024),
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
        }
        for name, (lowest, highest) in numbers.items():
            number = getattr(self, name)
            if type(number) not in (int, float) or not math.isfinite(number) or not lowest <= number <= highest:
                raise InputError(f"recipe: {name} is {number!r}, allowed: {lowest}..{highest}")

    def to_json(self) -> dict[str, object]:
        """Return the recipe as JSON values."""
        return {**dataclasses.asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> "Recipe":
        """Build a recipe from JSON values. Raises InputError for a missing or an unknown field."""
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(value) != expected:
            raise InputError(f"recipe: fields differ from this caskit's: {', '.join(sorted(set(value) ^ expected))}")
        widths = value["widths"]
        assert isinstance(widths, list), "JSON has lists only"
        return cls(**{**value, "widths": tuple(widths)})  # type: ignore[arg-type]

    @property
    def recipe_id(self) -> str:
        """SHA-256 of the recipe's canonical JSON, 64 hex digits."""
        return sha256_hex(canonical_json(self.to_json()))


def fashion_mnist() -> Recipe:
    """Fashion-MNIST's images, 28x28 grey; three epochs of 60,000.

    Command: caskit train --data runs/fashion-mnist/real/train --recipe fashion-mnist --seed 0 --out runs/real
    Hardware and time: two cores of an AMD EPYC, float32, 56 s.
    Expected score: 92.9 % real top-1 with seed 0; 92.5 % with threads=1, other last bits only: so far do runs differ.
    """
    return Recipe(
        name="fashion-mnist",
        resolution=28,
        mean=0.286,
        std=0.353,
        num_steps=700,
        optimizer="muon",
        learning_rate=0.02,
        weight_decay=0.01,
        flip="alternate",
    )


def digits() -> Recipe:
    """The digits of scikit-learn, 8x8 grey; one thread, as its tensors are too small for two.

    Command: caskit train --data runs/digits/real/train --recipe digits --seed 0 --out runs/real
    Hardware and time: one core of an AMD EPYC, float32, 4 s.
    Expected score: 98.3 % real top-1 with seed 0.
    """
    return Recipe(
        name="digits",
        widths=(32, 64, 64),
        num_poolings=2,
        resolution=8,
        mean=0.3,
        std=0.37,
        num_steps=400,
        batch_size=128,
        bn_batch=128,
        learning_rate=0.1,
        shift=1,
        threads=1,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"fashion-mnist": fashion_mnist, "digits": digits}


def get_recipe(name: str) -> Recipe:
    """Return a preset by name. Raises InputError naming those there are."""
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is not known, use one of {', '.join(RECIPES)}")
    return RECIPES[name]()
