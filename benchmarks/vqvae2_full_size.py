"""The full-size VQ-VAE-2 on a CPU: all networks, one training step of each, four images, peak memory.

Every part runs in a process of its own, one after the other, so that its peak memory is its own. Images and codes are
random and the weights untrained: this shows that the thing exists, fits into memory and what it costs.

`python benchmarks/vqvae2_full_size.py` needs 12 GB of memory. Sampling draws the first `--positions` codes of each map
(0: all of them) with the cached sampler and the streams of a plan; where that is not all, the time of a whole map is
extrapolated, the rest of the map is filled with uniform codes, and the decoder is run on that. The last line is one
JSON object. `--preset cifar-32` is the same in small.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.config import Settings
from caskit.gen.autoregressive.draws import DrawRule, choose
from caskit.gen.autoregressive.fitting import PriorTask
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.sampler import CachedSampler
from caskit.gen.streams import Streams
from caskit.gen.vqvae2.autoencoder import AutoencoderTask
from caskit.gen.vqvae2.config import BOTTOM, TOP, FitConfig
from caskit.gen.vqvae2.costs import network_costs
from caskit.gen.vqvae2.network import Autoencoder
from caskit.gen.vqvae2.presets import PRESETS
from caskit.gen.vqvae2.sampler import DRAWS, Vqvae2Generator
from caskit.gen.vqvae2.weights import build_prior
from caskit.manifests.classes import ClassList
from caskit.manifests.seeds import stream_key
from caskit.train.engine import ALONE

SHAPES = {
    "imagenet-256": (256, 3, 1000),
    "imagenet-128": (128, 3, 1000),
    "cifar-32": (32, 3, 10),
}  # side, channels, classes
PARTS = ("autoencoder", TOP, BOTTOM, "sample")
BATCH = {"autoencoder": 2, TOP: 1, BOTTOM: 1}
NUM_SAMPLES = 4
CPU = torch.device("cpu")


class RandomImages:
    """Stands in for the images of a set."""

    def __init__(self, side: int, channels: int) -> None:
        self.height, self.width, self.channels = side, side, channels
        self._rng = np.random.default_rng(0)

    def batch(self, ids: np.ndarray) -> np.ndarray:
        """Return noise, [N, H, W, C] uint8."""
        return self._rng.integers(0, 256, (len(ids), self.height, self.width, self.channels), dtype=np.uint8)


def prior_of(config: FitConfig, level: str, side: int, classes: int) -> PixelSnail:
    """Build a prior with random weights."""
    return build_prior(config, level, top_shape=(side // config.stride,) * 2, num_classes=classes)


def step_autoencoder(config: FitConfig, side: int, channels: int) -> dict[str, Any]:
    """Do one training step of the first stage."""
    stage = dataclasses.replace(config.autoencoder, batch_size=BATCH["autoencoder"])
    config = dataclasses.replace(config, autoencoder=stage, precision="float32")
    labels = np.zeros(BATCH["autoencoder"], np.int64)
    task = AutoencoderTask(RandomImages(side, channels), labels, 1, config, world=ALONE)  # type: ignore[arg-type]
    return timed(lambda: task.step(0), BATCH["autoencoder"])


def step_prior(config: FitConfig, level: str, side: int, classes: int) -> dict[str, Any]:
    """Do one training step of a prior, with the moving average of its weights."""
    model, num = prior_of(config, level, side, classes), BATCH[level]
    rng = np.random.default_rng(0)
    codes = rng.integers(0, config.num_codes, (num, model.height, model.width)).astype(np.uint16)
    above = codes[:, ::2, ::2] if level == BOTTOM else None
    stage = getattr(config, level)
    task = PriorTask(
        model,
        codes,
        np.arange(num),
        above,
        num_steps=1,
        batch_size=num,
        optimizer=stage.optimizer,
        learning_rate=lambda step: stage.learning_rate,
        ema_decay=stage.ema_decay,
        seed=0,
        precision="float32",
        world=ALONE,
    )
    before = model.logits.weight.detach().clone()
    result = timed(lambda: task.step(0), num)
    assert not torch.equal(before, model.logits.weight), "the optimizer moved nothing"
    return result


def timed(step: Any, num: int) -> dict[str, Any]:
    """Run a step; its loss, wall and processor seconds."""
    wall, busy = time.perf_counter(), time.process_time()
    loss = float(step()["loss"])
    assert np.isfinite(loss), "the loss is not finite"
    return {
        "batch": num,
        "loss": round(loss, 4),
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - busy, 2),
    }


class Enough(Exception):
    """Raised to leave a sampler early."""


class Drawing:
    """Draws codes as the generator does and leaves after so many positions."""

    def __init__(self, uniforms: Tensor, positions: int, num_codes: int) -> None:
        self.codes = (uniforms * num_codes).long()  # what is not drawn stays uniform
        self.seconds: list[tuple[float, float]] = []
        self._uniforms, self._positions = uniforms, positions

    def __call__(self, logits: Tensor, row: int, column: int) -> Tensor:
        """Choose the codes of a position."""
        self.seconds.append((time.perf_counter(), time.process_time()))
        if len(self.seconds) > self._positions:
            raise Enough
        self.codes[:, row, column] = choose(DrawRule().cumulative(logits), self._uniforms[:, row, column])
        return self.codes[:, row, column]


def draw_map(
    model: PixelSnail, level: str, streams: Streams, labels: Tensor, above: Tensor | None, positions: int
) -> Any:
    """Draw the first positions of a map; returns the codes and what they cost."""
    total = model.height * model.width
    positions = min(positions or total, total)
    uniforms = torch.from_numpy(streams.uniform(DRAWS[level], (model.height, model.width)))
    drawing = Drawing(uniforms, positions, model.num_codes)
    start = (time.perf_counter(), time.process_time())
    sampler = CachedSampler(model, NUM_SAMPLES)
    made = time.perf_counter()
    with contextlib.suppress(Enough):
        sampler.run(labels, above, drawing)
    stamps = [*drawing.seconds[:positions], (time.perf_counter(), time.process_time())]
    wall, busy = (stamps[-1][i] - stamps[0][i] for i in (0, 1))
    return drawing.codes, {
        "positions_drawn": positions,
        "positions": total,
        "setup_s": round(made - start[0], 2),
        "wall_s_per_position": round(wall / positions, 4),
        "cpu_s_per_position": round(busy / positions, 4),
        "whole_map_cpu_s": round(busy / positions * total),
        "extrapolated": positions < total,
    }


@torch.no_grad()
def sample(config: FitConfig, side: int, channels: int, classes: int, positions: int) -> dict[str, Any]:
    """Draw codes of both maps and decode four images with the generator itself."""
    autoencoder = Autoencoder(channels, config)
    priors = {level: prior_of(config, level, side, classes).eval() for level in (TOP, BOTTOM)}
    generator = Vqvae2Generator(
        autoencoder=autoencoder.eval(),
        priors=priors,
        classes=ClassList.from_names([f"class {i}" for i in range(classes)]),
        shape=(side, side, channels),
        settings=Settings(),
        device=CPU,
    )
    labels = np.arange(NUM_SAMPLES)
    streams = Streams([stream_key(0, int(label), 0, 0) for label in labels])
    maps: dict[str, np.ndarray] = {}
    result: dict[str, Any] = {"images": NUM_SAMPLES}
    for level in (TOP, BOTTOM):
        above = torch.from_numpy(maps[TOP]) if level == BOTTOM else None
        codes, result[level] = draw_map(priors[level], level, streams, torch.from_numpy(labels), above, positions)
        maps[level] = codes.numpy()
    start = time.perf_counter(), time.process_time()
    images, finite = generator.decode_codes(labels, maps)
    result["decode_wall_s"], result["decode_cpu_s"] = (
        round(now - then, 2) for now, then in zip((time.perf_counter(), time.process_time()), start, strict=True)
    )
    assert finite.all() and images.shape == (NUM_SAMPLES, side, side, channels)
    result["pixels"] = {
        "shape": list(images.shape),
        "mean": round(float(images.mean()), 2),
        "std": round(float(images.std()), 2),
    }
    return result


def run_part(part: str, preset: str, positions: int) -> dict[str, Any]:
    """Run one part in this process; its result with its peak memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, (side, channels, classes) = PRESETS[preset](), SHAPES[preset]
    if part == "autoencoder":
        result = step_autoencoder(config, side, channels)
    elif part == "sample":
        result = sample(config, side, channels, classes, positions)
    else:
        result = step_prior(config, part, side, classes)
    return {**result, "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)}


def main() -> None:
    """Run the parts, print a line for each and one JSON object."""
    parser = argparse.ArgumentParser(description="The full-size VQ-VAE-2 on a CPU.")
    parser.add_argument("--preset", default="imagenet-256", choices=sorted(SHAPES))
    parser.add_argument("--positions", type=int, default=128, help="codes to draw of each map, 0 for all (default 128)")
    parser.add_argument("--part", choices=PARTS, help="run only this part, in this process")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(run_part(options.part, options.preset, options.positions)))
        return
    config, (side, channels, classes) = PRESETS[options.preset](), SHAPES[options.preset]
    costs = network_costs(config, height=side, width=side, channels=channels, num_classes=classes)
    print(
        f"{datetime.date.today()}, Python {platform.python_version()}, torch {version('torch')}, {platform.machine()}"
    )
    result: dict[str, Any] = {"preset": options.preset}
    for name, cost in costs.items():
        print(f"{name}: {cost.parameters:,} parameters, {2 * cost.step:.3e} FLOP per image of a training step")
        result[f"{name}_parameters"] = cost.parameters
    for part in PARTS:
        command = [sys.executable, __file__, "--preset", options.preset, "--positions", str(options.positions)]
        done = subprocess.run([*command, "--part", part], check=True, stdout=subprocess.PIPE, text=True)
        result[part] = json.loads(done.stdout.splitlines()[-1])
        print(part, json.dumps(result[part]), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
