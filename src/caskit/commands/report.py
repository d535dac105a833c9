"""Make one self-contained HTML page from scores: summary, classes, images, ids and how to verify them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context
from caskit.commands.sets import reference_text
from caskit.console import facts_table, print_box, program

if TYPE_CHECKING:
    from caskit.evaluate.report.chart import Interval
    from caskit.evaluate.report.record import Score

EXAMPLE = "caskit report runs/digits/score --out runs/digits/report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("scores", nargs="+", metavar="SCORE_DIR", help="folders that `caskit score` wrote")
    parser.add_argument(
        "--duplicates",
        action="append",
        default=[],
        metavar="DIR",
        help="folder of `caskit duplicates` to show; may be repeated (those that the scores name are shown anyway)",
    )
    parser.add_argument(
        "--metrics",
        action="append",
        default=[],
        metavar="DIR",
        help="folder of `caskit metrics` about a set of the scores, to show beside its CAS; may be repeated",
    )
    parser.add_argument("--out", required=True, metavar="FILE.html", help="the page")


def score_table(scores: "list[Score]") -> Table:
    """Lay out the rows: Real once per baseline, then every score with its gap."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("", "top-1", "95 % interval", "top-5", "gap to Real"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    shown = {str(score.directory.resolve()) for score in scores}  # a baseline may be given as a score too
    for score in scores:
        if score.real is not None and score.real.location not in shown:
            shown.add(score.real.location or "")
            _add_row(table, "Real", score.real.top1, score.real.top5, "")
        gap = "" if score.gap_points is None else f"{score.gap_points:.2f} points"
        name = {"real": "Real", "GAN-test": f"{score.title} (GAN-test)"}.get(score.metric, score.title)
        _add_row(table, name, score.top1, score.top5, gap)
    return table


def _add_row(table: Table, name: str, top1: "Interval", top5: "Interval | None", gap: str) -> None:
    interval = f"{100 * top1.low:.2f} to {100 * top1.high:.2f}"
    top5_text = "" if top5 is None else f"{100 * top5.value:.2f} %"
    table.add_row(Text(name), Text(f"{100 * top1.value:.2f} %", style="bold"), interval, top5_text, gap)


def next_commands(scores: "list[Score]", out: Path) -> dict[str, str]:
    """Return where the result is and what one may want to do with it, by name."""
    from caskit.evaluate.report.document import beside

    first = next((score for score in scores if score.metric == "CAS"), scores[0])
    facts = {"report": str(out), "numbers": str(beside(out)), "check": f"{program()} check {beside(out)}"}
    if first.train.location is not None:
        reference = reference_text(first.train.location, first.train.replica_id)
        facts["verify"] = f"{program()} verify {reference} --level deep"
        facts["inspect"] = f"{program()} info {reference}"
    return facts


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Write the page, and close with a box: rows, path, next commands."""
    from caskit.evaluate.report import write_report
    from caskit.evaluate.report.headline import heading
    from caskit.evaluate.report.record import read_score, told_apart

    directories = [Path(directory) for directory in arguments.scores]
    out = write_report(
        directories,
        Path(arguments.out),
        duplicates=[Path(one) for one in arguments.duplicates],
        metrics=[Path(one) for one in arguments.metrics],
    )
    scores = told_apart([read_score(directory) for directory in directories])
    print_box(heading(scores), [score_table(scores), "", facts_table(next_commands(scores, out))])
    return 0
