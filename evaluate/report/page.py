"""The report: one self-contained HTML file made from score folders and the sets that they name, and its numbers."""

import base64
import hashlib
import importlib.resources
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import caskit
from caskit.evaluate.report.classes import class_section
from caskit.evaluate.report.confusion import Confusions, confusion_section, taken_for
from caskit.evaluate.report.contents import Contents, gather
from caskit.evaluate.report.copies import copies_section
from caskit.evaluate.report.correlation import correlation_section
from caskit.evaluate.report.document import SUFFIX, beside, document, page_of
from caskit.evaluate.report.fidelity import fidelity_section
from caskit.evaluate.report.gallery import Shelf, gallery_section
from caskit.evaluate.report.headline import heading, headline, score_table, title
from caskit.evaluate.report.identity import caveat_section, identity_section, verify_section, version_section
from caskit.evaluate.report.measured import measured_section
from caskit.evaluate.report.mistakes import mistake_section
from caskit.evaluate.report.record import Score
from caskit.evaluate.report.sweep import sweep_section
from caskit.evaluate.report.text import Html, name_tag, tag
from caskit.manifests.errors import InputError

# Nothing in the page may load anything, and nothing but our own script may run, whatever a class is called.
_POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def write_report(
    score_dirs: Sequence[Path],
    out: Path,
    *,
    sets: Mapping[str, str] | None = None,
    duplicates: Sequence[Path] = (),
    metrics: Sequence[Path] = (),
) -> Path:
    """Write report.html from one or more score folders, its numbers as report.json beside it, and return its path.

    The same folders give the same bytes, except that paths are written as the current folder sees them. Sets are opened
    where the scores say they are, and only with the right id; the page says so where a set is not at hand.

    Args:
        score_dirs: folders written by `score`, in the order of the page.
        out: the file to write; it is replaced as a whole. The numbers take its name with .json.
        sets: where sets are by replica_id, before what the scores say.
        duplicates: folders of `caskit duplicates` to show, besides those that the scores name.
        metrics: folders of `caskit metrics` about the sets of the scores.

    Raises:
        InputError: a folder holds nothing that can be read, or the page would be named .json.
        IntegrityError: something was changed.
    """
    if beside(out) == out:
        raise InputError(f"{out}: the page is HTML, its numbers go into the file of that name with {SUFFIX}")
    contents = gather(score_dirs, duplicates, metrics)
    page = f"<!DOCTYPE html>\n{render(contents, Shelf(sets or {}))}\n".encode()
    numbers = {**document(contents), "page": page_of(page, out.name)}
    out.parent.mkdir(parents=True, exist_ok=True)
    _replace(out, page)
    _replace(beside(out), (json.dumps(numbers, indent=1, sort_keys=True) + "\n").encode())
    return out


def _replace(path: Path, data: bytes) -> None:
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        scratch.write_bytes(data)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def render(contents: Contents, shelf: Shelf) -> Html:
    """Return the whole page."""
    scores, groups = contents.scores, contents.groups
    body = tag(
        "main",
        None,
        headline(scores, groups),
        score_table(scores, groups),
        sweep_section(contents.sweeps),
        measured_section(scores, contents.runs, contents.measured),
        correlation_section(contents.entries, contents.correlations),
        fidelity_section(scores),
        copies_section(contents.searches),
        [
            _score_section(score, ours, real, shelf)
            for score, (ours, real) in zip(scores, contents.confusions, strict=True)
        ],
        caveat_section(scores),
        identity_section(scores),
        verify_section(scores, shelf.location),
        version_section(scores),
        tag(
            "footer",
            None,
            f"Made by caskit {caskit.__version__}. This file is self-contained; its one script sorts and searches "
            "tables. The file of its name with .json has its numbers.",
        ),
    )
    style, script = _resource("style.css"), _resource("table.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    head = tag(
        "head",
        None,
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY.format(digest=digest)}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("title", None, f"{heading(scores)}: {title(scores)}"),
        tag("style", None, Html(style)),
    )
    return tag("html", {"lang": "en"}, head, tag("body", None, body, tag("script", None, Html(script))))


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _score_section(score: Score, confusions: Confusions | None, real: Confusions | None, shelf: Shelf) -> Html:
    said = taken_for(score, confusions)
    return tag(
        "section",
        {"class": "all-real" if score.metric == "real" else None},
        tag("h2", None, "Per class: ", name_tag(score.title)),
        class_section(score, said),
        gallery_section(score, shelf, said),
        confusion_section(score, confusions, real),
        mistake_section(score, confusions, shelf),
    )
