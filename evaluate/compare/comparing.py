"""The comparison as a record and as files: compare.json, table.csv, and a scatter plot per metric."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate.bootstrap import Bootstrap
from caskit.evaluate.compare.correlation import MIN_FAMILIES, REPLICATES, Entry, correlations
from caskit.evaluate.compare.pairs import compare_pairs
from caskit.evaluate.compare.runs import Run, check_comparable
from caskit.evaluate.compare.table import CAS, FAMILY, NAME, check_names
from caskit.evaluate.report.scatter import scatter
from caskit.evaluate.statistics import describe_procedure
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION
from caskit.train.folder import write_atomic

RECORD_NAME, TABLE_NAME = "compare.json", "table.csv"


def compare(
    entries: Sequence[Entry], runs: Sequence[Run] = (), *, bootstrap: Bootstrap | None = None
) -> dict[str, Any]:
    """Compare rows of a table, and runs with predictions also pair by pair.

    Args:
        entries: rows without predictions.
        runs: rows with them, of one recipe and test set.
        bootstrap: of the pairs; None for the usual way.

    Returns:
        The record of compare.json (docs/scores.md): rows, correlations, pairs.

    Raises:
        InputError: fewer than two rows, two of one name, or runs that cannot be compared.
    """
    check_comparable(runs)
    rows = [*(run.entry for run in runs), *entries]
    if len(rows) < 2:
        raise InputError("a comparison needs two rows or more: score folders, or a table")
    check_names(rows, "the comparison")
    folders = {run.entry.name: str(run.folder) for run in runs}
    listed = [
        {
            "name": row.name,
            "family": row.family,
            "cas": row.cas,
            "metrics": dict(row.metrics),
            "marks": {name: list(marks) for name, marks in row.marks.items()},
            "location": folders.get(row.name),
        }
        for row in rows
    ]
    return {
        "format_version": FORMAT_VERSION,
        "statistics": {
            **describe_procedure(bootstrap or Bootstrap()),
            "min_families": MIN_FAMILIES,
            "family_replicates": REPLICATES,
        },
        "rows": listed,
        "correlations": correlations(rows),
        "pairs": compare_pairs(runs, bootstrap),
    }


def write_comparison(record: dict[str, Any], out: Path, *, cas_title: str = "CAS, top-1 in %") -> list[Path]:
    """Write compare.json, table.csv and a plot per metric into a folder; return the paths of the plots."""
    out.mkdir(parents=True, exist_ok=True)
    plots: list[Path] = []
    for found in record["correlations"]:
        if found["num"] < 2:
            continue
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", found["metric"])[:60].strip("-") or "metric"
        path = out / f"scatter-{name}.svg"
        if path in plots:
            path = out / f"scatter-{name}-{len(plots)}.svg"
        _write(path, scatter(record["rows"], found, cas_title=cas_title))
        plots.append(path)
    _write(out / TABLE_NAME, _table(record))
    _write(out / RECORD_NAME, json.dumps(record, indent=2, sort_keys=True) + "\n")
    return plots


def _table(record: dict[str, Any]) -> str:
    metrics = [found["metric"] for found in record["correlations"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([NAME, FAMILY, CAS, *metrics])
    for row in record["rows"]:
        values = ["" if (value := row["metrics"].get(metric)) is None else repr(value) for metric in metrics]
        writer.writerow([row["name"], row["family"], repr(row["cas"]), *values])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    write_atomic(path, write)
