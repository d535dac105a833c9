"""CAS of images that are already there, from Python: `python examples/cas_of_a_folder.py FOLDER OUT`.

FOLDER holds `synthetic`, `train` and `test`, each in a form that `caskit import` reads, for instance class folders.
Without arguments scikit-learn's digits are written out so, some of them with noise in the place of a generator's, and
a short training scores that.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from caskit.evaluate.cas import classification_accuracy_score
from caskit.shards.dataset import open_set
from caskit.shards.imports import bring_in
from caskit.shards.sources.recognise import Options
from caskit.train.presets import get_recipe
from caskit.train.recipes import Recipe


def score(sets: Path, out: Path, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Return mean, sd, min and max over three training seeds of CAS and of its gap to Real."""
    test = open_set(bring_in(str(sets / "test"), kind="real", options=Options(split="test")).reference)
    # Labels of the others are looked up in the class list of the test set.
    train = bring_in(str(sets / "train"), kind="real", options=Options(split="train", classes=test.classes))
    synthetic = bring_in(str(sets / "synthetic"), options=Options(classes=test.classes), channels=test.channels)
    result = classification_accuracy_score(
        synthetic.reference, test, real_train=train.reference, recipe=recipe, seeds=3, out=out
    )
    return {"top1": result["top1"], "gap_points": result["gap_points"]}


def write_example(root: Path) -> None:
    """Write digits as folders of class folders; no digit is in two sets, and the synthetic ones have noise."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16))
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 40, pixels.shape), 0, 255)
    parts = {"test": pixels[:400], "train": pixels[400:1100], "synthetic": noisy[1100:]}
    first = {"test": 0, "train": 400, "synthetic": 1100}
    for name, images in parts.items():
        for number, image in enumerate(images, start=first[name]):
            path = root / name / f"digit {digits.target[number]}" / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(path)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(score(Path(sys.argv[1]), Path(sys.argv[2]), get_recipe("fashion-mnist")))
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_example(Path(folder))
            short = dataclasses.replace(get_recipe("digits"), num_steps=100)
            print(score(Path(folder), Path(folder) / "out", short))
