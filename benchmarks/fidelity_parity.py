"""IS, FID and KID on shards beside torch-fidelity's own command line on the same images, unpacked as PNG files.

Run: python benchmarks/fidelity_parity.py. Both are processes of their own, with the same Inception of 2015: random
weights, whose batch norms have seen a batch, so that features differ between images (the published weights, if named
with --weights). `caskit metrics` runs at two batch sizes, neither of them torch-fidelity's. The result goes into
benchmarks/fidelity_parity.md; the last line printed is JSON, {"largest_relative_difference", "seconds_cli",
"seconds_caskit"}. Aim: below 1e-3. `--short` (40 images) writes no file.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from caskit.evaluate.fidelity.subset import take_subset
from caskit.manifests.classes import ClassList
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource

RESULT = Path(__file__).with_suffix(".md")
LIMIT = 1e-3
CLASSES = ClassList.from_names(("red", "green", "blue"))
PRINTED = {  # what torch-fidelity prints, and where metrics.json has it
    "inception_score_mean": ("is", "value"),
    "inception_score_std": ("is", "sd"),
    "frechet_inception_distance": ("fid", "value"),
    "kernel_inception_distance_mean": ("kid", "value"),
    "kernel_inception_distance_std": ("kid", "sd"),
}


def pictures(labels: np.ndarray, seed: int, *, size: int, channels: int, tint: int) -> np.ndarray:
    """Return coarse and fine noise with a tint of the class, [N, size, size, channels] uint8."""
    generator, num = np.random.default_rng(seed), len(labels)
    coarse = generator.integers(0, 150, (num, size // 4, size // 4, channels)).repeat(4, axis=1).repeat(4, axis=2)
    images = coarse + generator.integers(0, 40, (num, size, size, channels))
    images[np.arange(num), :, :, labels % channels] += tint
    return images.astype(np.uint8)


def make_sets(
    folder: Path, num: int, num_real: int, *, size: int = 32, channels: int = 3, seed: int = 0
) -> tuple[FrozenSet, FrozenSet]:
    """Write an imported set that stands for a replica, and a real one, both in several shards; return both."""
    name = f"{num}-{num_real}-{size}-{channels}-{seed}"
    labels = np.arange(num) % len(CLASSES)
    images = pictures(labels, seed + 1, size=size, channels=channels, tint=40)
    np.savez(folder / f"{name}.npz", images if channels == 3 else images[..., 0], labels)
    import_source(recognise(folder / f"{name}.npz", Options(classes=CLASSES)), folder / f"replica-{name}")
    labels = np.sort(np.arange(num_real) % len(CLASSES))  # stored class by class: no beginning is balanced
    source = ArraySource(
        dataset="noise",
        split="train",
        classes=CLASSES,
        files={},
        labels=labels,
        pixels=pictures(labels, seed + 2, size=size, channels=channels, tint=60),
        numbers=np.arange(num_real),
        file="noise",
    )
    ingest(source, folder / f"real-{name}", samples_per_shard=50)
    return open_set(str(folder / f"replica-{name}")), open_set(str(folder / f"real-{name}"))


def unpack(data: FrozenSet, folder: Path) -> Path:
    """Write images as files whose names sort in the order in which caskit measures them; return the folder."""
    folder.mkdir()
    for place, sample in enumerate(take_subset(data, None).ids.tolist()):
        image = data.image(sample)
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / f"{place:06d}.png")
    return folder


def random_weights(path: Path, images: np.ndarray) -> None:
    """Save weights of torch-fidelity's Inception whose features differ between images [N, 32, 32, 3] uint8."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Fresh(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state: object) -> None:  # type: ignore[override]
            """Keep the first weights."""

    torch.save({}, path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Fresh("any", ["logits"], feature_extractor_weights_path=str(path))
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # statistics of one batch
        network.fc.weight.mul_(12)
        network.train()
        with torch.no_grad():
            network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    torch.save(network.state_dict(), path)


def printed_values(record: Mapping[str, Any]) -> dict[str, float]:
    """Return values and deviations of metrics.json by the names that torch-fidelity prints."""
    found = {entry["metric"]: entry for entry in record["metrics"]}
    renamed = {"is": "cs", "fid": "fd", "kid": "kd"}  # by other networks than Inception
    return {
        printed: found[metric if metric in found else renamed[metric]][field]
        for printed, (metric, field) in PRINTED.items()
    }


def timed(command: list[str]) -> tuple[str, float]:
    """Return what a process printed and its seconds."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout, time.monotonic() - started


def main() -> None:
    """Compare, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=300, help="images of the replica (default 300)")
    parser.add_argument("--weights", type=Path, help="published weights; random ones without")
    parser.add_argument("--short", action="store_true", help="40 images, no file")
    arguments = parser.parse_args()
    num = 40 if arguments.short else arguments.num
    size = str(num // 3)  # of KID's subsets
    with tempfile.TemporaryDirectory(prefix="caskit-parity-") as temporary:
        folder = Path(temporary)
        sets = dict(zip(("replica", "real"), make_sets(folder, num, num - num // 6), strict=True))
        pngs = {name: unpack(data, folder / f"{name}-png") for name, data in sets.items()}
        weights = arguments.weights or folder / "inception.pth"
        if arguments.weights is None:
            random_weights(
                weights, np.stack([sets["real"].image(sample) for sample in range(0, len(sets["real"]), 4)][:16])
            )
        cli = [
            sys.executable,
            "-m",
            "torch_fidelity.fidelity",
            "--cpu",
            "--json",
            "--silent",
            "--isc",
            "--fid",
            "--kid",
        ]
        cli += ["--input1", str(pngs["replica"]), "--input2", str(pngs["real"]), "--kid-subset-size", size]
        text, seconds_cli = timed([*cli, "--feature-extractor-weights-path", str(weights), "-b", "50"])
        due = json.loads(text)
        lines, largest, seconds = [], 0.0, 0.0
        for batch_size in (64, 7):
            out = folder / f"metrics-{batch_size}"
            places = {name: data.store.location for name, data in sets.items()}
            ours = [sys.executable, "-m", "caskit", "metrics", places["replica"], "--real", places["real"]]
            ours += ["--weights", str(weights), "--kid-subset-size", size, "--no-cache", "--out", str(out)]
            _, seconds = timed([*ours, "--batch-size", str(batch_size), "--device", "cpu"])
            for printed, value in printed_values(json.loads((out / "metrics.json").read_bytes())).items():
                difference = abs(value - due[printed]) / abs(due[printed])
                largest = max(largest, difference)
                lines.append(f"| {printed} | {batch_size} | {due[printed]:.7g} | {value:.7g} | {difference:.1e} |")
    print("\n".join(lines))
    if not arguments.short:
        write_result(num, lines, largest, "published" if arguments.weights else "random", seconds_cli, seconds)
    print(
        json.dumps(
            {
                "largest_relative_difference": largest,
                "seconds_cli": round(seconds_cli, 1),
                "seconds_caskit": round(seconds, 1),
            }
        )
    )
    if largest > LIMIT:
        raise SystemExit(1)


def write_result(num: int, lines: list[str], largest: float, kind: str, seconds_cli: float, seconds: float) -> None:
    """Write benchmarks/fidelity_parity.md."""
    today = datetime.datetime.now(datetime.UTC).date()
    load, machine = os.getloadavg()[0], f"{platform.machine()}, {os.cpu_count()} cores"
    text = f"""# caskit metrics beside torch-fidelity's command line

{today}, {machine}, load {load:.1f}, python {platform.python_version()}, torch {torch.__version__}.
Command: `python benchmarks/fidelity_parity.py`.
{num} images and {num - num // 6} real ones of 32x32, Inception with {kind} weights.

| printed by torch-fidelity | caskit's batch size | torch-fidelity | caskit | relative difference |
|---|---|---|---|---|
{chr(10).join(lines)}

Largest relative difference {largest:.1e}, allowed {LIMIT:g}.
Seconds, imports included: torch-fidelity {seconds_cli:.1f}, caskit {seconds:.1f} (its last run).
"""
    RESULT.write_text(text)


if __name__ == "__main__":
    main()
