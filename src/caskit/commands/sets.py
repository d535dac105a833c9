"""Set references on the command line: opening a set with its check shown, and naming one in the output."""

from pathlib import Path
from typing import TYPE_CHECKING

from caskit.console import Meter, Status
from caskit.train.launch import Launch

if TYPE_CHECKING:
    from caskit.shards.dataset import FrozenSet
    from caskit.train.distributed import World

SHOWN_DIGITS = 16


def open_shown(reference: str, show: Meter) -> "FrozenSet":
    """Open a frozen set; if it has to be checked first, the meter shows how far that is."""
    from caskit.shards.dataset import open_set
    from caskit.shards.verify import VerifyProgress

    def progress(at: VerifyProgress) -> None:
        show(Status(title="verify", done=at.done, total=at.total, unit="shards"))

    return open_set(reference, progress=progress)


def open_together(reference: str, show: Meter, world: "World", launch: Launch) -> "FrozenSet":
    """Open a set in every process of a run; the first one of each machine checks it, the others go by its receipt."""
    opened: FrozenSet | None = None
    for turn in (True, False):
        with world.agreed():
            if (launch.local_rank == 0) is turn:
                opened = open_shown(reference, show)
    assert opened is not None, "a process has its turn or has not"
    return opened


def reference_text(location: str | Path, replica_id: str) -> str:
    """Spell `PATH@sha256:prefix`, the path as the current folder sees it."""
    path = Path(location)
    shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
    return f"{shown}@sha256:{replica_id[:SHOWN_DIGITS]}"
