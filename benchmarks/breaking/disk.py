"""A disk that can be filled and made read-only: a tmpfs, which takes root. Where that is not allowed, None."""

import contextlib
import errno
import os
import subprocess
import time
from pathlib import Path

SIZE_MB = 48


class Disk:
    """A tmpfs of SIZE_MB at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"
        folder.mkdir(parents=True, exist_ok=True)
        while os.path.ismount(folder):  # of a sitting that was killed
            _call("umount", "-l", str(folder))
        _call("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "caskit-chaos", str(folder))

    def fill(self) -> None:
        """Leave no byte free. Raises RuntimeError where the folder is no disk of its own any more."""
        if not os.path.ismount(self.folder):
            raise RuntimeError(f"{self.folder}: not mounted any more; filling it would fill the machine's disk")
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(64))

    def free(self) -> None:
        """Undo that."""
        self._filler.unlink(missing_ok=True)

    def lock(self) -> bool:
        """Make it read-only, which it can be between two files that are open for writing; False if it never was."""
        for _ in range(2000):
            if _code("mount", "-o", "remount,ro", str(self.folder)) == 0:
                return True
            time.sleep(0.002)
        return False

    def unlock(self) -> None:
        """Undo that."""
        _call("mount", "-o", f"remount,rw,size={SIZE_MB}m", str(self.folder))

    def close(self) -> None:
        """Give it back."""
        _call("umount", "-l", str(self.folder))


def make_disk(folder: Path) -> Disk | None:
    """Return a disk of one's own, or None where this process may not mount one."""
    try:
        return Disk(folder)
    except OSError:
        return None


def _code(*line: str) -> int:
    return subprocess.run(line, capture_output=True, check=False).returncode


def _call(*line: str) -> None:
    if code := _code(*line):
        raise OSError(errno.EPERM, f"{' '.join(line)} ended with {code}")
