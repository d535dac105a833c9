"""Where the time of sampling vqvae2 goes, and how near its priors are to what their arithmetic takes.

`python benchmarks/vqvae2_shares.py` made vqvae2_shares.md beside this file. One thread, as a worker has; every part is
the median of REPEATS microbatches. The last line is one JSON object.
"""

import argparse
import datetime
import hashlib
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from caskit.gen import vqvae2
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.streams import Streams
from caskit.gen.vqvae2.costs import network_costs
from caskit.gen.vqvae2.weights import config_of
from caskit.manifests.codec import Codec
from caskit.manifests.seeds import stream_key
from caskit.shards.codecs import encode
from caskit.shards.writing import ShardWriter

REPEATS = 5


def median_s(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median seconds of a call, after one that is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def matmul_flops(num: int, size: int) -> float:
    """Return the floating-point operations per second of [num, size] @ [size, size] in float32."""
    a, b = torch.randn(num, size), torch.randn(size, size)
    inner = 50
    return 2 * num * size * size * inner / median_s(lambda: [a @ b for _ in range(inner)])


def parts(generator: vqvae2.Vqvae2Generator, num: int, folder: Path) -> dict[str, float]:
    """Return the seconds of each part of a microbatch of `num`, in the order in which a worker comes to them."""
    labels = np.arange(num) % len(generator.classes)
    streams = Streams([stream_key(0, int(label), place, 0) for place, label in enumerate(labels)])
    codes = generator.sample_codes(labels, streams)
    images, _ = generator.decode_codes(labels, codes)
    codec = Codec.of("png")
    encoded = [encode(image, codec) for image in images]

    def pack() -> None:
        writer = ShardWriter(folder / "shard.tar")
        for place, data in enumerate(encoded):
            writer.add(f"c00_{place:06d}", 0, data, codec.extension)
            hashlib.sha256(data).digest()
        writer.close()
        hashlib.sha256((folder / "shard.tar").read_bytes()).digest()

    def draw_uniforms() -> None:
        for draw, shape in zip(vqvae2.DRAWS.values(), generator.code_shapes.values(), strict=True):
            streams.uniform(draw, shape)

    whole = median_s(lambda: generator.sample_codes(labels, streams))
    streams_s = median_s(draw_uniforms)
    return {
        "streams": streams_s,
        "priors": whole - streams_s,
        "decoder": median_s(lambda: generator.decode_codes(labels, codes)),
        "encoding": median_s(lambda: [encode(image, codec) for image in images]),
        "tar and hashing": median_s(pack),
    }


def main() -> None:
    """Time the parts and print the table."""
    parser = argparse.ArgumentParser(description="Shares of the time of sampling vqvae2.")
    parser.add_argument("--checkpoint", type=Path, default=vqvae2.packaged("fashion-mnist"))
    parser.add_argument("--num", type=int, default=vqvae2.MICROBATCH_SIZE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(options.checkpoint)
    record = checkpoint.record
    generator = vqvae2.load(checkpoint, vqvae2.Settings(), torch.device("cpu"))
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        seconds = parts(generator, options.num, Path(folder))
        flops = matmul_flops(options.num, 128)
    costs = network_costs(
        config_of(record),
        height=record["height"],
        width=record["width"],
        channels=record["channels"],
        num_classes=len(checkpoint.classes),
    )
    arithmetic = 2 * (costs["top"].sampling + costs["bottom"].sampling)
    total = sum(seconds.values())
    limit = arithmetic * options.num / flops
    print(f"# Sampling {record['family']}:{record['preset']}: where the time goes\n")
    print(f"{datetime.date.today()}, Python {platform.python_version()}, torch {version('torch')}, one thread.")
    print(f"Command: `python benchmarks/vqvae2_shares.py`, microbatches of {options.num}, medians of {REPEATS}.\n")
    print("| part | ms per image | share |")
    print("|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1e3 * value / options.num:.3f} | {value / total:.1%} |")
    print(f"| all | {1e3 * total / options.num:.3f} | {options.num / total:.0f} images/s |")
    print(
        f"\nThe priors take {arithmetic / 1e9:.3f} GFLOP per image; a [{options.num}, 128] by [128, 128] product runs "
        f"at {flops / 1e9:.0f} GFLOP/s here, so arithmetic alone would take {1e3 * limit / options.num:.2f} ms: the "
        f"priors run at {limit / seconds['priors']:.0%} of that speed. A worker encodes beside the sampling.\n"
    )
    shares = {name: round(value / total, 4) for name, value in seconds.items()}
    print(json.dumps({"images_per_s": round(options.num / total, 1), "shares": shares}))


if __name__ == "__main__":
    main()
