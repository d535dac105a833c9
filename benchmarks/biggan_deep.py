"""BigGAN-deep against pytorch-pretrained-biggan 0.1.1: the same pixels, images per second, memory.

Run: python benchmarks/biggan_deep.py > benchmarks/biggan_deep.md (some minutes and 6 GB on a quiet core; `--short`
within a minute, 256 px only). Needs that package (extra `dev`); an empty module stands in for its cloud client, which
only its downloads use, where that is missing. The weights are those of its own constructor, moved off their initial
values, saved with torch.save and imported from that file. Both sides draw the same z and classes in one process,
alternating, on one thread; times are CPU seconds.

Exits with 1 unless the largest difference of a pixel is below 1e-4 of -1..1 at every size and truncation, in
`as-published` mode, and 256x256 images are drawn at least 1.3 times as fast. The last line is one JSON object.
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.biggan_deep.config import Settings
from caskit.gen.biggan_deep.importing import (
    CHANNELS,
    NUM_CLASSES,
    NUM_STATISTICS,
    PUBLISHED,
    import_generator,
    published_network,
)
from caskit.gen.biggan_deep.inference import FoldedGenerator
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.biggan_deep.sampler import quantise
from caskit.gen.biggan_deep.statistics import TABLE, choose_statistics
from caskit.gen.contract.trial import peak_bytes
from caskit.gen.foreign import read_state_dict

TRUNCATIONS = (0.02, 0.4, 0.5, 0.58, 0.94, 1.0)
DIFFERENCE, RATIO = 1e-4, 1.3
TIMED = "imagenet-256"
CPU = torch.device("cpu")
CLOUD = ("boto3", "botocore", "botocore.exceptions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """The largest difference of a pixel at a truncation, and that its images are images."""

    truncation: float
    difference: float
    deviation: float
    largest: float


def reference_package() -> Any:
    """Import the reference."""
    for name in CLOUD:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].ClientError = OSError  # type: ignore[attr-defined]
    return importlib.import_module("pytorch_pretrained_biggan")


def build_reference(preset: str) -> Any:
    """Build the reference's model of a preset by its constructor, in evaluation."""
    package, network = reference_package(), published_network(preset)
    width = network.width
    layers = [[doubles, before // width, after // width] for before, after, doubles in network.blocks]
    return package.BigGAN(package.BigGANConfig(output_dim=network.image_size, layers=layers)).eval()


@torch.no_grad()
def move_weights(model: Any) -> None:
    """Move every tensor off its initial value, so that maps stay of the order of 1 and images are not saturated."""
    torch.manual_seed(0)
    for module in model.modules():  # a constructor's vectors of a spectral norm are random, its norm then arbitrary
        for hook in module._forward_pre_hooks.values():
            module.train()
            for _ in range(10):
                hook(module, None)
            module.eval()
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            parameter.fill_(0.7)
        elif name == "generator.bn.weight":
            parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
        elif name.endswith("bias"):
            parameter.copy_(0.1 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("running_vars"):
            buffer.copy_(0.75 + 0.5 * torch.rand_like(buffer))
        elif name.endswith("running_means"):
            buffer.copy_(0.2 * torch.randn_like(buffer))


def build_ours(preset: str, state: dict[str, Tensor], truncation: float) -> FoldedGenerator:
    """Fold our generator with the statistics of a truncation, as published."""
    with torch.device("meta"):
        generator = Generator(
            published_network(preset), num_classes=NUM_CLASSES, channels=CHANNELS, num_statistics=NUM_STATISTICS
        )
    generator.load_state_dict(state, assign=True)
    settings = Settings(z_scale=truncation, bn_interpolation="as-published")
    choose_statistics(generator, {"kind": TABLE, "num": NUM_STATISTICS}, settings)
    return FoldedGenerator(generator.eval(), CPU)


def conditions(num: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Draw z before its truncation [N, 128] and labels [N]."""
    noise = torch.Generator().manual_seed(seed)
    latents = torch.randn(num, 128, generator=noise).clamp(-2, 2)
    return latents, torch.randint(NUM_CLASSES, (num,), generator=noise)


def draw_reference(model: Any, latents: Tensor, labels: Tensor, truncation: float) -> Tensor:
    """Draw images [N, 3, H, W] as its documentation says."""
    one_hot = torch.nn.functional.one_hot(labels, NUM_CLASSES).float()
    images: Tensor = model(latents, one_hot, truncation)
    return images


def timed(work: Callable[[], Tensor]) -> float:
    """Return the CPU seconds of a call: other work on the machine weighs less on them than on the clock."""
    start = time.process_time()
    work()
    return time.process_time() - start


@torch.inference_mode()
def compare(preset: str, model: Any, state: dict[str, Tensor], truncations: tuple[float, ...]) -> list[Parity]:
    """Draw an image of both sides at every truncation."""
    results = []
    for place, truncation in enumerate(truncations):
        latents, labels = conditions(1, seed=place)
        expected = draw_reference(model, latents * truncation, labels, truncation)
        images = build_ours(preset, state, truncation)(latents * truncation, labels)
        results.append(
            Parity(
                truncation=truncation,
                difference=float((images - expected).abs().max()),
                deviation=float(expected.std()),
                largest=float(expected.abs().max()),
            )
        )
    return results


@torch.inference_mode()
def measure_speed(model: Any, ours: FoldedGenerator, batch: int, repeats: int) -> tuple[float, float]:
    """Return images per CPU second, the reference's and ours, medians over alternating repeats after one image each."""
    latents, labels = conditions(batch)
    draw_reference(model, latents[:1], labels[:1], 1.0)
    ours(latents[:1], labels[:1])
    theirs_s, ours_s = [], []
    for _ in range(repeats):
        theirs_s.append(timed(partial(draw_reference, model, latents, labels, 1.0)))
        ours_s.append(timed(partial(ours, latents, labels)))
    return batch / statistics.median(theirs_s), batch / statistics.median(ours_s)


@torch.inference_mode()
def compare_batches(ours: FoldedGenerator, num: int) -> tuple[float, int]:
    """Return the largest difference of a pixel, and in levels of 256, between `num` images at once and one by one."""
    latents, labels = conditions(num)
    together = ours(latents, labels)
    single = torch.cat([ours(latents[i : i + 1], labels[i : i + 1]) for i in range(num)])
    levels = np.abs(quantise(together)[0].astype(int) - quantise(single)[0].astype(int))
    return float((together - single).abs().max()), int(levels.max())


def run_alone(side: str, path: Path, batch: int, threads: int) -> None:
    """Draw one batch of 256x256 images with one side in this process and print its peak memory in bytes."""
    torch.set_num_threads(threads)
    latents, labels = conditions(batch)
    with torch.inference_mode():
        if side == "reference":
            model = build_reference(TIMED)
            model.load_state_dict(torch.load(path, weights_only=True))
            draw_reference(model, latents, labels, 1.0)
        else:
            state = import_generator(read_state_dict(path), published_network(TIMED))
            build_ours(TIMED, state, 1.0)(latents, labels)
    print(peak_bytes())


def peak_gb(side: str, path: Path, batch: int, threads: int) -> float:
    """Return the peak memory of one side in a process of its own, in GB."""
    command = [sys.executable, __file__, "--alone", side, str(path), str(batch), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1e9


def processor() -> str:
    """Return the name of the CPU where the system tells it."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return f"{names[0]}, {len(names)} cores"
    return platform.processor() or platform.machine()


def measure(options: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Compare and time everything that was asked for; returns the largest difference and the ratio of speeds."""
    presets = [TIMED] if options.short else list(PUBLISHED)
    truncations = (0.5, 0.58) if options.short else TRUNCATIONS
    worst, ratio = 0.0, 0.0
    print(
        "| preset | truncation | largest difference | standard deviation of pixels | largest pixel |\n"
        + "|---" * 5
        + "|"
    )
    for preset in presets:
        model, path = build_reference(preset), folder / f"{preset}.bin"
        move_weights(model)
        torch.save(model.state_dict(), path)
        state = import_generator(read_state_dict(path), published_network(preset))
        for row in compare(preset, model, state, truncations):
            print(
                f"| {preset} | {row.truncation:g} | {row.difference:.1e} | {row.deviation:.2f} | {row.largest:.2f} |",
                flush=True,
            )
            worst = max(worst, row.difference)
            if not (row.deviation > 0.05 and row.largest < 0.9999):
                sys.exit(f"{preset} at {row.truncation}: images are constant or saturated, this compares nothing")
        if preset == TIMED:
            lines, ratio = time_preset(options, model, build_ours(preset, state, 1.0), path)
        path.unlink()
    print("\n" + "\n".join(lines))
    return worst, ratio


def time_preset(options: argparse.Namespace, model: Any, ours: FoldedGenerator, path: Path) -> tuple[list[str], float]:
    """Time both sides and return the lines to print and the ratio."""
    batches = [4] if options.short else [8, 1]
    lines = ["| images at once | reference, images/s | ours, images/s | ratio |", "|---|---|---|---|"]
    ratios = []
    for batch in batches:
        theirs, mine = measure_speed(model, ours, batch, 3 if options.short else 5)
        ratios.append(mine / theirs)
        lines.append(f"| {batch} | {theirs:.3f} | {mine:.3f} | {mine / theirs:.2f} |")
    num = 2 if options.short else 16
    difference, levels = compare_batches(ours, num)
    lines += ["", f"{num} images at once against one by one: pixels differ by {difference:.1e} of -1..1 at most,"]
    lines += [f"{levels} of 256 levels. Up to {ours.limit} of a microbatch are computed together at this size."]
    if not options.short:
        lines += ["", "| images asked for | peak memory of the reference, GB | ours, GB |", "|---|---|---|"]
        for batch in (1, 16):
            peaks = [peak_gb(side, path, batch, options.threads) for side in ("reference", "ours")]
            lines.append(f"| {batch} | {peaks[0]:.2f} | {peaks[1]:.2f} |")
    return lines, ratios[0]


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description="BigGAN-deep against pytorch-pretrained-biggan.")
    parser.add_argument("--short", action="store_true", help="256 px only, two truncations, smaller batches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--alone", nargs=3, metavar=("SIDE", "FILE", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return run_alone(options.alone[0], Path(options.alone[1]), int(options.alone[2]), options.threads)
    torch.set_num_threads(options.threads)
    command = " ".join(["python", *sys.argv])
    print("# BigGAN-deep beside pytorch-pretrained-biggan 0.1.1\n")
    print(f"{datetime.date.today()}, {processor()}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()},")
    print(f"torch {version('torch')}, threads: {options.threads}, float32. Command: `{command}`.\n")
    with tempfile.TemporaryDirectory() as folder:
        worst, ratio = measure(options, Path(folder))
    print(
        "\nDifferences are of pixels in -1..1, one image per row. Times are CPU seconds, medians, both alternating.\n"
    )
    print(json.dumps({"max_abs_diff": worst, "ratio": round(ratio, 2)}))
    sys.exit(0 if worst < DIFFERENCE and ratio >= RATIO else 1)


if __name__ == "__main__":
    main()
