"""The folder of a search for copies, read: duplicates.json, and a sheet of the nearest pairs per part."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from caskit.evaluate.duplicates.verdicts import FAULT, verdicts
from caskit.manifests.canonical import MAX_JSON_BYTES, canonical_json, sha256_hex
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.plan import check_format_version

DUPLICATES_VERSION = 1
RECORD_NAME = "duplicates.json"
MAX_SHEET_BYTES, MAX_SHEET_SIDE = 4 * 2**20, 4096
_NOT_IDENTITY = ("duplicates_id", "location")


def block_of(record: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the block of a record that a part's pairs stand in."""
    first, _, inner = part.partition("-")
    found: dict[str, Any] = record[first][inner] if inner else record[first]
    return found


def sheet_name(part: str) -> str:
    """Return the file of a part's nearest pairs: the set's images above those that they are near to."""
    return f"pairs-{part}.png"


def duplicates_id(record: Mapping[str, Any]) -> str:
    """SHA-256 of the record's canonical JSON without its id and locations, 64 hex digits."""
    return sha256_hex(canonical_json(_strip(record)))


def _strip(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strip(inner) for key, inner in value.items() if key not in _NOT_IDENTITY}
    return [_strip(inner) for inner in value] if isinstance(value, list) else value


def read_inspection(folder: Path) -> dict[str, Any]:
    """Read duplicates.json, which another lab may have written, and check that it is whole.

    Raises:
        InputError: there is none, or it is of another form.
        IntegrityError: it was edited.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise InputError(f"{folder}: holds no {RECORD_NAME}; run caskit duplicates first")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
    try:
        record = json.loads(path.read_bytes())
        check_format_version(record["format_version"], name=str(path))
        if record["duplicates_version"] != DUPLICATES_VERSION:
            raise InputError(
                f"{path}: duplicates_version is {record['duplicates_version']!r}, known is {DUPLICATES_VERSION}"
            )
        due, said = duplicates_id(record), verdicts(record)
        stored, found = record["duplicates_id"], record["findings"]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: is no record of `caskit duplicates` ({error!r})") from error
    if stored != due:
        raise IntegrityError(f"{path}: duplicates_id does not follow from the record, it was edited")
    if found != said:
        raise IntegrityError(f"{path}: findings do not follow from the numbers, it was edited")
    return dict(record)


def read_sheet(folder: Path, record: Mapping[str, Any], part: str) -> bytes | None:
    """Return a part's picture, if the record has one and it is there, is that one and a PNG of sensible size."""
    path, due = folder / sheet_name(part), record["sheets"].get(part)
    if due is None or not path.is_file() or path.stat().st_size > MAX_SHEET_BYTES:
        return None
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != due:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:  # reads the header alone
            return data if max(image.size) <= MAX_SHEET_SIDE else None
    except (OSError, ValueError, SyntaxError):
        return None


def faults(record: Mapping[str, Any]) -> list[str]:
    """Return the messages of the findings that are faults."""
    return [one["message"] for one in record["findings"] if one["level"] == FAULT]
