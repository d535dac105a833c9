"""A judge of the generator's own: the classifier that a checkpoint brings with it, and how its samples are then kept.

A checkpoint's record may name a rejection (`rejection`, as in a plan); the classifier that it names lies in `judge/`
beside the weights, and `caskit sample` makes plans with that rejection unless it is told otherwise. VQ-VAE-2 (Razavi et
al. 2019, section 3.3) rejects by a classifier trained on the images of the generator; here it is fitted with the
generator, so nothing from outside judges what that draws.
"""

from pathlib import Path

from caskit.gen.checkpoint import JUDGE_FOLDER, Checkpoint
from caskit.manifests.errors import IntegrityError
from caskit.manifests.plan import Plan, read_rejection
from caskit.manifests.rejection import Rejection


def own_rejection(checkpoint: Checkpoint) -> Rejection | None:
    """Return how samples of a checkpoint are kept unless it is said otherwise; None: the first draw is taken."""
    value = checkpoint.record.get("rejection")
    return None if value is None else read_rejection(value, name=str(checkpoint.path))


def own_judge(checkpoint: Checkpoint, rejection: Rejection) -> Path:
    """Return the folder of the classifier that a checkpoint's rejection names.

    Raises:
        InputError: what lies there is no classifier.
        IntegrityError: none is there, its record was edited, or it is another one.
    """
    from caskit.train.training import RUN_NAME, read_run  # on use: it holds torch

    folder = checkpoint.path / JUDGE_FOLDER
    if not (folder / RUN_NAME).is_file():
        raise IntegrityError(f"{folder}: missing, the checkpoint names a judge of its own")
    there = read_run(folder)["classifier_id"]
    if there != rejection.classifier_id:
        raise IntegrityError(f"{folder}: classifier_id is {there}, the checkpoint names {rejection.classifier_id}")
    return folder


def judge_folder(plan: Plan, given: Path | None, checkpoint: Checkpoint) -> Path | None:
    """Return the folder of the classifier that a plan's rejection names: the one given, or the checkpoint's own."""
    if given is not None or plan.rejection is None:
        return given
    own = own_rejection(checkpoint)
    if own is None or own.classifier_id != plan.rejection.classifier_id:
        return None
    return checkpoint.path / JUDGE_FOLDER
