"""A judge of the generator's own: the classifier that a checkpoint brings with it, and how its samples are then drawn.

A checkpoint's record may name a rejection (`rejection`, as in a plan); the classifier it names lies in `judge/` beside
the weights. A plan that is made of such a checkpoint keeps its candidates so unless it is told otherwise. VQ-VAE-2
(Razavi et al. 2019, section 3.3) rejects by a classifier trained on the same data as the generator; here it is fitted
with the generator, on the same images, so nothing from outside judges what it draws.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from caskit.gen.checkpoint import Checkpoint
from caskit.manifests.errors import IntegrityError
from caskit.manifests.plan import Plan
from caskit.manifests.rejection import Rejection
from caskit.train.folder import write_atomic

JUDGE_FOLDER = "judge"  # of a checkpoint's folder
_RUN, _WEIGHTS = "run.json", "model.safetensors"  # of a classifier's folder


def pack_judge(folder: Path, out: Path) -> None:
    """Lay a trained classifier into a checkpoint's folder; its record comes last."""
    target = out / JUDGE_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    write_atomic(target / _WEIGHTS, lambda path: _copy(folder / _WEIGHTS, path))
    record: dict[str, Any] = json.loads((folder / _RUN).read_text())
    # A path of the machine it was fitted on tells nobody else anything; the set's ids stay.
    text = json.dumps({**record, "data_location": None}, indent=2, sort_keys=True) + "\n"
    write_atomic(target / _RUN, lambda path: _write(path, text))


def carry_judge(source: Checkpoint, out: Path) -> Rejection | None:
    """Lay the judge of a checkpoint beside one that is derived from it; returns what its record has to name."""
    rejection = own_rejection(source)
    if rejection is not None:
        pack_judge(source.path / JUDGE_FOLDER, out)
    return rejection


def own_rejection(checkpoint: Checkpoint) -> Rejection | None:
    """Return how samples of a checkpoint are kept unless a plan says otherwise; None: the first is taken.

    Raises:
        IntegrityError: its record names a judge that is not there.
    """
    value = checkpoint.record.get("rejection")
    if value is None:
        return None
    if not (checkpoint.path / JUDGE_FOLDER / _RUN).is_file():
        raise IntegrityError(f"{checkpoint.path / JUDGE_FOLDER}: missing, the checkpoint names a judge of its own")
    return Rejection(**value)


def judge_folder(plan: Plan, given: Path | None, checkpoint: Checkpoint) -> Path | None:
    """Return the folder of the classifier that a plan's rejection names: the one given, or the checkpoint's own."""
    if given is not None or plan.rejection is None:
        return given
    own = own_rejection(checkpoint)
    if own is None or own.classifier_id != plan.rejection.classifier_id:
        return None
    return checkpoint.path / JUDGE_FOLDER


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
