"""Look for copies in a set: duplicates, remembered training images, leaked test images; collapsed classes, blanks.

Exit code 1 and one line per fault if there is any. Every pair of images is compared, at a reduced size; what real test
images have to the training set is the null that memory is measured against. Copies that were moved or changed a little
are found by a network's features (--extractor). `caskit score --duplicates DIR` and `caskit cas --duplicates DIR` read
the result, and call no number CAS whose test images were trained on.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context, add_device, add_out, positive_integer
from caskit.commands.sets import open_shown
from caskit.console import Status, meter, print_box, print_line
from caskit.manifests.errors import InputError

EXAMPLE = (
    "caskit duplicates runs/digits/first --real-train runs/digits/real/train --real-test runs/digits/real/test "
    "--out runs/digits/duplicates"
)
COUNTS = {"exact": "equal", "near": "near", "close": "close"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="the set to look at, PATH[@sha256:prefix]")
    parser.add_argument("--real-train", metavar="SET", help="real images that the generator was fitted to")
    parser.add_argument("--real-test", metavar="SET", help="real images that no generator was fitted to")
    parser.add_argument("--first", type=positive_integer, metavar="N", help="look at the first N images only")
    parser.add_argument(
        "--side",
        type=positive_integer,
        metavar="PX",
        help="compare images of PX x PX (default: their own, at most 32 in grey and 18 in colour)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=4.0,
        metavar="G",
        help="images are near up to this rms difference, in grey levels of 255 (default 4)",
    )
    parser.add_argument(
        "--extractor",
        metavar="NAME",
        help="look for near copies too, by features: spectrum (moved objects, no weights), classifier, timm:NAME, "
        "dinov2-vits14, ... or inception-2015",
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="of the extractor: a file, of classifier a folder of caskit train"
    )
    add_out(parser, "folder of duplicates.json and the nearest pairs as pictures")
    add_device(parser)


def result_table(record: dict[str, Any]) -> Table:
    """Lay out the counts: within the set, of training and of test images, each beside what real images have."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("", "equal", "near", "close", "nearest, median"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for title, block in rows(record):
        cells = [_cell(block.get(name)) for name in COUNTS]
        table.add_row(Text(title), *cells, f"{block['distance']['median']:.1f} grey levels")
    for title, block in feature_rows(record):
        table.add_row(Text(title), "", "", _cell(block["close"]), f"{block['distance']['median']:.3f}")
    return table


def feature_rows(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of what a network's features say, by title, the null of a row after it."""
    features = record["features"]
    if features is None:
        return []
    train, test = features["train"], features["test"]
    return [
        ("by features, to a training image", train),
        ("  of real test images", train["null"]),
        ("by features, to a test image", test),
        ("  of real training images", test["null"]),
    ]


def rows(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of the result by title, the null of a row after it."""
    within, train, test = (record[part] for part in ("within", "train", "test"))
    found = [("to another image of the set", within)]
    if within.get("null") is not None:
        found.append(("  among real training images", within["null"]))
    if train is not None:
        found.append(("to a training image", train))
        if train["null"] is not None:
            found.append(("  of real test images", train["null"]))
    if test is not None:
        found.append(("to a test image", test))
    return found


def _cell(share: dict[str, Any] | None) -> str:
    return "" if share is None else f"{100 * share['share']:.2f} %"


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Search, write the folder, print the counts and the findings."""
    from caskit.evaluate.duplicates.folder import RECORD_NAME
    from caskit.evaluate.duplicates.inspection import DuplicatesConfig, inspect_duplicates
    from caskit.evaluate.duplicates.spectrum import SPECTRUM, Spectrum
    from caskit.evaluate.duplicates.verdicts import FAULT
    from caskit.evaluate.duplicates.writing import write_inspection
    from caskit.evaluate.fidelity.extractor import Extractor, open_extractor
    from caskit.train.device import pick_device
    from caskit.train.engine import Progress

    if arguments.weights is not None and arguments.extractor is None:
        raise InputError("--weights are of an --extractor, which is not named")
    if arguments.weights is not None and arguments.extractor == SPECTRUM:
        raise InputError("--weights are of a network, and the extractor spectrum is none")
    device = pick_device(arguments.device)
    extractor: Extractor | None = Spectrum() if arguments.extractor == SPECTRUM else None
    weights = None if arguments.weights is None else Path(arguments.weights)
    config = DuplicatesConfig(tolerance=arguments.tolerance, side=arguments.side, first=arguments.first)
    with meter() as show, context.stop.watched() as stop:

        def progress(at: Progress) -> None:
            show(Status(title=at.stage, done=at.step, total=at.num_steps, unit="img"))

        sets = [
            None if reference is None else open_shown(reference, show)
            for reference in (arguments.set, arguments.real_train, arguments.real_test)
        ]
        assert sets[0] is not None, "the parser demands it"
        if arguments.extractor not in (None, SPECTRUM):
            extractor = open_extractor(arguments.extractor, weights=weights, device=device)
        found = inspect_duplicates(
            sets[0],
            real_train=sets[1],
            real_test=sets[2],
            config=config,
            extractor=extractor,
            weights=weights,
            device=device,
            progress=progress,
            stop=stop,
        )
    out = Path(arguments.out)
    record = write_inspection(found, out)
    print_box("Copies", [result_table(record), "", f"record  {out / RECORD_NAME}"])
    faults = [one for one in record["findings"] if one["level"] == FAULT]
    for one in record["findings"]:
        if one["level"] != FAULT:
            print_line(f"note  {one['message']}")
    for one in faults:
        print(f"caskit: fault: {one['message']}", file=sys.stderr)
    print_line(f"FAIL: {len(faults)} faults" if faults else "PASS: no fault was found")
    return 1 if faults else 0
