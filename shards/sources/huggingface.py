"""What a Hugging Face dataset says about its columns: features of the Parquet schema, README.md, dataset_info.json.

Read without `datasets` and without YAML: of a README's front matter only the block of class names is understood.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caskit.manifests.errors import InputError
from caskit.shards.sources.classes import parse_json, read_text

METADATA_KEY = b"huggingface"
MAX_README_BYTES = 2**22
_ITEM = re.compile(r"(?P<indent> *)- name: *(?P<name>.+?) *")
_NUMBERED = re.compile(r"(?P<indent> *)['\"]?(?P<number>[0-9]{1,6})['\"]?: *(?P<name>.*)")
_LICENCE = re.compile(r"license: *([a-z0-9][a-z0-9.-]*) *")


def schema_features(metadata: Mapping[bytes, bytes] | None, where: str) -> dict[str, Any]:
    """Return the features in a Parquet file's schema metadata, by column; empty where there are none."""
    text = (metadata or {}).get(METADATA_KEY)
    if text is None:
        return {}
    return _features(parse_json(text, f"{where}: schema metadata"), "info")


def label_names(feature: Any) -> list[str] | None:
    """Return the class names of a ClassLabel feature; None for another one."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return list(names)


def folder_names(folder: Path, column: str) -> list[str] | None:
    """Return the class names of a label column as the files beside the data say; None where they do not.

    Raises:
        InputError: they say different ones, for several configurations.
    """
    found: list[list[str]] = []
    for name in ("dataset_info.json", "dataset_infos.json"):
        path = folder / name
        if path.is_file():
            value = parse_json(read_text(path, MAX_README_BYTES), str(path))
            infos = [value] if "features" in value else list(value.values()) if isinstance(value, dict) else []
            found += [names for info in infos if (names := label_names(_features(info).get(column))) is not None]
    found += _readme_names(_front_matter(folder), column)
    if any(names != found[0] for names in found):
        raise InputError(f"{folder}: its configurations have different class names for {column}; give the class list")
    return found[0] if found else None


def licence(folder: Path) -> str | None:
    """Return the licence that README.md states, if it is one identifier."""
    return next((match[1] for line in _front_matter(folder) if (match := _LICENCE.fullmatch(line))), None)


def _features(value: Any, *inside: str) -> dict[str, Any]:
    for name in (*inside, "features"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _front_matter(folder: Path) -> list[str]:
    path = folder / "README.md"
    if not path.is_file():
        return []
    lines = read_text(path, MAX_README_BYTES).splitlines()
    if not lines or lines[0].strip() != "---":
        return []
    end = next((place for place, line in enumerate(lines[1:], start=1) if line.strip() == "---"), 0)
    return [line.rstrip() for line in lines[1:end]]


def _readme_names(lines: list[str], column: str) -> list[list[str]]:
    """Return the numbered names below every `- name: COLUMN` item, one list per configuration."""
    found = []
    for place, line in enumerate(lines):
        item = _ITEM.fullmatch(line)
        if item is None or _scalar(item["name"]) != column:
            continue
        names: dict[int, str] = {}
        for below in lines[place + 1 :]:
            if len(below) - len(below.lstrip()) <= len(item["indent"]):
                break
            numbered = _NUMBERED.fullmatch(below)
            if numbered is not None:
                names[int(numbered["number"])] = _scalar(numbered["name"])
        if names and sorted(names) == list(range(len(names))):
            found.append([names[number] for number in range(len(names))])
    return found


def _scalar(text: str) -> str:
    """Return the text of a YAML scalar on one line."""
    text = text.strip()
    if text[:1] == "'" == text[-1:] and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[:1] == '"' == text[-1:] and len(text) > 1:
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    return text.partition(" #")[0].rstrip()
