"""Private scratch folders that do not pile up: each holds a lock, and one whose lock is free belonged to the dead."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".caskit-scratch-lock"  # a folder without it is never touched: it may be anybody's


@contextmanager
def scratch_folder(parent: Path, prefix: str = "scratch-") -> Iterator[Path]:
    """Make `<parent>/<prefix><random>` for this process and remove it at the end; first remove those of killed ones.

    The kernel frees a lock when its owner dies, however it dies and in whatever container it ran.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with (folder / f"{_LOCK}.new").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(folder / f"{_LOCK}.new", folder / _LOCK)  # a sweeper sees it locked or not at all
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, prefix: str) -> None:
    """Remove this user's folders of that prefix whose lock nobody holds; those without a lock are not ours."""
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # held by a living process, just being made, or gone in the meantime
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
