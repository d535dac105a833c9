"""Which caskit made something: version, commit, packages. Recorded beside results, never in an id."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import caskit

_PACKAGES = ("torch", "timm", "torch-fidelity", "ray", "numpy", "pyarrow", "pillow", "webdataset")


def versions() -> dict[str, str]:
    """Return the versions of caskit, Python and the packages that results depend on; absent packages are left out."""
    found = {"caskit": caskit.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout caskit runs from, `-dirty` appended if files differ; None for a wheel."""
    root = Path(caskit.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
