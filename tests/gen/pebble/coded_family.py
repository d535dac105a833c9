"""A generator family with recorded codes: a small autoregressive model of two levels, each code by inverting a CDF.

The distribution of a code depends on the label, the codes drawn before it and, below, on the level above; logits are
float32 products of torch, so that batch size and threads can change their last bits, as in a real model. Weights come
from the checkpoint. Importable like pebble_family.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from caskit.gen.checkpoint import Checkpoint, save_checkpoint
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

NAME = "coded"
SAMPLER_VERSION = 1
MICROBATCH_SIZE = 64
CODED = True
NUM_CODES = 12
SHAPES = {"top": (2, 3), "bottom": (4, 3)}
HIDDEN = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """`not_finite_code`: an image whose first top code it is counts as not finite; -1 never."""

    temperature: float = 1.0
    not_finite_code: int = -1

    def __post_init__(self):
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature!r}, must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    preset: str = "tiny"


PRESETS = {"tiny": FitConfig}


class CodedPebbleGenerator:
    def __init__(self, checkpoint, settings):
        record = checkpoint.record
        self.classes, self.settings = checkpoint.classes, settings
        self.height, self.width, self.channels = record["height"], record["width"], record["channels"]
        self.code_shapes = SHAPES
        self.tensors = checkpoint.tensors()

    def sample(self, labels, streams):
        return self.decode_codes(labels, self.sample_codes(labels, streams))

    def sample_codes(self, labels, streams):
        codes = {}
        for level, (height, width) in SHAPES.items():
            uniforms = streams.uniform(f"coded/{level}", (height * width,))
            drawn = np.zeros((len(labels), height * width), dtype=np.uint16)
            for place in range(height * width):
                bounds = self._bounds(level, labels, codes, drawn, place)
                drawn[:, place] = np.minimum((bounds <= uniforms[:, place, None]).sum(axis=1), NUM_CODES - 1)
            codes[level] = drawn.reshape(-1, height, width)
        return codes

    def score_codes(self, labels, streams, codes):
        excess = {}
        for level, (height, width) in SHAPES.items():
            uniforms = streams.uniform(f"coded/{level}", (height * width,))
            flat = codes[level].reshape(len(labels), -1)
            outside = np.zeros((len(labels), height * width))
            rows = np.arange(len(labels))
            for place in range(height * width):
                bounds = self._bounds(level, labels, codes, flat, place)
                bounds[:, -1] = 1.0
                code = np.minimum(flat[:, place], NUM_CODES - 1)
                low = np.where(code == 0, 0.0, bounds[rows, code.astype(np.int64) - 1])
                distance = np.maximum(low - uniforms[:, place], uniforms[:, place] - bounds[rows, code])
                outside[:, place] = np.where(flat[:, place] < NUM_CODES, np.maximum(distance, 0), np.inf)
            excess[level] = outside.reshape(-1, height, width)
        return excess

    def _bounds(self, level, labels, codes, drawn, place):
        """Return the CDF at one position, [N, NUM_CODES] float64."""
        previous = np.minimum(drawn[:, :place], NUM_CODES - 1).astype(np.float32)
        features = np.zeros((len(labels), HIDDEN), dtype=np.float32)
        features[:, 0] = labels
        features[:, 1] = place
        if place:
            features[:, 2] = previous[:, -1]
            features[:, 3] = previous.sum(axis=1) % 7
        if level == "bottom":
            above = np.minimum(codes["top"].reshape(len(labels), -1), NUM_CODES - 1).astype(np.float32)
            features[:, 4:10] = above
        hidden = torch.sin(torch.from_numpy(features) @ self.tensors[f"{level}.in"])
        logits = hidden @ self.tensors[f"{level}.out"] / self.settings.temperature
        return torch.softmax(logits, dim=1).double().cumsum(dim=1).numpy()

    def decode_codes(self, labels, codes):
        features = [np.minimum(codes[level].reshape(len(labels), -1), NUM_CODES) for level in SHAPES]
        inputs = torch.from_numpy(np.concatenate(features, axis=1).astype(np.float32))
        pixels = torch.sigmoid(torch.sin(inputs @ self.tensors["decoder"]) * 2) * 255
        images = pixels.round().to(torch.uint8).numpy()
        finite = codes["top"][:, 0, 0] != self.settings.not_finite_code
        return images.reshape(-1, self.height, self.width, self.channels), finite


def load(checkpoint, settings, device):
    return CodedPebbleGenerator(checkpoint, settings)


def fit(data, config, out, *, device, progress, stop):
    raise AssertionError("coded has no weights to fit; save_coded writes its checkpoint")


def packaged(preset):
    return None


def save_coded(path: Path, *, seed: int = 0, num_classes: int = 5, height: int = 6, width: int = 4) -> Checkpoint:
    """Write a checkpoint for small images of one channel; another seed gives other weights."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    num_inputs = sum(height * width for height, width in SHAPES.values())
    tensors = {"decoder": weights(num_inputs, height * width) * 0.1}
    for level in SHAPES:
        tensors[f"{level}.in"], tensors[f"{level}.out"] = weights(HIDDEN, HIDDEN), weights(HIDDEN, NUM_CODES)
    return save_checkpoint(
        path,
        family="coded",
        preset="tiny",
        config={"preset": "tiny", "seed": seed},
        classes=ClassList.from_names([f"pebble {label}" for label in range(num_classes)]),
        height=height,
        width=width,
        channels=1,
        tensors=tensors,
    )
