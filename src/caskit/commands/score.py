"""Test a classifier on a real set and write predictions and score.

Trained on a synthetic set, this is its CAS; trained on a real set, the Real row that a CAS stands beside (--baseline).
With --bayes no classifier is trained: a generator that knows exact likelihoods classifies by Bayes' rule.
"""

import argparse
from pathlib import Path
from typing import Any

from caskit.commands.options import Context, add_allow_code, add_device, add_out
from caskit.commands.sets import open_shown
from caskit.console import meter, print_line
from caskit.manifests.errors import InputError

EXAMPLE = "caskit score --classifier runs/digits/classifier --real runs/digits/real/test --out runs/digits/score"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    judge = parser.add_mutually_exclusive_group(required=True)
    judge.add_argument("--classifier", metavar="DIR", help="folder that `caskit train` wrote")
    judge.add_argument(
        "--bayes", metavar="FAMILY[:PRESET]", help="generator with exact likelihoods, such as pixelcnn, as a classifier"
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="of --bayes: folder of a fit (default: what ships with the preset)"
    )
    parser.add_argument("--real", required=True, metavar="SET", help="set to test on, PATH_OR_URL[@sha256:prefix]")
    parser.add_argument("--baseline", metavar="SCORE_DIR", help="score of the same recipe trained on real images")
    add_allow_code(parser)
    add_out(parser, "folder of the score")
    add_device(parser)


def summary_line(record: dict[str, Any]) -> str:
    """Say metric, top-1 with its interval, and the gap, from the record of score.json."""
    top1 = record["top1"]
    text = f"{record['metric']} top-1 {100 * top1['value']:.2f} % ({100 * top1['low']:.2f} to {100 * top1['high']:.2f})"
    if record["gap_points"] is None:
        return text
    gap, real = record["gap_points"], record["real"]["top1"]["value"]
    return f"{text}, {abs(gap):.2f} points {'below' if gap >= 0 else 'above'} Real's {100 * real:.2f} %"


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Score, and print the result on one line."""
    from caskit.commands.engine import engine_status
    from caskit.evaluate.score import score
    from caskit.train.device import pick_device

    if arguments.bayes is not None:
        from caskit.commands.bayes import run_bayes

        return run_bayes(arguments, context)
    if arguments.checkpoint is not None:
        raise InputError("--checkpoint is of the generator of --bayes; a classifier is named by --classifier")
    device = pick_device(arguments.device)
    with meter() as show, context.stop.watched() as stop:
        record = score(
            Path(arguments.classifier),
            open_shown(arguments.real, show),
            out=Path(arguments.out),
            baseline=None if arguments.baseline is None else Path(arguments.baseline),
            device=device,
            progress=engine_status(show, unit="batches"),
            stop=stop,
        )
    print_line(summary_line(record))
    if context.stage is None:
        print_line(f"next  caskit report {arguments.out} --out FILE.html")
    return 0
