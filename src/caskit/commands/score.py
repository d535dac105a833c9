"""Test a classifier on a real set and write predictions and score.

Trained on a synthetic set, this is its CAS; trained on a real set, the Real row that a CAS stands beside (--baseline).
With --bayes no classifier is trained: a generator that knows exact likelihoods classifies by Bayes' rule.
"""

import argparse
import sys
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
    parser.add_argument(
        "--duplicates", metavar="DIR", help="what `caskit duplicates` found in the training set, with --real-test"
    )
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


def told_leak(record: dict[str, Any], where: object) -> bool:
    """Say on standard error that a score is no CAS because images of the test set were trained on, and return it."""
    if record["metric"] != "leaked":
        return False
    overlap, searched = record["overlap"], record["duplicates"]
    if overlap is not None and overlap["leaked"]:
        pair = overlap["pairs"][0]
        text = f"{overlap['leaked']:,} images of the test set are among those trained on, as {pair['test']} is, there "
        text += f"called {pair['train']}"
    else:
        text = f"copies of {searched['leaked']:,} images of the test set are among those trained on"
    print(f"caskit: fault: {where}: no CAS: {text}", file=sys.stderr)
    return True


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
            duplicates=None if arguments.duplicates is None else Path(arguments.duplicates),
            device=device,
            progress=engine_status(show, unit="batches"),
            stop=stop,
        )
    print_line(summary_line(record))
    if told_leak(record, arguments.out):
        return 1
    if context.stage is None:
        print_line(f"next  caskit report {arguments.out} --out FILE.html")
    return 0
