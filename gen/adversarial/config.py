"""What the training of a GAN can be told, whatever its networks are."""

import abc
import dataclasses

from torch import nn

from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.autoregressive.config import check_integer, check_number
from caskit.manifests.errors import InputError
from caskit.train.precision import check_precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollapseConfig:
    """When a fit counts as collapsed, see collapse.py.

    Attributes:
        check_every: steps between two looks at samples.
        samples_per_class, num_classes: how many are looked at; of at most so many classes, the first ones.
        grace: steps before the diversity of samples counts: at first all of them are alike.
        min_diversity, max_diversity: of samples within a class, their variance over that of the data.
        window: steps over which the discriminator's scores are averaged.
        max_saturation: share of scores that lie beyond the hinge, where the discriminator learns nothing.
        max_score: mean absolute score.
    """

    check_every: int = 500
    samples_per_class: int = 32
    num_classes: int = 20
    grace: int = 2000
    min_diversity: float = 0.2
    max_diversity: float = 4.0
    window: int = 500
    max_saturation: float = 0.98
    max_score: float = 1000.0

    def __post_init__(self) -> None:
        bounds = {
            "check_every": (1, 10**9),
            "samples_per_class": (2, 4096),
            "num_classes": (1, 65536),
            "grace": (0, 10**9),
            "window": (1, 10**9),
        }
        for name, (low, high) in bounds.items():
            check_integer(f"collapse.{name}", getattr(self, name), low, high)
        check_number("collapse.min_diversity", self.min_diversity, 0.0, 1.0)
        check_number("collapse.max_diversity", self.max_diversity, 1.0, 1e6)
        check_number("collapse.max_saturation", self.max_saturation, 0.0, 1.0)
        check_number("collapse.max_score", self.max_score, 1.0, 1e12)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandingConfig:
    """How the statistics of the finished generator's norms are computed.

    Attributes:
        num_batches: over how many batches of samples they are averaged.
        batch_size: samples of each, enough for moments like those of training.
    """

    num_batches: int = 100
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_integer("standing.num_batches", self.num_batches, 1, 10**6)
        check_integer("standing.batch_size", self.batch_size, 2, 65536)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GanConfig(abc.ABC):
    """Everything that decides a fitted generator besides the data and its networks, which a family's own config adds.

    Attributes:
        preset: the name the checkpoint is sampled under.
        num_steps: updates of the generator.
        batch_size: real images of one update of the discriminator, over all processes, and samples of one update of
            either network.
        accumulation: in how many parts a process works on its share of a batch, whose gradients are added up. Batch
            norms see one part (of all processes), so the generator's gradient depends on it.
        discriminator_steps: updates of the discriminator before one of the generator.
        generator_rate, discriminator_rate: Adam's, constant up to `decay_after`.
        decay_after: share of the steps after which both rates fall linearly to zero; 1 keeps them.
        adam_epsilon: 1e-6, as launch_BigGAN_deep.sh of ajbrock/BigGAN-PyTorch has it.
        ema_decay: of the moving average of the generator's weights, which is what is kept.
        ema_start: steps before which the average is the weights themselves.
        orthogonal: strength of the orthogonal regularisation of the generator (orthogonal.py).
        mirrored: real images are mirrored at random, for data in which that keeps the label.
        precision: `float32`, or `bfloat16` for autocast.
        storage: `float32` or `float16`, how the checkpoint holds the weights; they are computed with in float32.
        collapse: when training has collapsed.
        standing: the statistics of the norms.
        seed: of the initial weights, the order of the data and all noise.
        threads: intra-op threads; the last bits of a fit depend on it.
    """

    preset: str
    num_steps: int
    batch_size: int
    accumulation: int = 1
    discriminator_steps: int = 1
    generator_rate: float = 1e-4
    discriminator_rate: float = 4e-4
    decay_after: float = 1.0
    adam_epsilon: float = 1e-6
    ema_decay: float = 0.9999
    ema_start: int = 0
    orthogonal: float = 0.0
    mirrored: bool = False
    precision: str = "float32"
    storage: str = "float32"
    collapse: CollapseConfig = CollapseConfig()
    standing: StandingConfig = StandingConfig()
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or not self.preset:
            raise InputError(f"preset is {self.preset!r}, must be a name")
        bounds = {
            "num_steps": (1, 10**9),
            "batch_size": (2, 65536),
            "accumulation": (1, 4096),
            "discriminator_steps": (1, 64),
            "ema_start": (0, 10**9),
            "seed": (0, 2**53 - 1),
            "threads": (1, 1024),
        }
        for name, (low, high) in bounds.items():
            check_integer(name, getattr(self, name), low, high)
        for name in ("generator_rate", "discriminator_rate"):
            check_number(name, getattr(self, name), 1e-9, 10.0)
        check_number("decay_after", self.decay_after, 0.0, 1.0)
        check_number("adam_epsilon", self.adam_epsilon, 1e-16, 1.0)
        check_number("ema_decay", self.ema_decay, 0.0, 0.999999)
        check_number("orthogonal", self.orthogonal, 0.0, 10.0)
        if type(self.mirrored) is not bool:
            raise InputError(f"mirrored is {self.mirrored!r}, allowed: true, false")
        check_precision(self.precision)
        if self.storage not in ("float32", "float16"):
            raise InputError(f"storage is {self.storage!r}, allowed: float32, float16")
        if self.batch_size % self.accumulation:
            raise InputError(f"accumulation is {self.accumulation}, must divide batch_size, {self.batch_size}")

    @property
    @abc.abstractmethod
    def betas(self) -> tuple[float, float]:
        """Adam's, of both networks."""

    @property
    @abc.abstractmethod
    def image_size(self) -> int:
        """Sides of the images."""

    @abc.abstractmethod
    def build(self, *, num_classes: int, channels: int) -> tuple[GeneratorNetwork, nn.Module]:
        """Return generator and discriminator, weights not yet drawn; this one scores (images, labels), [N] float32."""

    @abc.abstractmethod
    def prepare(self, generator: GeneratorNetwork, discriminator: nn.Module) -> None:
        """Draw the weights from torch's generator and give them the spectral norms that they train with."""

    def rate_factor(self, step: int) -> float:
        """Return what both rates are multiplied by at a step (0, 1, ...)."""
        begin = self.decay_after * self.num_steps
        return 1.0 if step < begin else (self.num_steps - step) / (self.num_steps - begin)
