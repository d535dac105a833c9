"""What turns images into features: a network with a name, the digest of its weights, and a way to resize."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from caskit.manifests.errors import InputError
from caskit.train.images import Images
from caskit.train.resampling import resize

INCEPTION, CLASSIFIER, TIMM, DINOV2 = "inception-2015", "classifier", "timm:", "dinov2-"
DINOV2_SIZES = {"vits14": "small", "vitb14": "base", "vitl14": "large", "vitg14": "giant"}
PILLOW = ("bicubic", "bilinear")  # of the whole image, filters widen when they shrink
SHOWN_DIGITS = 8
_KNOWN = f"{INCEPTION}, {CLASSIFIER}, {TIMM}NAME, {', '.join(f'{DINOV2}{size}' for size in DINOV2_SIZES)}"  # for errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What features depend on besides the images.

    Attributes:
        name: `inception-2015`, `timm:NAME`, `dinov2-SIZE`, or `classifier`.
        digest: SHA-256 of the file of weights, or the classifier_id; 64 hex digits.
        resize: how an image becomes one of the network's size.
        usual_resize: what is used unless the user chooses another; only another one is part of the title.
        preprocessing: the rest of it: side in pixels, means and deviations; JSON values.
    """

    name: str
    digest: str
    resize: str
    usual_resize: str
    preprocessing: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if re.fullmatch(r"[0-9a-f]{64}", self.digest) is None:
            raise InputError(f"extractor {self.name}: digest {self.digest!r} is not of 64 hex digits")
        if re.fullmatch(r"[\w.:/-]{1,200}", self.name) is None:
            raise InputError(f"extractor {self.name!r}: a name has letters, digits and . : / - only")

    @property
    def title(self) -> str:
        """The extractor as names of metrics have it, `inception-2015@6726825d`."""
        chosen = "" if self.resize == self.usual_resize else f",{self.resize}"
        return f"{self.name}@{self.digest[:SHOWN_DIGITS]}{chosen}"

    @property
    def is_inception(self) -> bool:
        """Whether IS, FID and KID are the names of what is measured with it; of others they are CS, FD and KD."""
        return self.name == INCEPTION

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Identity":
        """Parse what `to_json` gave. Raises InputError or TypeError for anything else."""
        return cls(**value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a network makes of n images.

    Attributes:
        features: [n, D] float32.
        logits: of the classes that the network knows, [n, K] float32; None if it knows none.
    """

    features: np.ndarray
    logits: np.ndarray | None


class Extractor(Protocol):
    """A network that is ready to be fed.

    Attributes:
        identity: what its features depend on.
        one_size: whether it reads images of one size only.
    """

    identity: Identity
    one_size: bool

    def check(self, images: Images, location: str) -> None:
        """Raise InputError unless the network can read these images."""

    def __call__(self, images: Sequence[np.ndarray]) -> Outputs:
        """Return features and logits of images, each [H, W, C] uint8 in its own size."""


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return [H, W, 3] of [H, W, 1, 3 or 4] uint8 as Pillow's convert("RGB") does: grey three times, no alpha."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]


def resized_rgb(images: Sequence[np.ndarray], side: int, interpolation: str) -> np.ndarray:
    """Return whole images as [n, side, side, 3] uint8, resized by Pillow."""
    return np.stack([resize(as_rgb(image), side, interpolation) for image in images])


def check_resize(name: str, chosen: str | None, allowed: Sequence[str]) -> str:
    """Return the way to resize, the first one that is allowed if none was chosen. Raises InputError."""
    if chosen is not None and chosen not in allowed:
        raise InputError(f"extractor {name}: resize {chosen!r} is not known, allowed: {', '.join(allowed)}")
    return chosen or allowed[0]


def open_extractor(
    name: str, *, weights: Path | None, resize: str | None = None, device: torch.device, fetch: bool = True
) -> Extractor:
    """Load an extractor by name.

    Args:
        name: `inception-2015`, `classifier`, `timm:NAME` or `dinov2-SIZE`.
        weights: their file; of a classifier, the folder that `caskit train` wrote. Only inception-2015 can do without:
            then the published file is fetched, as torch-fidelity does.
        resize: None for the usual way.
        device: where to compute.
        fetch: whether anything may be fetched.

    Raises:
        InputError: no such extractor, or its weights are not what the name says.
    """
    if name == INCEPTION:
        from caskit.evaluate.fidelity.inception import Inception

        return Inception(weights, resize=resize, device=device, fetch=fetch)
    if name != CLASSIFIER and not name.startswith((TIMM, DINOV2)):
        raise InputError(f"extractor {name!r} is not known, allowed: {_KNOWN}")
    if weights is None:
        what = "the folder of a trained classifier" if name == CLASSIFIER else "a local .safetensors file"
        raise InputError(f"extractor {name}: needs --weights, {what}; nothing is fetched for it")
    if name == CLASSIFIER:
        from caskit.evaluate.fidelity.judge import Judge

        return Judge(weights, resize=resize, device=device)
    from caskit.evaluate.fidelity.timm_models import TimmModel

    if name.startswith(DINOV2):
        size = name.removeprefix(DINOV2)
        if size not in DINOV2_SIZES:
            raise InputError(f"extractor {name!r} is not known, allowed: {_KNOWN}")
        model = f"vit_{DINOV2_SIZES[size]}_patch14_dinov2"
        return TimmModel(name, model, weights, side=224, resize=resize, device=device)
    return TimmModel(name, name.removeprefix(TIMM), weights, side=None, resize=resize, device=device)
