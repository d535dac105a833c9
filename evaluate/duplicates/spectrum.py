"""Amplitudes of spatial frequencies as features: the same wherever in the frame the object is, and need no weights."""

import hashlib
from collections.abc import Sequence

import numpy as np

from caskit.evaluate.duplicates.pixels import reduced
from caskit.evaluate.fidelity.extractor import Identity, Outputs
from caskit.train.images import Images

SPECTRUM = "spectrum"
SIDE = 32  # pixels; larger images are reduced to it, smaller ones lie in it on their background
_METHOD = b"caskit/spectrum/1"  # raised with whatever changes the features


class Spectrum:
    """Square roots of the Fourier amplitudes of each channel, [n, C * SIDE * (SIDE / 2 + 1)].

    An object that is moved before an even background has the same amplitudes, and so has one that is turned by half.
    The background, which is taken off first, is the mean of the outermost pixels.
    """

    one_size = False
    identity = Identity(name=SPECTRUM, digest=hashlib.sha256(_METHOD).hexdigest(), resize="area", usual_resize="area")

    def check(self, images: Images, location: str) -> None:
        """Take any images."""

    def __call__(self, images: Sequence[np.ndarray]) -> Outputs:
        """Return features of images, each [H, W, C] uint8 in its own size."""
        features = np.stack([_amplitudes(image) for image in images])
        return Outputs(features=features.astype(np.float32), logits=None)


def _amplitudes(image: np.ndarray) -> np.ndarray:
    pixels = (reduced(image, SIDE) if max(image.shape[:2]) > SIDE else image).astype(np.float64)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    spectrum = np.fft.rfft2(pixels - edge.mean(axis=0), s=(SIDE, SIDE), axes=(0, 1))
    amplitudes: np.ndarray = np.sqrt(np.abs(spectrum)).reshape(-1)
    return amplitudes
