"""Sources of several files: which of them are a split's, by the names that Hugging Face and WebDataset give."""

import re
from collections.abc import Sequence
from pathlib import Path

from caskit.manifests.errors import InputError

_NAMES = {"train": "train", "training": "train", "test": "test", "val": "validation", "valid": "validation"}
_NAMES |= {"validation": "validation", "dev": "validation"}
_WORD = re.compile(r"[A-Za-z]+")
MAX_DEPTH = 3
MAX_FILES = 100_000


def list_files(path: Path, suffix: str) -> list[str]:
    """Return the files of a folder with a suffix, relative to it, sorted; hidden ones are ignored. Links are followed.

    Raises:
        InputError: there are more than anybody has.
    """
    found: list[str] = []
    folders = [(path, 0)]
    while folders:
        folder, depth = folders.pop()
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if depth < MAX_DEPTH and not entry.is_symlink():
                    folders.append((entry, depth + 1))
            elif entry.suffix.lower() == suffix:
                found.append(entry.relative_to(path).as_posix())
        if len(found) > MAX_FILES:
            raise InputError(f"{path}: holds more than {MAX_FILES} {suffix} files")
    return sorted(found)


def choose_files(path: Path, names: Sequence[str], split: str | None) -> tuple[list[str], str]:
    """Return the files of one split and what the split is.

    Args:
        path: the folder, for errors.
        names: its files, relative to it.
        split: which split; None where only one can be meant. Files whose names say none are of the split asked for.

    Raises:
        InputError: several splits and none was chosen, or no such split.
    """
    splits: dict[str | None, list[str]] = {}
    for name in names:
        splits.setdefault(split_of(name), []).append(name)
    if set(splits) == {None}:
        return list(names), split or "train"
    shown = ", ".join(sorted(str(found or "without a split in their names") for found in splits))
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        wanted = "which split is meant" if split is None else f"it has no split {split}"
        raise InputError(f"{path}: holds files of {shown}: {wanted}, choose one")
    assert split is not None, "files without a split are no split"
    return splits[split], split


def split_of(name: str) -> str | None:
    """Return the split that a file's name says (`data/train-00000-of-00002.parquet`), or its folder's."""
    for part in reversed(name.split("/")):
        words = _WORD.findall(part.rpartition(".")[0] or part)
        found = next((_NAMES[word.lower()] for word in words if word.lower() in _NAMES), None)
        if found is not None:
            return found
    return None
