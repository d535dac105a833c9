"""Compare generators: a table over runs, how every metric goes with CAS, and which differences are more than chance.

Runs are folders of `caskit score` or `caskit cas` of one recipe and test set; --table takes a plain CSV file of models
scored anywhere: columns `name`, `family`, `cas`, and a column per metric. Correlations are bootstrapped by family, for
eight truncations of one model are not eight models. Runs are compared pair by pair on the same test images.
"""

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context
from caskit.console import facts_table, print_box

EXAMPLE = "caskit compare runs/cvae/cas runs/vqvae2/cas --out runs/compared"
SHOWN_PAIRS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("runs", nargs="*", metavar="[NAME=]DIR", help="folders of `caskit score` or `caskit cas`")
    parser.add_argument("--table", metavar="FILE.csv", help="models scored anywhere, a row each")
    parser.add_argument("--cas", default="cas", metavar="COLUMN", help="column of --table with the score (default cas)")
    parser.add_argument(
        "--metrics",
        action="append",
        default=[],
        metavar="DIR",
        help="folder of `caskit metrics` on the set that one of the runs was trained on; may be repeated",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of compare.json, table.csv and plots")


def split_name(text: str) -> tuple[str | None, Path]:
    """Split `NAME=DIR`; a folder that exists under the whole text has no name."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and name and not Path(text).exists() else (None, Path(text))


def correlation_table(record: dict[str, Any]) -> Table:
    """Lay out a row per metric."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("with CAS", "rows", "families", "Pearson", "Spearman", "Kendall"):
        table.add_column(name, justify="left" if name == "with CAS" else "right", no_wrap=True)
    for found in record["correlations"]:
        cells = [_coefficient(found[name]) for name in ("pearson", "spearman", "kendall")]
        table.add_row(Text(found["metric"][:40]), str(found["num"]), str(found["num_families"]), *cells)
    return table


def _coefficient(one: dict[str, float | None]) -> str:
    if one["value"] is None:
        return "undefined"
    bounds = "" if one["low"] is None else f" ({one['low']:+.2f} to {one['high']:+.2f})"
    return f"{one['value']:+.3f}{bounds}"


def pair_table(record: dict[str, Any]) -> Table:
    """Lay out a row per pair of runs, the first ones."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("better", "than", "by, points", "95 %, test images", "95 %, trainings too", "McNemar q"):
        table.add_column(name, justify="left" if name in ("better", "than") else "right", no_wrap=True)
    for pair in record["pairs"][:SHOWN_PAIRS]:
        q = ", ".join(f"{test['q']:.2g}" for test in pair["mcnemar"])
        bounds = [
            "" if one is None else f"{one['low']:.2f} to {one['high']:.2f}"
            for one in (pair["test_images"], pair["all"])
        ]
        table.add_row(Text(pair["first"][:40]), Text(pair["second"][:40]), f"{pair['points']:.2f}", *bounds, q)
    return table


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Compare, write the files and print the tables."""
    from caskit.evaluate.compare import compare, read_table, with_fidelity, write_comparison
    from caskit.evaluate.compare.runs import read_run_of

    runs = [read_run_of(folder, name=name) for name, folder in map(split_name, arguments.runs)]
    runs = with_fidelity(runs, [Path(folder) for folder in arguments.metrics])
    entries = [] if arguments.table is None else read_table(Path(arguments.table), cas=arguments.cas)
    record = compare(entries, runs)
    out = Path(arguments.out)
    title = "CAS, top-1 in %" if runs or arguments.cas == "cas" else arguments.cas
    plots = write_comparison(record, out, cas_title=title)
    body: list[Any] = [correlation_table(record), ""]
    few = [found for found in record["correlations"] if found["interval"].startswith("none")]
    if few:
        body += [Text(f"Without intervals: {few[0]['interval'].removeprefix('none: ')}."), ""]
    if record["pairs"]:
        body += [pair_table(record), ""]
    more = len(record["pairs"]) - SHOWN_PAIRS
    if more > 0:
        body += [Text(f"{more} more pairs are in compare.json."), ""]
    marked = [f"{row['name'][:40]}: {name}" for row in record["rows"] for name in row["marks"]]
    if marked:
        body += [Text(f"Of fewer images than features, far too large: {'; '.join(marked)}"), ""]
    facts = {"numbers": str(out / "compare.json"), "table": str(out / "table.csv")}
    if plots:
        facts["plots"] = str(out / "scatter-*.svg")
    print_box(f"{len(record['rows'])} rows compared", [*body, facts_table(facts)])
    return 0
