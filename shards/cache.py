"""Where caskit keeps what can be made or fetched again: receipts of verified sets, downloaded input files."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return `$XDG_CACHE_HOME/caskit/<name>` (by default below ~/.cache); it need not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"  # the XDG rules ignore a relative value
    return base / "caskit" / name
