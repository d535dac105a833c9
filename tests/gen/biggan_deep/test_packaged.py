"""The checkpoint that comes with the package is what its preset fits, and draws images of all classes."""

import dataclasses

import numpy as np
import torch

from caskit.gen.biggan_deep import PRESETS, Settings, load, packaged
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.streams import Streams
from caskit.manifests.seeds import stream_key


def test_the_packaged_checkpoint_is_what_the_preset_fits_and_samples() -> None:
    folder = packaged("fashion-mnist")
    assert folder is not None and (folder / "README.md").is_file()
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_000_000
    checkpoint = load_checkpoint(folder)
    preset = PRESETS["fashion-mnist"]()
    stated = dict(checkpoint.record["config"])
    assert stated.pop("trained_steps") == preset.num_steps, "training ended early"
    assert stated.pop("statistics")["kind"] == "standing"
    assert stated == dataclasses.asdict(preset) | {"network": stated["network"]}
    assert stated["network"]["multipliers"] == list(preset.network.multipliers)
    generator = load(checkpoint, Settings(), torch.device("cpu"))
    labels = np.repeat(np.arange(10), 8)
    images, finite = generator.sample(
        labels, Streams([stream_key(0, int(label), i, 0) for i, label in enumerate(labels)])
    )
    assert images.shape == (80, 28, 28, 1) and finite.all()
    spread = images.reshape(10, 8, -1).astype(np.float64).std(axis=1).mean(axis=1)
    assert spread.min() > 5, "a class of equal images"
    assert len({image.tobytes() for image in images}) == 80


def test_presets_without_a_fit_have_no_checkpoint() -> None:
    assert packaged("imagenet-256") is None and packaged("../fashion-mnist") is None
