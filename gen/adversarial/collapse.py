"""Telling that the training of a GAN has collapsed, and keeping the generator of the last look that found it well.

Brock et al. 2019 (section 4) let training collapse and sample an earlier checkpoint. Here three things are watched:

- the diversity of samples of the averaged generator: the variance of pixels within a class over that of the data. It
  goes to zero where all samples of a class become alike, and far above one where they become noise;
- the discriminator's scores over a window of steps: the share that lies beyond the hinge, near one when it tells real
  from generated images at once and the generator gets nothing to learn from, and their size, which explodes;
- numbers that are not finite.

Looks come at fixed steps with fixed noise, and the averages of the window are part of the state that resumes, so a
resumed run comes to the same verdict at the same step.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.adversarial.config import CollapseConfig
from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.standing import batch_moments_used
from caskit.manifests.errors import InputError, RunFailed
from caskit.train.folder import write_atomic

GOOD_NAME = "good.pt"  # the averaged generator at the last look that found it well
VERDICT_NAME = "collapse.json"  # there once a fit has collapsed; it is not trained on
NOISE_SEED = 20_190_528  # of the samples that are looked at, the same in every fit
LOOK_BATCH = 64


class Collapsed(RunFailed):
    """Training has collapsed; `verdict` says at which step and by which measure."""

    def __init__(self, verdict: "Verdict") -> None:
        super().__init__(verdict.text())
        self.verdict = verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a fit has collapsed by.

    Attributes:
        step: updates done.
        measure: name of what was measured.
        value: it, as text: it may not be finite.
        allowed: what it should have been.
        kept: updates of the last good generator; None, there is none.
    """

    step: int
    measure: str
    value: str
    allowed: str
    kept: int | None

    def text(self) -> str:
        """Say it in one line."""
        kept = "no look before it passed, nothing is kept"
        if self.kept is not None:
            kept = f"the checkpoint is the generator of step {self.kept}, the last that passed"
        return (
            f"training collapsed at step {self.step}: {self.measure} is {self.value}, allowed: {self.allowed}; {kept}; "
            "another folder with lower rates, another seed or fewer steps is a new fit"
        )


@dataclasses.dataclass
class Watch:
    """Averages over the window, and the last look.

    Attributes:
        saturation: share of the discriminator's scores beyond the hinge.
        score: their mean absolute value.
        diversity: of the last look, -1 before the first.
        good: updates at the last look that passed, -1 before.
    """

    saturation: float = 0.0
    score: float = 0.0
    diversity: float = -1.0
    good: int = -1

    def average(self, saturation: float, score: float, window: int) -> None:
        """Take in a step. Averages begin at zero, so one step alone cannot make them large."""
        self.saturation += (saturation - self.saturation) / window
        self.score += (score - self.score) / window

    def fault(self, config: CollapseConfig, step: int, numbers: Mapping[str, float]) -> tuple[str, str, str] | None:
        """Return measure, value and what is allowed where something is wrong after `step` updates.

        Args:
            config: the bounds.
            step: updates done.
            numbers: of this step, all of which have to be finite.
        """
        for name, number in numbers.items():
            if not math.isfinite(number):
                return name, str(number), "finite numbers"
        if self.saturation > config.max_saturation:
            return "saturation of the discriminator", f"{self.saturation:.4f}", f"up to {config.max_saturation}"
        if self.score > config.max_score:
            return "the discriminator's mean absolute score", f"{self.score:.6g}", f"up to {config.max_score:g}"
        low, high = config.min_diversity, config.max_diversity
        judged = step >= config.grace or not math.isfinite(self.diversity)
        if judged and self.diversity != -1.0 and not low <= self.diversity <= high:
            return "diversity of samples within classes", f"{self.diversity:.4f}", f"{low} to {high} times the data's"
        return None

    def state_dict(self) -> dict[str, float]:
        """Return the values."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, state[field.name])


def looked_at(labels: np.ndarray, config: CollapseConfig) -> dict[int, np.ndarray]:
    """Return the sample ids, [n] with n at least 2, by which each class's diversity is known; the first ones of it."""
    found: dict[int, np.ndarray] = {}
    for label in np.unique(labels).tolist():
        ids = np.flatnonzero(labels == label)[: config.samples_per_class]
        if len(ids) > 1:
            found[label] = ids
        if len(found) == config.num_classes:
            break
    if not found:
        raise InputError("no class has two images, collapse could not be told")
    return found


def variance_within(images: Tensor, classes: Tensor) -> float:
    """Return the unbiased variance of pixels within a class, summed over pixels, averaged over classes.

    Args:
        images: [N, C, H, W].
        classes: [N], each at least twice.
    """
    flat = images.double().flatten(1)
    parts = [flat[classes == label].var(dim=0).sum() for label in torch.unique(classes)]
    return float(torch.stack(parts).mean())


@torch.no_grad()
def draw_looked_at(generator: GeneratorNetwork, classes: Tensor) -> Tensor:
    """Draw an image of each label [N] with fixed noise, on the generator's device.

    Norms use the moments of a batch, as in training. Classes are spread evenly over the batches.
    """
    device = generator.device
    noise = torch.Generator().manual_seed(NOISE_SEED)
    latents = torch.randn(len(classes), generator.latent_size, generator=noise)
    order = torch.randperm(len(classes), generator=noise)
    drawn: list[Tensor] = []
    num_batches = max(1, len(classes) // LOOK_BATCH)
    with batch_moments_used(generator):
        for part in order.tensor_split(num_batches):
            drawn.append(generator(latents[part].to(device), classes[part].to(device)).float().cpu())
    images = torch.cat(drawn)
    return images[order.argsort()]


def write_verdict(folder: Path, identity: str, verdict: Verdict) -> None:
    """Write down that a fit has collapsed; `identity` says which fit."""
    text = json.dumps({"identity": identity, **dataclasses.asdict(verdict)}, indent=2, sort_keys=True) + "\n"
    write_atomic(folder / VERDICT_NAME, lambda path: _write_text(path, text))


def read_verdict(folder: Path, identity: str) -> Verdict | None:
    """Return the verdict on a fit, None where there is none.

    Raises:
        InputError: the folder holds that of another fit, or a file that is none of ours.
    """
    path = folder / VERDICT_NAME
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        theirs = record.pop("identity")
        verdict = Verdict(**record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a verdict of caskit, choose another folder or remove the file") from error
    if theirs != identity:
        raise InputError(f"{folder}: holds another fit, which collapsed; choose another folder")
    return verdict


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
