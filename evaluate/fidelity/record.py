"""metrics.json: a set's distances to a real one by one extractor, as canonical JSON with an id of its own."""

from pathlib import Path
from typing import Any

from caskit.evaluate.fidelity.extractor import Identity
from caskit.evaluate.fidelity.numbers import Settings, metric_name
from caskit.manifests.canonical import MAX_JSON_BYTES, canonical_json, parse_canonical, sha256_hex
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.plan import check_format_version
from caskit.train.folder import write_atomic

METRICS_NAME = "metrics.json"
METRICS_VERSION = 1  # of the schema, docs/scores.md
_NOT_IDENTITY = ("metrics_id", "versions", "git_commit", "hardware", "location")


def metrics_id(record: dict[str, Any]) -> str:
    """SHA-256 of the record without locations, versions and hardware, 64 hex digits."""
    return sha256_hex(canonical_json(_strip(record)))


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip(inner) for key, inner in value.items() if key not in _NOT_IDENTITY}
    return [_strip(inner) for inner in value] if isinstance(value, list) else value


def write_metrics(folder: Path, record: dict[str, Any]) -> None:
    """Write metrics.json, whole or not at all."""
    data = canonical_json(record)
    write_atomic(folder / METRICS_NAME, lambda path: _write_bytes(path, data))


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json and check what can be checked by itself: its form, its id, and that names say what they are of.

    Raises:
        InputError: the folder holds no metrics of ours.
        IntegrityError: they were edited.
    """
    record = parse_metrics(folder)
    path = folder / METRICS_NAME
    if record["metrics_id"] != metrics_id(record):
        raise IntegrityError(f"{path}: metrics_id does not follow from the record, it was edited")
    for entry, due in zip(record["metrics"], due_names(record), strict=True):
        if entry["name"] != due:
            raise IntegrityError(f"{path}: {entry['name']!r} is what its extractor and numbers call {due!r}")
    return record


def parse_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json without believing it: the form alone is checked. Raises InputError."""
    path = folder / METRICS_NAME
    if not path.exists():
        raise InputError(f"{folder}: holds no finished metrics ({METRICS_NAME} is not there); run caskit metrics first")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
    record = parse_canonical(path.read_bytes(), name=str(path))
    try:
        check_format_version(record["format_version"], name=str(path))
        if record["metrics_version"] != METRICS_VERSION:
            raise InputError(
                f"{path}: metrics_version is {record['metrics_version']!r}, this caskit reads {METRICS_VERSION}"
            )
        due_names(record)
        for name in ("metrics_id", "replica", "reference", "inputs", "per_class", "omitted", "versions"):
            record[name]
        for entry in record["metrics"]:
            float(entry["value"])
            list(entry["marks"])
        str(record["replica"]["content_root"] + record["reference"]["content_root"])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no record of `caskit metrics` ({error!r})") from error
    return dict(record)


def due_names(record: dict[str, Any]) -> list[str]:
    """Return what the metrics of a record are called by its extractor, settings and counts."""
    identity, settings = Identity.from_json(record["extractor"]), Settings(**record["settings"])
    return [metric_name(str(entry["metric"]), identity, int(entry["num"]), settings) for entry in record["metrics"]]
