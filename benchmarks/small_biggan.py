"""A checkpoint of BigGAN-deep with random weights, small enough that sampling costs as little as a real network can.

1000 classes, 32x32 pixels, three channels; 59,000 weights: width 8, multipliers 4, 2, 2, 1, self-attention at 8x8, z
and class vector of 16 dimensions. Its layers, its statistics and its sampler are those of any other checkpoint of the
family; what it draws is noise that differs from class to class. Called as `python small_biggan.py DIR`, so that who
measures the memory of other processes need not hold torch: a child's peak counts what its parent held.
"""

import sys
from pathlib import Path

import torch

from caskit.gen.adversarial.standing import standing_moments
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.checkpoint import Checkpoint, save_checkpoint
from caskit.manifests.classes import ClassList

NUM_CLASSES = 1000
LAYERS = NetworkConfig(width=8, multipliers=(4, 2, 2, 1), attention_after=1, latent_size=16, embedding_size=16)
BATCH, NUM_BATCHES = 64, 8


def write_checkpoint(path: Path) -> Checkpoint:
    """Write the checkpoint into a folder; the weights are those of seed 0 and this version of torch."""
    noise = torch.Generator().manual_seed(0)
    generator = Generator(LAYERS, num_classes=NUM_CLASSES, channels=3)
    with torch.no_grad():
        for parameter in generator.parameters():
            if parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=noise) * (1 if fan == 16 else 2 / fan) ** 0.5)
        assert generator.attention is not None, "the layers have a self-attention"
        generator.attention.gamma.fill_(0.5)
    batches = (
        (
            torch.randn(BATCH, LAYERS.latent_size, generator=noise).clamp(-2, 2),
            torch.randint(NUM_CLASSES, (BATCH,), generator=noise),
        )
        for _ in range(NUM_BATCHES)
    )
    tensors = generator.state_dict()
    for name, (mean, variance) in standing_moments(generator, batches).items():
        tensors[f"{name}.means"], tensors[f"{name}.variances"] = mean.float()[None], variance.float()[None]
    statistics = {"kind": "standing", "z_scale": 1.0, "z_mode": "scale"}
    return save_checkpoint(
        path,
        family="biggan_deep",
        preset="random-32",
        config={"network": LAYERS.to_json(), "statistics": statistics},
        classes=ClassList.from_names([f"class {label}" for label in range(NUM_CLASSES)]),
        height=LAYERS.image_size,
        width=LAYERS.image_size,
        channels=3,
        tensors=tensors,
    )


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]))
