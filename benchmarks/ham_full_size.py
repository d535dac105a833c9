"""The full-size ham on a CPU: all networks, one training step of each, one image, peak memory.

Every part runs in a process of its own, one after the other, so that its peak memory is its own. Images and codes are
random and the weights untrained: this shows that the thing exists, fits into memory and what it costs.

`python benchmarks/ham_full_size.py` needs 12 GB of memory. Sampling draws the first `--positions` values of each map
(0: all of them) with the cached sampler and the streams of a plan; where that is not all, the time of a whole map is
extrapolated, the rest of the map is filled with uniform codes, and the generator decodes that. The last line is one
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
from caskit.gen.autoregressive.sampler import CachedSampler
from caskit.gen.ham.abstraction import AbstractionTask
from caskit.gen.ham.config import FitConfig
from caskit.gen.ham.costs import network_costs, stages_of
from caskit.gen.ham.presets import PRESETS
from caskit.gen.ham.sampler import draw_name, generator_class
from caskit.gen.ham.weights import build_decoder, build_level, build_networks, build_prior
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.seeds import stream_key
from caskit.train.engine import ALONE

SHAPES = {"imagenet-128": (128, 3, 1000), "cifar-32": (32, 3, 10)}  # side, channels, classes
NUM_SAMPLES = 1
CPU = torch.device("cpu")


def step_level(config: FitConfig, index: int, side: int, channels: int) -> dict[str, Any]:
    """Do one training step of an encoder; two images, as features are standardised over them."""
    level = config.levels[index]
    level = dataclasses.replace(level, abstraction=dataclasses.replace(level.abstraction, batch_size=2))
    model = build_level(config, index, channels=channels)
    if index == 0:
        inputs = torch.randn(2, channels, side, side)
    else:
        side //= config.strides[index - 1]
        inputs = torch.randint(model.below_codes, (2, side, side))
    config = dataclasses.replace(config, precision="float32")
    task = AbstractionTask(model, lambda ids: inputs[ids], 2, level, config, world=ALONE)
    return timed(task, 2, model.project.weight)


def step_prior(config: FitConfig, part: str, side: int, channels: int, classes: int) -> dict[str, Any]:
    """Do one training step of a decoder or of the prior, with the moving average of its weights."""
    shape, rng = (side, side, channels), np.random.default_rng(0)
    above = None
    if part == "prior":
        model = build_prior(config, shape=shape, num_classes=classes)
    else:
        index = int(part.removeprefix("decoder")) - 1
        model = build_decoder(config, index, shape=shape, num_classes=classes)
        places = side // config.strides[index]
        above = rng.integers(0, model.condition_codes, (1, places, places)).astype(np.uint16)
    stage = stages_of(config)[part]
    task = PriorTask(
        model,
        rng.integers(0, model.num_codes, (1, model.height, model.width)).astype(np.uint16),
        np.zeros(1, np.int64),
        above,
        num_steps=1,
        batch_size=1,
        optimizer=stage.optimizer,
        learning_rate=lambda step: stage.learning_rate,
        ema_decay=stage.ema_decay,
        seed=0,
        precision="float32",
        world=ALONE,
    )
    return timed(task, 1, model.logits.weight)


def timed(task: AbstractionTask | PriorTask, num: int, weight: Tensor) -> dict[str, Any]:
    """Run a step; its loss, wall and processor seconds."""
    before = weight.detach().clone()
    wall, busy = time.perf_counter(), time.process_time()
    loss = float(task.step(0)["loss"])
    assert np.isfinite(loss), "the loss is not finite"
    assert not torch.equal(before, weight), "the optimizer moved nothing"
    return {
        "batch": num,
        "loss": round(loss, 4),
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - busy, 2),
    }


class Enough(Exception):
    """Raised to leave a sampler early."""


@torch.no_grad()
def sample(config: FitConfig, side: int, channels: int, classes: int, positions: int) -> dict[str, Any]:
    """Draw all maps of an image and decode it with the generator itself."""
    shape = (side, side, channels)
    generator = generator_class(config)(
        build_networks(config, shape=shape, num_classes=classes),
        classes=ClassList.from_names([f"class {i}" for i in range(classes)]),
        shape=shape,
        settings=Settings(),
        device=CPU,
    )
    labels = np.arange(NUM_SAMPLES)
    streams = Streams([stream_key(0, int(label), 0, 0) for label in labels])
    maps: dict[str, Tensor] = {}
    result: dict[str, Any] = {"images": NUM_SAMPLES}
    for name, level in generator._levels.items():
        uniforms = torch.from_numpy(streams.uniform(draw_name(name), (level.prior.height, level.prior.width)))
        total = level.prior.height * level.prior.width
        wanted = min(positions or total, total)
        codes = (uniforms * level.prior.num_codes).long()  # what is not drawn stays uniform
        began: list[float] = []

        def draw(logits: Tensor, row: int, column: int) -> Tensor:
            began.append(time.process_time())  # noqa: B023
            if len(began) > wanted:  # noqa: B023
                raise Enough
            codes[:, row, column] = choose(DrawRule().cumulative(logits), uniforms[:, row, column])  # noqa: B023
            return codes[:, row, column]  # noqa: B023

        sampler = CachedSampler(level.prior, NUM_SAMPLES)
        start = time.process_time()
        with contextlib.suppress(Enough):
            sampler.run(torch.from_numpy(labels), None if level.above is None else maps[level.above], draw)
        busy = time.process_time() - start
        maps[name] = codes
        result[name] = {
            "positions_drawn": wanted,
            "positions": total,
            "cpu_ms_per_position": round(1e3 * busy / wanted, 3),
            "whole_map_cpu_s": round(busy / wanted * total, 1),
            "extrapolated": wanted < total,
        }
    images, finite = generator.decode_codes(labels, {name: codes.numpy() for name, codes in maps.items()})
    assert finite.all() and images.shape == (NUM_SAMPLES, *shape)
    result["image"] = {"mean": round(float(images.mean()), 2), "std": round(float(images.std()), 2)}
    return result


def run_part(part: str, preset: str, positions: int) -> dict[str, Any]:
    """Run one part in this process; its result with its peak memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, (side, channels, classes) = PRESETS[preset](), SHAPES[preset]
    if part.startswith("level"):
        result = step_level(config, int(part.removeprefix("level")) - 1, side, channels)
    elif part == "sample":
        result = sample(config, side, channels, classes, positions)
    else:
        result = step_prior(config, part, side, channels, classes)
    return {**result, "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)}


def main() -> None:
    """Run the parts, print a line for each and one JSON object."""
    parser = argparse.ArgumentParser(description="The full-size ham on a CPU.")
    parser.add_argument("--preset", default="imagenet-128", choices=sorted(SHAPES))
    parser.add_argument("--positions", type=int, default=0, help="values to draw of each map (default 0, all)")
    parser.add_argument("--part", help="run only this part, in this process")
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
    for part in (*costs, "sample"):
        command = [sys.executable, __file__, "--preset", options.preset, "--positions", str(options.positions)]
        done = subprocess.run([*command, "--part", part], check=True, stdout=subprocess.PIPE, text=True)
        result[part] = json.loads(done.stdout.splitlines()[-1])
        print(part, json.dumps(result[part]), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
