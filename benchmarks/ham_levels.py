"""What each level of a fitted ham holds: bits per dimension on held-out images, and what is decoded from its codes.

`python benchmarks/ham_levels.py --checkpoint DIR --real TEST_SET --figure docs/ham-levels.png` printed ham_levels.md.

Bits per dimension: -log2 p(map | label, map above) over the pixels and channels of the image, means over the first
`--num` images and their standard errors. Codes are a function of the image, so the sum bounds what the model as a whole
takes for an image. The figure has for some images of each class: the image; what the feed-forward auxiliary decoder
makes of its codes; two draws of the autoregressive decoder from the same codes; and a sample of the class beside them,
codes drawn as well. Details of the second column are in the codes; those that differ between the draws are not.
The last line is one JSON object.
"""

import argparse
import datetime
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from caskit.gen import ham
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.ham.config import PIXELS
from caskit.gen.ham.sampler import AbstractingGenerator
from caskit.gen.streams import Streams
from caskit.manifests.seeds import stream_key
from caskit.shards.dataset import open_set

BATCH = 250
GAP, TEXT_HEIGHT, SCALE = 6, 14, 3
PAPER, INK = (255, 255, 255), (40, 40, 40)


def make_streams(labels: np.ndarray, seed: int) -> Streams:
    """Return a stream for each label."""
    return Streams([stream_key(seed, int(label), place, 0) for place, label in enumerate(labels)])


def bits_of(generator: ham.HamGenerator, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return bits per dimension of each level for each image, from the last level down."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in generator.code_shapes}
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        bits = generator.map_bits(labels[part], generator.encode(images[part]))
        for name, values in bits.items():
            found[name].append(values / images[0].size)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def columns_of(generator: ham.HamGenerator, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the figure shows beside the images, [N, H, W, C] uint8 by name."""
    found = {"image": images}
    maps = generator.encode(images)
    if isinstance(generator, AbstractingGenerator):
        found["auxiliary"] = generator.reconstruct(images)[0]
    levels = [name for name in maps if name != PIXELS]
    for place, name in enumerate(levels):
        # Everything down to this level is the image's own; below it is drawn.
        given = {above: maps[above] for above in levels[: place + 1]}
        for seed in (0, 1):
            drawn = generator.sample_codes(labels, make_streams(labels, seed), given=given)
            found[f"from {name}, {seed}"] = generator.decode_codes(labels, drawn)[0]
    found["sample"] = generator.sample(labels, make_streams(labels, 2))[0]
    return found


def sheet(columns: dict[str, np.ndarray]) -> Image.Image:
    """Return the columns side by side, an image a row, split in two halves beside each other."""
    num, height, width = next(iter(columns.values())).shape[:3]
    rows = -(-num // 2)
    cell = (max(width * SCALE, 72) + GAP, height * SCALE + GAP)
    half = len(columns) * cell[0] + 3 * GAP
    picture = Image.new("RGB", (2 * half, TEXT_HEIGHT + 2 * GAP + rows * cell[1]), PAPER)
    draw = ImageDraw.Draw(picture)
    for place, (name, images) in enumerate(columns.items()):
        for side in range(2):
            draw.text((side * half + GAP + place * cell[0], GAP), name, fill=INK)
        for index, pixels in enumerate(images):
            side, row = divmod(index, rows)
            grey = pixels[..., 0] if pixels.shape[2] == 1 else pixels
            enlarged = Image.fromarray(np.ascontiguousarray(grey.repeat(SCALE, axis=0).repeat(SCALE, axis=1)))
            picture.paste(
                enlarged.convert("RGB"), (side * half + GAP + place * cell[0], TEXT_HEIGHT + 2 * GAP + row * cell[1])
            )
    return picture


def chosen(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Return the ids of the first images of each class."""
    return np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)])


def main() -> None:
    """Print the table and write the figure."""
    parser = argparse.ArgumentParser(description="What each level of a fitted ham holds.")
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--real", required=True, help="held-out set, PATH[@sha256:prefix]")
    parser.add_argument("--num", type=int, default=1000, help="images that are measured (default 1000)")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--per-class", type=int, default=2, help="images of each class in the figure (default 2)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(options.checkpoint)
    generator = ham.load(checkpoint, ham.Settings(), torch.device("cpu"))
    images, labels = open_set(options.real).arrays()
    measured = slice(0, options.num)
    bits = bits_of(generator, images[measured], labels[measured])
    total = sum(bits.values())
    print(f"# Bits per dimension of each level, {checkpoint.record['family']}:{checkpoint.record['preset']}\n")
    print(f"{datetime.date.today()}, Python {platform.python_version()}, torch {version('torch')}. Held-out images:")
    print(f"{len(total)} of {options.real}. Checkpoint {checkpoint.checkpoint_id[:16]}.\n")
    print("| map | size | bits per dimension | standard error | bits per code or value |\n|---|---|---|---|---|")
    for name, values in bits.items():
        height, width = generator.code_shapes[name]
        each = values.mean() * images[0].size / (height * width)
        error = values.std() / len(values) ** 0.5
        print(f"| {name} | {height}x{width} | {values.mean():.4f} | {error:.4f} | {each:.3f} |")
    print(f"| all | | {total.mean():.4f} | {total.std() / len(total) ** 0.5:.4f} | |\n")
    result: dict[str, object] = {name: round(float(values.mean()), 4) for name, values in bits.items()}
    result["all"] = round(float(total.mean()), 4)
    if isinstance(generator, AbstractingGenerator):
        for number in range(1, len(bits)):
            again = generator.reconstruct_from(images[measured], number)[0].astype(float)
            error_levels = float(np.abs(again - images[measured]).mean())
            print(f"Auxiliary decoding of codes{number}: {error_levels:.2f} grey levels off in the mean.")
            result[f"auxiliary_error_codes{number}"] = round(error_levels, 3)
    if options.figure:
        shown = chosen(labels, options.per_class)
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        sheet(columns_of(generator, images[shown], labels[shown])).save(options.figure, format="PNG", optimize=True)
        print(f"\nFigure: {options.figure}.")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
