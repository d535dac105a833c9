"""The same labelled images in the forms that readers want: a folder, a frozen set, shards of their own."""

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from caskit.shards.ingest import ingest
from caskit.shards.sources import imagefolder

NUM_CLASSES = 10
NUM_SHARDS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forms:
    """The same images in the forms that readers want.

    Attributes:
        folder: `CLASS/NAME.png` or jpg.
        set: the frozen set.
        lit, mds: folders of litdata's and mosaicml-streaming's shards.
        side: of the images in pixels.
    """

    folder: Path
    set: Path
    lit: Path
    mds: Path
    side: int


def photographs(side: int, num: int) -> Iterator[np.ndarray]:
    """Yield images [side, side, 3] uint8 cut out of one large field with a photograph's spectrum."""
    generator = np.random.default_rng(side)
    size = 1024
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequencies[0, 0] = 1 / size
    waves = [np.fft.rfft2(generator.normal(size=(size, size))) / frequencies**1.3 for _ in range(4)]
    grey, *tints = (np.fft.irfft2(wave, s=(size, size)) for wave in waves)
    field = np.stack([grey + 0.3 * tint for tint in tints], axis=-1)
    field = (field - field.mean()) / field.std()
    for _ in range(num):
        top, left = generator.integers(0, size - side, 2)
        pixels = field[top : top + side, left : left + side] * generator.uniform(40, 70) + generator.uniform(90, 150)
        yield pixels.clip(0, 255).astype(np.uint8)


def fabricate(folder: Path, side: int, num: int) -> None:
    """Write such images, spread over ten classes."""
    for label in range(NUM_CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    for sample, pixels in enumerate(photographs(side, num)):
        image = Image.fromarray(pixels)
        name = folder / f"class{sample % NUM_CLASSES}" / f"{sample:06d}"
        if side < 64:
            image.save(name.with_suffix(".png"))
        else:
            image.save(name.with_suffix(".jpg"), quality=90)


def write_forms(root: Path, side: int, num: int) -> Forms:
    """Write all forms of `num` images below a folder."""
    forms = Forms(folder=root / "folder", set=root / "set", lit=root / "lit", mds=root / "mds", side=side)
    fabricate(forms.folder, side, num)
    ingest(imagefolder.load(forms.folder)["train"], forms.set, samples_per_shard=num // NUM_SHARDS)
    paths = sorted(forms.folder.glob("*/*"))
    samples = [(str(path), int(path.parent.name.removeprefix("class"))) for path in paths]
    litdata: Any = importlib.import_module("litdata")
    for kind in ("bytes", "image"):
        with contextlib.redirect_stdout(sys.stderr):
            litdata.optimize(
                fn=LitSample(kind),
                inputs=samples,
                output_dir=str(forms.lit / kind),
                chunk_bytes="64MB",
                num_workers=1,
                start_method="fork",
            )
    streaming: Any = importlib.import_module("streaming")
    with streaming.MDSWriter(out=str(forms.mds), columns={"image": "bytes", "label": "int"}) as out:
        for path, label in samples:
            out.write({"image": Path(path).read_bytes(), "label": label})
    return forms


class LitSample:
    """Turns (path, label) into what litdata stores: bytes as they are, or its own image type of the same bytes."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, sample: tuple[str, int]) -> dict[str, Any]:
        """Return one sample as litdata takes it."""
        path, label = sample
        if self.kind == "bytes":
            return {"image": Path(path).read_bytes(), "label": label}
        litdata: Any = importlib.import_module("litdata")
        return {"image": litdata.Image(path=path), "label": label}
