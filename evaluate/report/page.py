"""The report: one self-contained HTML file made from score folders and the sets that they name."""

import base64
import hashlib
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import caskit
from caskit.evaluate.report.classes import class_section
from caskit.evaluate.report.confusion import confusion_section, read_confusions, real_confusions, taken_for
from caskit.evaluate.report.fidelity import fidelity_section
from caskit.evaluate.report.gallery import Shelf, gallery_section
from caskit.evaluate.report.groups import group_scores
from caskit.evaluate.report.headline import heading, headline, score_table, title
from caskit.evaluate.report.identity import caveat_section, identity_section, verify_section, version_section
from caskit.evaluate.report.record import Score, read_score
from caskit.evaluate.report.text import Html, name_tag, tag
from caskit.manifests.errors import InputError

# Nothing in the page may load anything, and nothing but our own script may run, whatever a class is called.
_POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def write_report(score_dirs: Sequence[Path], out: Path, *, sets: Mapping[str, str] | None = None) -> Path:
    """Write report.html from one or more score folders and return its path.

    The same folders give the same bytes, except that paths are written as the current folder sees them. Sets are opened
    where the scores say they are, and only with the right id; the page says so where a set is not at hand.

    Args:
        score_dirs: folders written by `score`, in the order of the page.
        out: the file to write; it is replaced as a whole.
        sets: where sets are by replica_id, before what the scores say.

    Raises:
        InputError: a folder holds no score that can be read.
        IntegrityError: score or predictions were changed.
    """
    if not score_dirs:
        raise InputError("a report needs at least one score folder")
    scores = [read_score(Path(directory)) for directory in score_dirs]
    page = render(scores, Shelf(sets or {}))
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.tmp")
    try:
        scratch.write_text("<!DOCTYPE html>\n" + page + "\n", encoding="utf-8")
        os.replace(scratch, out)
    finally:
        scratch.unlink(missing_ok=True)
    return out


def render(scores: Sequence[Score], shelf: Shelf) -> Html:
    """Return the whole page."""
    groups = group_scores(scores)
    body = tag(
        "main",
        None,
        headline(scores, groups),
        score_table(scores, groups),
        fidelity_section(scores),
        [_score_section(score, shelf) for score in scores],
        caveat_section(scores),
        identity_section(scores),
        verify_section(scores, shelf.location),
        version_section(scores),
        tag(
            "footer",
            None,
            f"Made by caskit {caskit.__version__}. This file is self-contained; its one script sorts tables.",
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


def _score_section(score: Score, shelf: Shelf) -> Html:
    confusions = read_confusions(score.directory, len(score.names))
    said = taken_for(score, confusions)
    return tag(
        "section",
        {"class": "all-real" if score.metric == "real" else None},
        tag("h2", None, "Per class: ", name_tag(score.title)),
        class_section(score, said),
        gallery_section(score, shelf, said),
        confusion_section(score, confusions, real_confusions(score)),
    )
