"""What a page shows, gathered once: the page is drawn from it, and report.json says it in numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate.compare.correlation import Entry
from caskit.evaluate.compare.fidelity import Measured
from caskit.evaluate.report.confusion import Confusions, read_confusions, real_confusions
from caskit.evaluate.report.copies import find_searches
from caskit.evaluate.report.correlation import comparable, entries_of, find_correlations
from caskit.evaluate.report.groups import Group, group_scores
from caskit.evaluate.report.measured import find_measured, values_by_set
from caskit.evaluate.report.record import Score, read_score, told_apart
from caskit.evaluate.report.runs import Run, cas_runs
from caskit.evaluate.report.sweep import Sweep, find_sweeps
from caskit.manifests.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything on a page but images.

    Attributes:
        scores: in the order of the page.
        groups: scores that differ by their training seed alone.
        runs: the sets that have a CAS.
        sweeps: over one setting.
        entries, correlations: the sets as rows of a comparison, and how metrics go with CAS; empty if they are few or
            of several recipes.
        confusions: per score its own and the Real row's, None where predictions are not at hand.
        searches: for copies, folder and record.
        measured: fidelity metrics of the sets.
    """

    scores: Sequence[Score]
    groups: Sequence[Group]
    runs: Sequence[Run]
    sweeps: Sequence[Sweep]
    entries: Sequence[Entry]
    correlations: Sequence[Mapping[str, Any]]
    confusions: Sequence[tuple[Confusions | None, Confusions | None]]
    searches: Sequence[tuple[Path, dict[str, Any]]]
    measured: Sequence[Measured] = ()


def gather(score_dirs: Sequence[Path], duplicates: Sequence[Path] = (), metrics: Sequence[Path] = ()) -> Contents:
    """Read score folders, searches for copies and fidelity metrics.

    Raises:
        InputError: there is no folder, or one holds nothing that can be read.
        IntegrityError: something was changed.
    """
    if not score_dirs:
        raise InputError("a report needs at least one score folder")
    scores = told_apart([read_score(Path(directory)) for directory in score_dirs])
    groups = group_scores(scores)
    runs = cas_runs(scores, groups)
    measured = find_measured(scores, [Path(folder) for folder in metrics])
    entries = entries_of(runs, values_by_set(measured)) if comparable(runs) else []
    return Contents(
        scores=scores,
        groups=groups,
        runs=runs,
        sweeps=find_sweeps(runs),
        entries=entries,
        correlations=find_correlations(entries) if entries else [],
        confusions=[(read_confusions(one.directory, len(one.names)), real_confusions(one)) for one in scores],
        searches=find_searches(scores, [Path(folder) for folder in duplicates]),
        measured=measured,
    )
