"""Set references on the command line: opening a set with its check shown, and naming one in the output."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.console import Meter, Status
from caskit.train.launch import Launch

if TYPE_CHECKING:
    from caskit.manifests.classes import ClassList
    from caskit.shards.dataset import FrozenSet
    from caskit.shards.mixture import TrainingSet
    from caskit.train.distributed import World

SHOWN_DIGITS = 16
_SHARE = re.compile(r"(?P<reference>.+):(?P<share>0\.[0-9]{1,6}|1\.0)")


def open_shown(reference: str, show: Meter) -> "FrozenSet":
    """Open a frozen set; if it has to be checked first, the meter shows how far that is."""
    from caskit.shards.dataset import open_set
    from caskit.shards.verify import VerifyProgress

    def progress(at: VerifyProgress) -> None:
        show(Status(title="fetch" if at.stage == "fetch" else "verify", done=at.done, total=at.total, unit="shards"))

    return open_set(reference, progress=progress)


def open_any(
    reference: str,
    show: Meter,
    stop: Callable[[], bool],
    *,
    split: str | None = None,
    classes: "ClassList | None" = None,
    channels: int | None = None,
) -> "FrozenSet":
    """Open a caskit set, or a foreign source of labelled images, which is imported into the cache first.

    Args:
        reference: a set, or a path that `recognise` knows.
        show: told how far checks and the import are.
        stop: asks the import to stop, which raises NotFinished.
        split: of a source of real images; None for a source of synthetic ones.
        classes: in which the labels of a source are looked up; a caskit set keeps its own, and scoring compares them.
        channels: how the images of a source are read; None for their own.
    """
    from caskit.shards.imports import bring_in
    from caskit.shards.ingest import IngestProgress
    from caskit.shards.sources.recognise import CASKIT, Options

    def progress(at: IngestProgress) -> None:
        show(Status(title=f"{at.stage} {Path(reference).name}", done=at.done, total=at.total, unit="img"))

    brought = bring_in(
        reference,
        kind="imported" if split is None else "real",
        options=Options(split=split, classes=classes),
        channels=channels,
        progress=progress,
        stop=stop,
    )
    return open_shown(reference if brought.form == CASKIT else brought.reference, show)


def open_together(reference: str, show: Meter, world: "World", launch: Launch) -> "FrozenSet":
    """Open a set in every process of a run; the first one of each machine checks it, the others go by its receipt."""
    opened: FrozenSet | None = None
    for turn in (True, False):
        with world.agreed():
            if (launch.local_rank == 0) is turn:
                opened = open_shown(reference, show)
    assert opened is not None, "a process has its turn or has not"
    return opened


def open_mixture(
    references: Sequence[str], show: Meter, world: "World", launch: Launch, *, stream_bytes: int = 0
) -> "TrainingSet":
    """Open `SET[:SHARE]` in every process of a run: one set, or real images with synthetic ones beside them.

    With `stream_bytes`, sets at URLs are read while they are fetched, so much of each at a time on this machine.

    Raises:
        InputError: the sets cannot be mixed, or a share is of a real set.
    """
    from caskit.shards.mixture import Mixture
    from caskit.shards.remote.location import is_url
    from caskit.shards.remote.streamed import open_streamed

    parts = []
    for text in references:
        match = _SHARE.fullmatch(text)
        reference = text if match is None else match["reference"]
        if stream_bytes and is_url(reference):
            with world.agreed():
                part: FrozenSet = open_streamed(reference, stream_bytes)
        else:
            part = open_together(reference, show, world, launch)
        parts.append(part if match is None else part.share(float(match["share"])))
    return parts[0] if len(parts) == 1 else Mixture(parts)


def reference_text(location: str | Path, replica_id: str) -> str:
    """Spell `PATH_OR_URL@sha256:prefix`, a path as the current folder sees it."""
    if "://" in str(location):
        return f"{location}@sha256:{replica_id[:SHOWN_DIGITS]}"
    path = Path(location)
    shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
    return f"{shown}@sha256:{replica_id[:SHOWN_DIGITS]}"
