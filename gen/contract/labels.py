"""The label's promise: another label gives another image, and a classifier, where there is one, recognises it."""

import math
from pathlib import Path

import numpy as np
import torch

from caskit.gen.contract.probe import OTHER_ORDINAL, Broken, Probe
from caskit.gen.contract.report import Check
from caskit.gen.rejection import check_classifier
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan
from caskit.train.device import num_threads
from caskit.train.training import Classifier, load_classifier, read_run

PER_CLASS = 20  # images that a classifier looks at, about
CHANCE = 1e-3  # of images without any label to be recognised as often: more than that is no evidence
MAX_SHOWN = 3


def open_classifier(folder: Path, plan: Plan, device: torch.device) -> Classifier:
    """Load the classifier that is to tell. Raises InputError if it is one of other images or classes."""
    run = read_run(folder)
    check_classifier(folder, run, plan.to_json()["classes"], plan.height, plan.width, plan.channels, "the generator")
    try:
        return load_classifier(folder, device=device)
    except ModuleNotFoundError as error:
        raise InputError(f"--classifier needs the package {error.name}: pip install 'caskit[train]'") from error


def check_labels(probe: Probe, classifier: Classifier | None) -> Check:
    """Check that the label changes the image, and that a classifier recognises more than chance would give."""
    num_classes = len(probe.plan.classes)
    if num_classes == 1:
        return Check(name="labels", note="there is one class only", checked=False)
    if np.array_equal(probe.images, probe.draw((probe.labels + 1) % num_classes)):
        raise Broken("another label with the same stream gives the same image: pass the labels to the model")
    if classifier is None:
        return Check(
            name="labels", note="another label gives another image; --classifier DIR tells whether it is right"
        )
    labels, predicted = _predictions(probe, classifier)
    num, right = len(labels), int((labels == predicted).sum())
    found = f"the classifier recognises {right} of {num} images ({100 * right / num:.1f} %)"
    if binomial_tail(num, 1 / num_classes, right) > CHANCE:
        raise Broken(
            f"{found}, and would recognise about {num / num_classes:.0f} that ignore their label: pass the labels to "
            f"the model in the order of the class list ({', '.join(probe.plan.classes.names[:MAX_SHOWN])}, ...)"
        )
    return Check(name="labels", note="; ".join([found, *_mistaken(probe.plan, labels, predicted)]))


def _predictions(probe: Probe, classifier: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Draw about PER_CLASS images per class and return labels and predictions, [n] int64 each."""
    from caskit.train.classifier import prepare  # on use: timm takes seconds to import

    size, num_classes = probe.plan.microbatch_size, len(probe.plan.classes)
    num_batches = -(-PER_CLASS * num_classes // size)
    all_labels = np.arange(num_batches * size, dtype=np.int64) % num_classes
    predicted = []
    for start in range(0, len(all_labels), size):
        labels = all_labels[start : start + size]
        images = probe.draw(labels, probe.keys_of(labels, 2 * OTHER_ORDINAL + start))
        with (
            torch.inference_mode(),
            torch.autocast(classifier.device.type, enabled=False),
            num_threads(probe.plan.numerics.threads),
        ):
            logits = classifier.model(prepare(images, classifier.recipe, classifier.device))
        predicted.append(logits.argmax(dim=1).cpu().numpy())
    return all_labels, np.concatenate(predicted)


def _mistaken(plan: Plan, labels: np.ndarray, predicted: np.ndarray) -> list[str]:
    """Name classes most of whose images are taken for one other class: two labels may be exchanged."""
    shown = []
    for label, name in enumerate(plan.classes.names):
        votes = np.bincount(predicted[labels == label], minlength=len(plan.classes))
        winner = int(votes.argmax())
        if winner != label and 2 * int(votes[winner]) > int(votes.sum()):
            shown.append(f"{name} is mostly taken for {plan.classes.names[winner]}")
    return [*shown[:MAX_SHOWN], *(["..."] if len(shown) > MAX_SHOWN else [])]


def binomial_tail(num: int, probability: float, least: int) -> float:
    """Return the probability of at least `least` hits among `num`, each with `probability`."""
    logs = math.log(probability), math.log1p(-probability)
    total = 0.0
    for hits in range(least, num + 1):
        ways = math.lgamma(num + 1) - math.lgamma(hits + 1) - math.lgamma(num - hits + 1)
        total += math.exp(ways + hits * logs[0] + (num - hits) * logs[1])
    return total
