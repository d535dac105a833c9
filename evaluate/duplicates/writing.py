"""The folder of a search for copies, written."""

import hashlib
from pathlib import Path
from typing import Any

from caskit.evaluate.duplicates.folder import RECORD_NAME, duplicates_id, sheet_name
from caskit.evaluate.duplicates.inspection import Inspection
from caskit.evaluate.report.grid import contact_sheet
from caskit.manifests.canonical import canonical_json
from caskit.train.folder import write_atomic

TILE = 96


def write_inspection(found: Inspection, out: Path) -> dict[str, Any]:
    """Write the pictures and then duplicates.json, canonical JSON; return its record."""
    out.mkdir(parents=True, exist_ok=True)
    sheets = {}
    for part, pairs in found.pairs.items():
        if pairs:
            side = max(max(image.shape[:2]) for pair in pairs for image in pair)
            images = [ours for ours, _ in pairs] + [theirs for _, theirs in pairs]
            data = contact_sheet(images, columns=len(pairs), tile=min(side, TILE))
            sheets[part] = hashlib.sha256(data).hexdigest()
            _write(out / sheet_name(part), data)
    record = {**found.record, "sheets": sheets}
    record["duplicates_id"] = duplicates_id(record)
    _write(out / RECORD_NAME, canonical_json(record))
    return record


def _write(path: Path, data: bytes) -> None:
    def write(part: Path) -> None:
        part.write_bytes(data)

    write_atomic(path, write)
