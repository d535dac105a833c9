"""Rejection: of a sample's candidates the one that a pinned classifier gives its label the highest probability is kept.

VQ-VAE-2 (Razavi et al. 2019, arXiv 1906.00446), section 3.3, with a bounded number of candidates. With a threshold the
first candidate that reaches it is kept, without one the best of all. It buys quality with diversity, more so without a
threshold, and a score of what was kept depends on the judge as well as on the generator.
"""

import copy
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.codes import Microbatch
from caskit.gen.errand import run_errand
from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.plan import Plan
from caskit.manifests.rejection import Rejection

if TYPE_CHECKING:
    import torch

    from caskit.train.training import Classifier


class Judge:
    """A trained classifier that scores images, in batches of one size.

    Attributes:
        seconds: spent scoring, since it was made.
    """

    def __init__(self, classifier: "Classifier", *, batch_size: int) -> None:
        self._classifier, self._batch_size = classifier, batch_size
        self.seconds = 0.0

    def score(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the log-probability of each image's label.

        Floating point depends on the shape of a batch, so every batch is full, padded by its last image. The judge
        computes in float32 whatever the generator's precision is, as it does when it is tested.

        Args:
            images: [n, H, W, C] uint8, n at most `batch_size`.
            labels: [n] int64.

        Returns:
            [n] float64, float32 log-softmax widened.

        Raises:
            RunFailed: a score is not finite.
        """
        import torch

        from caskit.train.classifier import prepare  # on use: timm takes seconds to import

        num = len(images)
        assert 0 < num <= self._batch_size, f"{num} images to judge, at most {self._batch_size}"
        began = time.perf_counter()
        classifier = self._classifier
        padded = np.concatenate([images, np.repeat(images[-1:], self._batch_size - num, axis=0)])
        with torch.inference_mode(), torch.autocast(classifier.device.type, enabled=False):
            logits = classifier.model(prepare(padded, classifier.recipe, classifier.device))
            log_probabilities = torch.log_softmax(logits.float(), dim=1)[:num].cpu().numpy()
        scores: np.ndarray = log_probabilities[np.arange(num), labels].astype(np.float64)
        self.seconds += time.perf_counter() - began
        if not np.isfinite(scores).all():
            raise RunFailed(f"{classifier.path}: the judge's output is not finite; train it again")
        return scores


def make_rejection(
    candidates: int, folder: Path, checkpoint: Checkpoint, *, threshold: float | None = None
) -> Rejection:
    """Return a plan's rejection by the classifier in `folder`; see `Rejection` for candidates and threshold.

    Raises:
        InputError: a number that is not allowed, no classifier there, or one of other images than the checkpoint's.
    """
    from caskit.train.training import read_run  # on use: it holds torch

    record, run = checkpoint.record, read_run(folder)
    rejection = Rejection(candidates=candidates, classifier_id=run["classifier_id"], threshold=threshold)
    classes = [{"id": i, "name": n} for i, n in zip(checkpoint.classes.ids, checkpoint.classes.names, strict=True)]
    check_classifier(folder, run, classes, record["height"], record["width"], record["channels"], "the generator")
    return rejection


def check_judge(plan: Plan, folder: Path | None) -> None:
    """Raise InputError unless `folder` holds the classifier that the plan's rejection names, or neither is given."""
    rejection = plan.rejection
    if rejection is None:
        if folder is not None:
            raise InputError(f"{folder}: a classifier is given, but the plan has no rejection to use it in")
        return
    if folder is None:
        raise InputError(
            f"the plan keeps the {rejection.words} by classifier {rejection.classifier_id}; "
            "its folder has to be given (--classifier)"
        )
    run_errand(_check_named, plan, rejection, folder)


def _check_named(plan: Plan, rejection: Rejection, folder: Path) -> None:
    from caskit.train.training import MODEL_NAME, read_run

    if importlib.util.find_spec("timm") is None:
        raise _no_judging("timm")
    run = read_run(folder)
    if run["classifier_id"] != rejection.classifier_id:
        raise InputError(
            f"{folder}: classifier_id is {run['classifier_id']}, "
            f"the rejection of the plan asks for {rejection.classifier_id}"
        )
    if not (folder / MODEL_NAME).is_file():
        raise InputError(f"{folder / MODEL_NAME}: no such file, the classifier is not whole")
    check_classifier(folder, run, plan.to_json()["classes"], plan.height, plan.width, plan.channels, "the plan")


def _no_judging(package: str | None) -> InputError:
    return InputError(
        f"rejection needs the package {package} wherever samples are drawn: pip install 'caskit[train]'; "
        "`caskit sample --best-of 1` takes the first draws"
    )


def check_classifier(
    folder: Path, run: dict[str, Any], classes: list[dict[str, str]], height: int, width: int, channels: int, whose: str
) -> None:
    """Raise InputError unless a classifier, whose run.json is `run`, is one of these classes and images."""
    from caskit.train.recipes import Recipe  # on use: it holds torch

    if run["classes"] != classes:
        raise InputError(f"{folder}: the classifier's class list is not that of {whose}")
    recipe = Recipe.from_json(run["recipe"])
    sides = (recipe.resolution, recipe.resolution) if recipe.crop == "none" else (width, height)  # it crops any
    theirs, ours = (*sides, run["channels"]), (width, height, channels)
    if theirs != ours:
        shown = " and ".join("{}x{} with {} channels".format(*image) for image in (theirs, ours))
        raise InputError(f"{folder}: the classifier's images and those of {whose} differ: {shown}")


def load_judge(plan: Plan, folder: Path | None, device: "torch.device") -> Judge | None:
    """Load the classifier of a plan's rejection; None for a plan without.

    Raises:
        InputError: see `check_judge`; or its weights or timm are not there.
        IntegrityError: its weights are not those that were written.
    """
    check_judge(plan, folder)
    if plan.rejection is None or folder is None:
        return None
    from caskit.train.training import load_classifier

    try:
        classifier = load_classifier(folder, device=device)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file, the classifier is not whole") from error
    except ModuleNotFoundError as error:
        raise _no_judging(error.name) from error
    return Judge(classifier, batch_size=plan.microbatch_size)


class Best:
    """The best candidates so far of some samples.

    Attributes:
        images: [n, H, W, C] uint8.
        finite: [n] bool, False where no candidate was finite so far; then the sample's other values mean nothing.
        attempts: [n] int64, of the candidate that leads.
        scores: [n] float64, its score.
        codes: what its images were decoded from, if they are recorded.
    """

    def __init__(self, num: int, plan: Plan) -> None:
        self.images = np.zeros((num, plan.height, plan.width, plan.channels), dtype=np.uint8)
        self.finite = np.zeros(num, dtype=np.bool_)
        self.attempts = np.zeros(num, dtype=np.int64)
        self.scores = np.full(num, -np.inf)
        self.codes: dict[str, np.ndarray] | None = None

    def offer(self, attempt: int, candidates: Microbatch, judge: Judge, labels: np.ndarray) -> None:
        """Compare one candidate of each sample with the one that leads; of equal scores the earlier attempt stays."""
        images, finite = candidates.images, candidates.finite
        if self.codes is None and candidates.codes is not None:
            self.codes = {name: np.zeros_like(maps) for name, maps in candidates.codes.items()}
        if not finite.any():
            return
        # What stands in an image that is not finite is anybody's guess, the judge gets zeros instead.
        seen = np.where(finite[:, None, None, None], images, np.uint8(0))
        scores = judge.score(seen, labels)
        better = finite & (scores > self.scores)
        self.images[better], self.scores[better], self.attempts[better] = images[better], scores[better], attempt
        for name, maps in (candidates.codes or {}).items():
            assert self.codes is not None, "made above"
            self.codes[name][better] = maps[better]
        self.finite |= finite

    def take(self, chosen: np.ndarray | slice) -> "Best":
        """Return what leads for those of the samples that `chosen` says."""
        part = copy.copy(self)
        part.images, part.finite = self.images[chosen], self.finite[chosen]
        part.attempts, part.scores = self.attempts[chosen], self.scores[chosen]
        if self.codes is not None:
            part.codes = {name: maps[chosen] for name, maps in self.codes.items()}
        return part

    @staticmethod
    def joined(parts: "Sequence[Best]") -> "Best":
        """Return one of all the samples of at least one, in order; a sample without a draw so far may lack codes."""
        whole = copy.copy(parts[0])
        for name in ("images", "finite", "attempts", "scores"):
            setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
        coded = next((part.codes for part in parts if part.codes is not None), None)
        if coded is not None:
            whole.codes = {
                name: np.concatenate(
                    [
                        np.zeros((len(part.scores), *maps.shape[1:]), maps.dtype)
                        if part.codes is None
                        else part.codes[name]
                        for part in parts
                    ]
                )
                for name, maps in coded.items()
            }
        return whole
