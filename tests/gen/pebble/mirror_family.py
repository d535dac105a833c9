"""A generator family that reconstructs: every image mirrored and coarsened, by integer arithmetic alone.

It stands beside pebble_family for the same reason, and draws what that one draws.
"""

import os

import numpy as np
import pebble_family

NAME = "mirror"
SAMPLER_VERSION = 3
MICROBATCH_SIZE = pebble_family.MICROBATCH_SIZE
NOT_FINITE = "MIRROR_NOT_FINITE"  # sum of the pixels of an image whose reconstruction is not finite
Settings = pebble_family.Settings
FitConfig = pebble_family.FitConfig
PRESETS = pebble_family.PRESETS


class MirrorGenerator(pebble_family.PebbleGenerator):
    def reconstruct(self, images):
        pebble_family._misbehave()
        finite = images.sum(axis=(1, 2, 3), dtype=np.int64) != int(os.environ.get(NOT_FINITE, "-1"))
        return mirrored(images), finite


def mirrored(images):
    return np.ascontiguousarray(images[:, :, ::-1] // 8 * 8)


def load(checkpoint, settings, device):
    return MirrorGenerator(checkpoint, settings)


fit, packaged = pebble_family.fit, pebble_family.packaged
