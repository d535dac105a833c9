"""Class lists for foreign sources: read from a file or a set, fitted to the names and numbers that a source uses."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caskit.manifests.canonical import MAX_JSON_BYTES
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.origin import ORIGIN_FILES

MAX_CLASSES = 100_000  # numbers beyond are damage, not classes
MAX_FILE_BYTES = 2**24


def read_classes(path: Path) -> ClassList:
    """Read a class list.

    Args:
        path: a caskit set; a `.json` file with a list of names or of {"id", "name"}; a `.csv` file with a column `name`
            and perhaps `id`; or any other text file with one name per line; in label order.

    Raises:
        InputError: the file is not there or of no such form.
    """
    if path.is_dir():
        return _classes_of_set(path)
    text = read_text(path, MAX_FILE_BYTES)
    if path.suffix.lower() == ".json":
        return _from_json(parse_json(text, str(path)), str(path))
    if path.suffix.lower() == ".csv":
        return _from_table(read_table(text, str(path)), str(path))
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    return unique_classes(names, str(path))


def read_text(path: Path, max_bytes: int) -> str:
    """Read a UTF-8 text file of bounded size. Raises InputError for any other."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size > max_bytes:
        raise InputError(f"{path}: {path.stat().st_size} bytes, at most {max_bytes} are read")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse JSON of any form. Raises InputError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error})") from error


def read_table(text: str, where: str) -> list[dict[str, str]]:
    """Read a table of comma-separated values whose first line names the columns. Raises InputError."""
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise InputError(f"{where}: not comma-separated values ({error})") from error
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise InputError(f"{where}: needs a first line with column names, and lines below it")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise InputError(f"{where}: row {number} has {len(row)} values for {len(rows[0])} columns; quote commas")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def unique_classes(names: Sequence[str], where: str) -> ClassList:
    """Make a class list of names in label order. Raises InputError when one is empty or there twice."""
    seen: dict[str, int] = {}
    for label, name in enumerate(names):
        if not name.strip():
            raise InputError(f"{where}: class {label} has no name")
        if seen.setdefault(name, label) != label:
            raise InputError(f"{where}: classes {seen[name]} and {label} are both called {name!a}")
    check_count(len(names), where)
    return ClassList.of_names(names)


def check_count(num_classes: int, where: str) -> None:
    """Raise InputError for no classes or for more than anybody has."""
    if not 1 <= num_classes <= MAX_CLASSES:
        raise InputError(f"{where}: {num_classes} classes, allowed: 1..{MAX_CLASSES}")


def label_of(classes: ClassList) -> dict[str, int | None]:
    """Return the label that each id and each name stands for; None for a name of two classes. Ids go before names."""
    labels: dict[str, int | None] = {}
    for label, name in enumerate(classes.names):
        labels[name] = None if name in labels else label
    return labels | {class_id: label for label, class_id in enumerate(classes.ids)}


def labels_of_names(names: Sequence[str], classes: ClassList, where: str) -> np.ndarray:
    """Return the label of every name of a source, by id or name in the class list, [len(names)] int64.

    Raises:
        InputError: a name is no class, or two names are the same one.
    """
    known, taken = label_of(classes), dict[int, str]()
    for name in names:
        if name not in known:
            raise InputError(f"{where}: class {name!a} is not in the class list ({_shown(classes)})")
        label = known[name]
        if label is None:
            raise InputError(f"{where}: class {name!a} is the name of several classes of the list, use their ids")
        if label in taken:
            raise InputError(f"{where}: {taken[label]!a} and {name!a} are the same class of the list")
        taken[label] = name
    return np.asarray([known[name] for name in names], dtype=np.int64)


def numbered_classes(
    numbers: np.ndarray, classes: ClassList | None, where: Callable[[int], str], shown: Sequence[object] | None = None
) -> ClassList:
    """Return the class list for labels that are numbers: the one given, or `0` to the highest number that occurs.

    Args:
        numbers: [N] of any integer dtype, N at least 1.
        classes: the class list, if there is one.
        where: says where a sample stands, for errors.
        shown: what the source says itself, for errors, where `numbers` is something else.

    Raises:
        InputError: a number is negative or beyond the class list, naming the first one's place.
    """
    most = MAX_CLASSES if classes is None else len(classes)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= most))
    if len(wrong):
        place = int(wrong[0])
        value = numbers[place] if shown is None else shown[place]
        raise InputError(f"{where(place)}: label is {value}, allowed: 0..{most - 1}")
    return ClassList.from_names([str(n) for n in range(int(numbers.max()) + 1)]) if classes is None else classes


def _from_json(value: Any, where: str) -> ClassList:
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return unique_classes(value, where)
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        check_count(len(value), where)
        return ClassList.from_json(value, name=where)
    raise InputError(f'{where}: must be a list of names, or of {{"id", "name"}} objects')


def _from_table(rows: list[dict[str, str]], where: str) -> ClassList:
    if "name" not in rows[0]:
        raise InputError(f"{where}: has columns {', '.join(rows[0])}, needs name and perhaps id")
    if "id" not in rows[0]:
        return unique_classes([row["name"] for row in rows], where)
    check_count(len(rows), where)
    return ClassList(ids=tuple(row["id"] for row in rows), names=tuple(row["name"] for row in rows))


def _classes_of_set(path: Path) -> ClassList:
    from caskit.shards.freeze import read_unfrozen_origin  # here: freezing knows sources by way of the records
    from caskit.shards.store import open_store

    store = open_store(str(path))
    if not any(store.exists(name) for name in ORIGIN_FILES.values()):
        raise InputError(f"{path}: no caskit set, whose class list could be taken; a file with names will do too")
    if store.size(next(name for name in ORIGIN_FILES.values() if store.exists(name))) > MAX_JSON_BYTES:
        raise InputError(f"{path}: its first record has more than {MAX_JSON_BYTES} bytes")
    return read_unfrozen_origin(store).classes


def _shown(classes: ClassList) -> str:
    names = ", ".join(ascii(name)[1:-1] for name in classes.names[:4])
    return names + (f", ... {len(classes)} in all" if len(classes) > 4 else "")
