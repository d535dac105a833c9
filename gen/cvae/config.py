"""What a fit of the family and a sampler of it can be told."""

import dataclasses

from caskit.manifests.errors import InputError


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{name} is {value!r}, allowed: whole numbers {low}..{high}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    # A NaN fails the comparison.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}, allowed: numbers {low}..{high}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Everything that decides a fitted generator besides the data.

    Attributes:
        preset: the name the checkpoint is sampled under.
        latent_size: dimensions of z.
        label_size: dimensions of the label's vector beside z.
        encoder_width: channels of the encoder's first convolution; it grows to four times that.
        decoder_stem, decoder_coarse, decoder_middle, decoder_fine: channels of the decoder before the first
            convolution, at a quarter, at half and at the full side of the image.
        beta: weight of the KL term against a likelihood whose noise is learned (1 is the plain bound).
        num_steps: optimizer steps of the autoencoder.
        batch_size: images per step.
        learning_rate: peak of a linear warm-up over a tenth of the steps, then a cosine to zero (Adam).
        flip: mirror half of the images at random.
        mixture_components: normals per class of the ex-post density.
        mixture_steps: steps of expectation maximisation.
        mixture_shrinkage: points' worth of the class's own covariance in that of every component.
        seed: of the initial weights, the order and the noise.
        threads: intra-op threads; the last bits of a fit depend on it.
    """

    preset: str
    latent_size: int = 48
    label_size: int = 16
    encoder_width: int = 32
    decoder_stem: int = 32
    decoder_coarse: int = 96
    decoder_middle: int = 64
    decoder_fine: int = 24
    beta: float = 1.0
    num_steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 2e-3
    flip: bool = False
    mixture_components: int = 10
    mixture_steps: int = 40
    mixture_shrinkage: float = 24.0
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or not self.preset:
            raise InputError(f"preset is {self.preset!r}, must be a name")
        if type(self.flip) is not bool:
            raise InputError(f"flip is {self.flip!r}, allowed: true, false")
        bounds = {
            "latent_size": (1, 1024),
            "label_size": (1, 1024),
            "encoder_width": (1, 1024),
            "decoder_stem": (1, 1024),
            "decoder_coarse": (1, 1024),
            "decoder_middle": (1, 1024),
            "decoder_fine": (1, 1024),
            "num_steps": (1, 10**9),
            "batch_size": (2, 65536),
            "mixture_components": (1, 1000),
            "mixture_steps": (1, 10**6),
            "seed": (0, 2**53 - 1),
            "threads": (1, 1024),
        }
        for name, (low, high) in bounds.items():
            _check_integer(name, getattr(self, name), low, high)
        _check_number("beta", self.beta, 0.0, 1e6)
        _check_number("learning_rate", self.learning_rate, 1e-9, 10.0)
        _check_number("mixture_shrinkage", self.mixture_shrinkage, 1e-3, 1e6)

    @property
    def decoder_widths(self) -> tuple[int, int, int, int]:
        """The decoder's channels from coarse to fine."""
        return self.decoder_stem, self.decoder_coarse, self.decoder_middle, self.decoder_fine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a fitted generator is sampled.

    Attributes:
        prior: `mixture`, the fitted density of the label's class, or `normal`, the N(0, I) of the variational bound.
        temperature: scale of the normal draw, inside its component for `mixture`; 1 samples the density as fitted.
        noise: scale of the pixels' learned noise; 0 gives the mean images, which are smoother than real ones.
    """

    prior: str = "mixture"
    temperature: float = 1.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        if self.prior not in ("mixture", "normal"):
            raise InputError(f"prior is {self.prior!r}, allowed: mixture, normal")
        _check_number("temperature", self.temperature, 0.0, 10.0)
        _check_number("noise", self.noise, 0.0, 10.0)
