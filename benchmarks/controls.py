"""Generators that are wrong on purpose, on real images: what CAS says of them, and what the search for copies says.

copycat    the training images themselves, in another order
noisy      the training images with noise of 8 grey levels: no file and no pixel in common
moved      the training images, each moved by a pixel in a direction of its own
shuffled   the images of a set, each with a label drawn from all of them
collapsed  one class is one image with noise of 2 grey levels
honest     the set itself

Writes a row per control into benchmarks/controls.md under a dated heading; the last line printed is JSON. The set that
`honest` is and the other two are made from is a replica, so the script needs one of the same dataset.
"""

import argparse
import datetime
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caskit.evaluate.duplicates.folder import faults
from caskit.evaluate.duplicates.inspection import DuplicatesConfig, inspect_duplicates
from caskit.evaluate.fidelity.extractor import open_extractor
from caskit.evaluate.score import score
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.sources.recognise import Options, recognise
from caskit.train.presets import get_recipe
from caskit.train.training import train

RESULTS = Path(__file__).with_suffix(".md")
CPU = torch.device("cpu")


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance of pixels as vectors [N, ...], 0 to 1 each: FID with the identity as extractor."""
    (mean_a, cov_a), (mean_b, cov_b) = (
        (flat.mean(axis=0), np.cov(flat.T)) for flat in (one.reshape(len(one), -1) / 255 for one in (first, second))
    )
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def controls(replica: FrozenSet, real_train: FrozenSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of every control by name."""
    generator = np.random.default_rng(0)
    images, labels = replica.arrays()
    real, real_labels = real_train.arrays()
    turn = generator.permutation(len(real))
    moved = real.copy()
    for direction, (down, right) in enumerate(((0, 1), (1, 0), (0, -1), (-1, 0))):
        moved[direction::4] = np.roll(real[direction::4], (down, right), axis=(1, 2))
    noisy = (real + generator.normal(0, 8, real.shape)).clip(0, 255).astype(np.uint8)
    collapsed = images.copy()
    rows = np.flatnonzero(labels == 1)
    one = images[rows[0]] + generator.normal(0, 2, (len(rows), *images.shape[1:]))
    collapsed[rows] = one.clip(0, 255).astype(np.uint8)
    return {
        "honest": (images, labels),
        "copycat": (real[turn], real_labels[turn]),
        "noisy": (noisy, real_labels),
        "moved": (moved, real_labels),
        "shuffled": (images, generator.permutation(labels)),
        "collapsed": (collapsed, labels),
    }


def main() -> None:
    """Make the controls, score and search each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replica", required=True)
    parser.add_argument("--real-train", required=True)
    parser.add_argument("--real-test", required=True)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--first", type=int, default=None, help="search among the first images only")
    parser.add_argument("--only", nargs="*", metavar="CONTROL", help="these controls, not all")
    arguments = parser.parse_args()
    real_train, real_test = open_set(arguments.real_train), open_set(arguments.real_test)
    replica, recipe = open_set(arguments.replica), get_recipe(arguments.recipe)
    test = real_test.arrays()[0]
    floor = frechet(real_train.arrays()[0], test)
    results: dict[str, Any] = {"real": {"frechet": floor}}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        train(real_train, recipe, seed=0, out=root / "real", device=CPU)
        real = score(root / "real", real_test, out=root / "real-score", device=CPU)
        results["real"]["top1"] = real["top1"]["value"]
        extractor = open_extractor("classifier", weights=root / "real", device=CPU)
        for name, (images, labels) in controls(replica, real_train).items():
            if arguments.only and name not in arguments.only:
                continue
            np.savez(root / f"{name}.npz", images[..., 0] if images.shape[-1] == 1 else images, labels)
            import_source(recognise(root / f"{name}.npz", Options(classes=real_train.classes)), root / name)
            data = open_set(str(root / name))
            train(data, recipe, seed=0, out=root / f"{name}-classifier", device=CPU)
            record = score(
                root / f"{name}-classifier", real_test, out=root / f"{name}-score", baseline=root / "real-score",
                device=CPU,
            )  # fmt: skip
            config = DuplicatesConfig(
                first=arguments.first if arguments.first and arguments.first < len(data) else None
            )
            found = inspect_duplicates(
                data, real_train=real_train, real_test=real_test, config=config, extractor=extractor, device=CPU
            ).record
            results[name] = {
                "metric": record["metric"],
                "top1": record["top1"]["value"],
                "failed": record["statistics"]["classes"]["failed"],
                "frechet": frechet(images, test),
                "exact": found["train"]["exact"]["share"],
                "close": found["train"]["close"]["share"],
                "features_close": found["features"]["train"]["close"]["share"],
                "null_features_close": found["features"]["train"]["null"]["close"]["share"],
                "null_close": found["train"]["null"]["close"]["share"],
                "faults": faults(found),
            }
            print(name, json.dumps(results[name]), flush=True)
    write(results, arguments)
    print(json.dumps({name: {k: v for k, v in row.items() if k != "faults"} for name, row in results.items()}))


def write(results: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Add a dated section to the results."""
    lines = [
        "",
        f"## {datetime.date.today()}, recipe {arguments.recipe}, load {os.getloadavg()[0]:.1f}, {platform.machine()}",
        "",
        f"Real: top-1 {100 * results['real']['top1']:.1f} %, Frechet distance of training to test pixels "
        f"{results['real']['frechet']:.3f}. One training each.",
        "",
        "| control | top-1, % | Frechet distance, pixels | equal, % | close, % | close by features, % | failed classes "
        "| faults found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        if name != "real":
            numbers = (
                f"{100 * row['top1']:.1f} | {row['frechet']:.3f} | {100 * row['exact']:.1f} | {100 * row['close']:.1f} "
                f"| {100 * row['features_close']:.1f}"
            )
            failed = ", ".join(row["failed"]) or "none"
            lines.append(f"| {name} | {numbers} | {failed} | {' '.join(row['faults']) or 'none'} |")
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else f"# Controls\n\n{__doc__}"
    RESULTS.write_text(old.rstrip() + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
