"""Images between bytes and what an autoencoder reads and gives, -1..1."""

import numpy as np
import torch
from torch import Tensor


def to_input(images: np.ndarray, device: torch.device) -> Tensor:
    """Return images [N, H, W, C] uint8 as the network's input, [N, C, H, W] float32 in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    # The permuted array is already channels last.
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pixels(output: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Round the network's output [N, C, H, W] to [N, H, W, C] uint8; say which images, [N], were finite."""
    finite = torch.isfinite(output).flatten(1).all(dim=1)
    scaled = torch.nan_to_num(output, nan=0.0, posinf=1.0, neginf=-1.0).add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy(), finite.cpu().numpy()
