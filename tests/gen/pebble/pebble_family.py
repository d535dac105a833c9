"""A generator family without a model: integer arithmetic on raw words, so its images do not depend on any float.

The folder is put on PYTHONPATH by tests/gen/conftest.py, so Ray workers import it by name. The environment variables
below make it misbehave; they change no byte of what it draws.
"""

import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np

from caskit.manifests.errors import InputError

NAME = "pebble"
SAMPLER_VERSION = 1
MICROBATCH_SIZE = 64
CODED = False
DELAY = "PEBBLE_DELAY_S"  # sleep per microbatch
FAIL_FOLDER = "PEBBLE_FAIL_FOLDER"  # every file in it makes one microbatch raise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """`not_finite_every`: a sample fails where its first word is a multiple of it; 0 never."""

    brightness: int = 0
    not_finite_every: int = 0

    def __post_init__(self):
        if type(self.brightness) is not int or not 0 <= self.brightness <= 255:
            raise InputError(f"brightness is {self.brightness!r}, allowed: 0..255")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    preset: str = "tiny"


PRESETS = {"tiny": FitConfig}


class PebbleGenerator:
    def __init__(self, checkpoint, settings):
        record = checkpoint.record
        self.classes, self.settings = checkpoint.classes, settings
        self.height, self.width, self.channels = record["height"], record["width"], record["channels"]
        self.base = checkpoint.tensors()["base"].numpy()  # [classes] uint8

    def sample(self, labels, streams):
        """Noise of 5 bits on a class's own grey, a stripe by the counter."""
        time.sleep(float(os.environ.get(DELAY, "0")))
        _misbehave()
        words = streams.words("pixels", self.height * self.width * self.channels)
        noise = (words >> np.uint64(59)).astype(np.uint8).reshape(-1, self.height, self.width, self.channels)
        base = self.base[labels] + np.uint8(self.settings.brightness)
        images = noise + base[:, None, None, None]
        finite = np.ones(len(labels), dtype=np.bool_)
        if self.settings.not_finite_every:
            finite = streams.words("finite", 1)[:, 0] % np.uint64(self.settings.not_finite_every) != 0
        return images, finite


def _misbehave():
    """Raise once for every file in FAIL_FOLDER, deleting it; `always` stays, and `kill` ends the process instead."""
    folder = os.environ.get(FAIL_FOLDER)
    for file in sorted(Path(folder).iterdir()) if folder else ():
        if file.name != "always":
            try:
                file.unlink()
            except FileNotFoundError:  # another worker was faster
                continue
        if file.name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ArithmeticError(f"told to fail by {file.name}")


def load(checkpoint, settings, device):
    return PebbleGenerator(checkpoint, settings)


def fit(data, config, out, *, device, progress, stop, world):
    raise AssertionError("pebble has no weights to fit; save_pebble writes its checkpoint")


def packaged(preset):
    return None
