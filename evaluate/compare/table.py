"""A plain CSV file of somebody's models: a row each, with a name, perhaps a family, CAS and other metrics."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from caskit.evaluate.compare.correlation import Entry
from caskit.manifests.errors import InputError

MAX_BYTES, MAX_ROWS, MAX_COLUMNS = 10_000_000, 5_000, 200
NAME, FAMILY, CAS = "name", "family", "cas"


def read_table(path: Path, *, cas: str = CAS) -> list[Entry]:
    """Read a CSV file with a header.

    Args:
        path: UTF-8 text. `name` and `family` are text, a row without a family is one of its own; columns without a
            single number are left out; an empty cell is a missing value.
        cas: the column of the score.

    Raises:
        InputError: no such column, a cell that is no number, a row of another length, or two rows of one name.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no CSV file in UTF-8 ({error})") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    body = [(line, row) for line, row in enumerate(rows[1:], start=2) if any(cell.strip() for cell in row)]
    if cas not in header or len(set(header)) < len(header) or not all(header) or len(header) > MAX_COLUMNS:
        shown = ", ".join(header)[:200]
        raise InputError(
            f"{path}: the first line must name up to {MAX_COLUMNS} different columns, {cas} among them: {shown!r}"
        )
    if not 2 <= len(body) <= MAX_ROWS:
        raise InputError(f"{path}: has {len(body)} rows below its header, allowed: 2 to {MAX_ROWS}")
    for line, row in body:
        if len(row) != len(header):
            raise InputError(f"{path}: line {line} has {len(row)} cells, the header {len(header)}")
    columns = {name: [row[place].strip() for _, row in body] for place, name in enumerate(header)}
    lines = [line for line, _ in body]
    texts = {name for name in columns if name in (NAME, FAMILY)}
    metrics = {
        name: _numbers(path, name, cells, lines)
        for name, cells in columns.items()
        if name not in texts and (name == cas or any(_is_number(cell) for cell in cells))
    }
    scores = metrics.pop(cas)
    names = columns.get(NAME, [str(number) for number in range(1, len(body) + 1)])
    families = columns.get(FAMILY, [""] * len(body))
    entries = []
    for place, (name, family, score) in enumerate(zip(names, families, scores, strict=True)):
        if score is None:
            raise InputError(f"{path}: line {lines[place]}: {cas} is empty")
        values = {metric: numbers[place] for metric, numbers in metrics.items()}
        number = str(place + 1)
        entries.append(Entry(name=name or number, family=family or f"row {number}", cas=score, metrics=values))
    check_names(entries, str(path))
    return entries


def check_names(entries: Sequence[Entry], where: str) -> None:
    """Raise InputError if two rows have one name."""
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise InputError(f"{where}: two rows are named {entry.name[:100]!r}")
        seen.add(entry.name)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _numbers(path: Path, column: str, cells: Sequence[str], lines: Sequence[int]) -> list[float | None]:
    for line, cell in zip(lines, cells, strict=True):
        if cell and not _is_number(cell):
            raise InputError(f"{path}: line {line}: {column} is {cell[:40]!r}, must be a number or empty")
    return [float(cell) if cell else None for cell in cells]
