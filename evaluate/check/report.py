"""report.json checked: its page is the one that it names, and every number follows from the score folders."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caskit.evaluate.check.findings import Report
from caskit.evaluate.report.contents import gather
from caskit.evaluate.report.document import REPORT_VERSION, document
from caskit.manifests.canonical import MAX_JSON_BYTES
from caskit.manifests.errors import InputError

_OF_MAKER = ("caskit", "page")  # which version wrote it, and what was hashed already


def check_report(path: Path) -> Report:
    """Make the numbers of a report.json again from the score folders that it names.

    The scores themselves are checked one by one with `check_folder`.

    Raises:
        InputError: the file is no report.json.
    """
    record = _read(path)
    report = Report()
    try:
        page = record["page"]
        _check_page(report, path, str(page["file"]), str(page["sha256"]))
        folders = [Path(str(score["location"])) for score in record["scores"]]
        searches = [Path(str(search["location"])) for search in record["duplicates"]]
        measured = [Path(str(one["location"])) for one in record["metrics"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is no report.json ({error!r})") from error
    gone = [folder for folder in (*folders, *searches, *measured) if not folder.is_dir()]
    for folder in gone:
        report.missing(folder, "is not there, so no number of the report can be made again")
    if gone:
        return report
    try:
        contents = gather(folders, searches, measured)
    except InputError as error:
        report.differs(path, str(error))
        return report
    due = {name: value for name, value in document(contents).items() if name not in _OF_MAKER}
    unread = [
        score.directory for score, (ours, _) in zip(contents.scores, contents.confusions, strict=True) if not ours
    ]
    for folder in unread:
        report.missing(folder, "has no predictions, its confusions cannot be counted again")
    report.compare(path, json.loads(json.dumps(due)), record, "the score folders")
    return report


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error})") from error
    version = record.get("report_version") if isinstance(record, Mapping) else None
    if version != REPORT_VERSION:
        raise InputError(f"{path}: report_version is {version!r}, known is {REPORT_VERSION}")
    return dict(record)


def _check_page(report: Report, path: Path, name: str, sha256: str) -> None:
    page = path.with_name(name)
    if Path(name).name != name or not page.is_file():
        report.missing(page, "the page is not there")
    elif hashlib.sha256(page.read_bytes()).hexdigest() != sha256:
        report.differs(page, f"its sha256 is not that of {path.name}: another page, or an edited one")
    else:
        report.agrees(page, f"is the page that {path.name} was written with")
