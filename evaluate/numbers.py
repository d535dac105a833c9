"""All numbers of a score, from its predictions, the Real row's record and, where they are at hand, its predictions.

One function makes them and `caskit check` makes them again, so what is written is what can be checked.
"""

from typing import Any

import pyarrow as pa

from caskit.evaluate.answers import Answers, check_same_images
from caskit.evaluate.baseline import beside_real
from caskit.evaluate.bootstrap import Bootstrap
from caskit.evaluate.metrics import summary
from caskit.evaluate.statistics import class_decisions, score_statistics, unpaired_gap
from caskit.manifests.classes import ClassList


def score_numbers(
    predictions: pa.Table,
    classes: ClassList,
    *,
    real: dict[str, Any] | None = None,
    real_predictions: pa.Table | None = None,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Return the fields of score.json that follow from predictions (docs/scores.md).

    Args:
        predictions: the score's.
        classes: the class list.
        real: the record of the Real row, with its `location`; None where there is none.
        real_predictions: the Real row's predictions; None where they are not at hand, which the record then says.
        bootstrap: how to resample; None for the usual way.

    Raises:
        InputError: the two sets of predictions are of other test images.
    """
    answers, real_answers = Answers.of(predictions), None
    if real is not None and real_predictions is not None:
        real_answers = Answers.of(real_predictions)
        check_same_images(real_answers, answers, names=("the Real row", "this score"))
    numbers = summary(predictions, classes)
    numbers |= beside_real(numbers, real)
    block = score_statistics(answers, num_classes=len(classes), real=real_answers, bootstrap=bootstrap)
    if real is not None:
        if real_answers is None:
            block |= unpaired_gap(numbers["top1"], real["top1"])
        rows, counts = class_decisions(numbers["per_class"], answers=answers, real=real_answers)
        numbers["per_class"], block["classes"] = rows, counts
    return {**numbers, "statistics": block}
