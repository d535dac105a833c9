"""Private scratch folders that do not pile up: each holds a lock, and one whose lock is free belongs to the dead."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK_NAME = "lock"
UNLOCKED_S = 60.0  # a folder is without its lock while it is made, or if it was made again after its end


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder `<parent>/<prefix><random>` for this process, and remove it and those of killed processes.

    The kernel frees a lock when its owner dies, however it dies and in whatever container it ran.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with (folder / _LOCK_NAME).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, prefix: str) -> None:
    """Remove this user's folders of that prefix whose lock nobody holds, or that have had none for a minute."""
    for folder in parent.glob(f"{prefix}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            if not (folder / _LOCK_NAME).exists():
                if time.time() - folder.stat().st_mtime > UNLOCKED_S:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with (folder / _LOCK_NAME).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # held by a living process, just being made, or gone in the meantime
            continue
