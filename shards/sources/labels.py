"""From what a source writes beside an image (a number, a name, a prompt) to its label."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.sources.classes import (
    MAX_FILE_BYTES,
    label_of,
    numbered_classes,
    parse_json,
    read_table,
    read_text,
    unique_classes,
)

MAX_TEXT_CHARACTERS = 4096  # of one label or prompt
_SHOWN = 60


def read_prompts(path: Path) -> dict[str, str]:
    """Read a table from prompt to class name: `.json` with an object, or comma-separated columns `prompt,class`.

    Prompts are compared without the white space around them.

    Raises:
        InputError: the file is not there or of no such form, or a prompt stands for two classes.
    """
    text, where = read_text(path, MAX_FILE_BYTES), str(path)
    if path.suffix.lower() == ".json":
        value = parse_json(text, where)
        if not isinstance(value, dict) or not value or not all(isinstance(name, str) for name in value.values()):
            raise InputError(f"{where}: must be an object from prompt to class name")
        pairs = list(value.items())
    else:
        rows = read_table(text, where)
        if not {"prompt", "class"} <= set(rows[0]):
            raise InputError(f"{where}: has columns {', '.join(rows[0])}, needs prompt and class")
        pairs = [(row["prompt"], row["class"]) for row in rows]
    table: dict[str, str] = {}
    for prompt, name in ((prompt.strip(), name) for prompt, name in pairs):
        if table.setdefault(prompt, name) != name:
            raise InputError(f"{where}: prompt {shown(prompt)} stands for {table[prompt]!a} and for {name!a}")
    return table


def prompt_settings(prompts: Mapping[str, str] | None) -> dict[str, str]:
    """Return what a record says about a table of prompts: its digest, on which the labels depend."""
    return {} if prompts is None else {"prompts_sha256": sha256_hex(canonical_json(dict(prompts)))}


def resolve(
    values: Sequence[int | str],
    *,
    classes: ClassList | None,
    prompts: Mapping[str, str] | None,
    where: Callable[[int], str],
) -> tuple[ClassList, np.ndarray]:
    """Return the class list and every sample's label, [N] int64.

    Numbers are labels. Names are looked up in `classes`; without it they are the class list, sorted. With `prompts`
    the values are prompts, whose class names are looked up likewise; without `classes` they have the table's order.

    Args:
        values: one per sample.
        classes: the class list, if there is one.
        prompts: from prompt to class name.
        where: says where a sample stands, for errors.

    Raises:
        InputError: naming the first sample whose value is no label.
    """
    texts = [place for place, value in enumerate(values) if isinstance(value, str)]
    if not texts and prompts is None:
        numbers = [value if -1 <= int(value) < 2**31 else 2**31 for value in values]  # beyond all classes anyway
        array = np.asarray(numbers, dtype=np.int64)
        return numbered_classes(array, classes, where, shown=values), array
    if len(texts) < len(values):
        other = next(place for place, value in enumerate(values) if not isinstance(value, str))
        due = "a prompt" if prompts is not None else f"a name like that of {where(texts[0])}"
        raise InputError(f"{where(other)}: label is the number {values[other]}, must be {due}")
    names = [str(value).strip() for value in values]
    if prompts is not None:
        names = [_class_of(name, prompts, where, place) for place, name in enumerate(names)]
    if classes is None:
        listed = sorted(set(names)) if prompts is None else list(dict.fromkeys(prompts.values()))
        classes = unique_classes(listed, where(0))
    known = label_of(classes)
    for place, name in enumerate(names):
        if known.get(name) is None:
            reason = "is the name of several classes" if name in known else "is not in the class list"
            raise InputError(f"{where(place)}: class {shown(name)} {reason}")
    return classes, np.asarray([known[name] for name in names], dtype=np.int64)


def _class_of(prompt: str, prompts: Mapping[str, str], where: Callable[[int], str], place: int) -> str:
    if prompt not in prompts:
        raise InputError(f"{where(place)}: prompt {shown(prompt)} is not in the table of prompts")
    return prompts[prompt]


def shown(text: str) -> str:
    """Return a text of others for an error: quoted, ASCII, not long."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
