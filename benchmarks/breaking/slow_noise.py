"""What chaos.py samples: `callable:slow_noise:draw`, a small fixed network on normals, and a nap.

The nap makes a run last for minutes on next to no processor time; no byte depends on it.
"""

import os
import time

import numpy as np
import torch

SIDE = 8
_HIDDEN, _LATENT = 32, 16
# Weights without a file: fractions of multiples of an irrational number, between -1 and 1.
_FIRST = torch.arange(_LATENT * _HIDDEN, dtype=torch.float32).mul(0.6180339887).frac().mul(2).sub(1)
_SECOND = torch.arange(_HIDDEN * SIDE * SIDE, dtype=torch.float32).mul(0.7548776662).frac().mul(2).sub(1)


def draw(labels, streams):
    """Return images [N, 8, 8, 1] uint8: brighter for larger labels, textured by the sample's own normals."""
    time.sleep(float(os.environ.get("CASKIT_CHAOS_NAP_S", "0")))
    latent = torch.from_numpy(streams.normal("slow_noise/z", (_LATENT,)).astype(np.float32))
    hidden = torch.tanh(latent @ _FIRST.reshape(_LATENT, _HIDDEN))
    pixels = 8 * (hidden @ _SECOND.reshape(_HIDDEN, SIDE * SIDE)) + 20 * torch.from_numpy(labels)[:, None]
    return pixels.clamp(0, 255).round().to(torch.uint8).reshape(-1, SIDE, SIDE, 1).numpy()
