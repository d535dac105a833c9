"""Check a folder of `caskit score`, `cas` or `metrics`, or a report.json: make every number again, look up every id.

Exit code 1 and one line per fault if a number does not follow from predictions.parquet, or if a set, a classifier or a
Real row is not the one that the score names. What is not at hand is listed. An edit that everything else was made to
fit can only be found by the classifier itself: --again.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.commands.options import Context, add_device
from caskit.console import Status, meter, plain_text, print_line
from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    from caskit.evaluate.check import Report

EXAMPLE = "caskit check runs/digits/score"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "score",
        metavar="SCORE_DIR",
        help="folder that `caskit score`, `caskit cas` or `caskit metrics` wrote, or report.json",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="REPLICA_ID=PATH",
        dest="places",
        help="where a set is that has moved; may be repeated",
    )
    parser.add_argument(
        "--level",
        choices=("receipt", "quick", "full", "deep"),
        default="receipt",
        help="how sets are checked: in full once and by its receipt then (default), or again as `caskit verify` does",
    )
    parser.add_argument(
        "--again", action="store_true", help="let the classifier, or the extractor, see every image once more"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 also if something is not at hand")
    add_device(parser)


def parse_places(texts: list[str]) -> dict[str, str]:
    """Parse `REPLICA_ID=PATH` texts. Raises InputError for another form."""
    places = {}
    for text in texts:
        replica_id, equals, path = text.partition("=")
        if not equals or len(replica_id) != 64 or set(replica_id) - set("0123456789abcdef") or not path:
            raise InputError(f"--set {text!r} is not of the form REPLICA_ID=PATH, the id with 64 hex digits")
        places[replica_id] = path
    return places


def print_report(report: "Report", *, strict: bool) -> int:
    """Print what was compared, what is missing and what differs; return the exit code."""
    agreeing, missing, faults = (report.of(state) for state in ("agrees", "not at hand", "differs"))
    for finding in agreeing:
        print_line(f"agrees  {finding}")
    for finding in missing:
        print_line(f"not at hand  {finding}")
    for finding in faults:
        print(f"caskit: fault: {plain_text(str(finding))}", file=sys.stderr)
    counts = f"{len(agreeing)} things agree, {len(faults)} differ, {len(missing)} not at hand"
    passed = not faults and not (strict and missing)
    print_line(f"{'PASS' if passed else 'FAIL'}: {counts}")
    return 0 if passed else 1


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Check, and print the findings."""
    from caskit.evaluate.check import check_folder
    from caskit.evaluate.check.report import check_report
    from caskit.evaluate.check.sources import Sources
    from caskit.shards.verify import VerifyProgress
    from caskit.train.device import pick_device

    folder = Path(arguments.score)
    if folder.is_file():
        return print_report(check_report(folder), strict=arguments.strict)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    places = parse_places(arguments.places)
    device = pick_device(arguments.device) if arguments.again else None
    with meter() as show:

        def progress(at: VerifyProgress) -> None:
            show(Status(title=f"verify {at.stage}", done=at.done, total=at.total, unit="shards"))

        report = check_folder(folder, Sources(places, level=arguments.level, progress=progress), again=device)
    return print_report(report, strict=arguments.strict)
