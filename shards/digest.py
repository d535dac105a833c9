"""SHA-256 of files, read in pieces."""

import hashlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from caskit.shards.store import Store


def sha256_file(source: Path | BinaryIO) -> str:
    """Return the SHA-256 of a file, or of an open file from its position to its end, as 64 hex digits."""
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.file_digest(cast(Any, source), "sha256").hexdigest()


def sha256_stored(store: Store, name: str) -> str:
    """Return the SHA-256 of a stored object as 64 hex digits. Raises FileNotFoundError."""
    with store.open(name) as file:
        return sha256_file(file)
