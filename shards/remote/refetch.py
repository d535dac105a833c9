"""A mirror of a set, from which `repair` fetches what is bad; it may be any place that pull can read."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from caskit.manifests.errors import IntegrityError
from caskit.manifests.sets import SetReference
from caskit.shards.codes import codes_path
from caskit.shards.commit import shard_path
from caskit.shards.damage import check_sidecar
from caskit.shards.records import Records
from caskit.shards.remote.attempts import again
from caskit.shards.remote.published import PublishedFile
from caskit.shards.remote.pull import fetch
from caskit.shards.remote.reader import PIECE_BYTES
from caskit.shards.row_checks import rows_of_shard
from caskit.shards.store import LocalStore, Store, open_store

_MAX_CODES_BYTES = 2**30  # of one shard; no digest of these bytes is known, so a mirror that lies could send for ever
T = TypeVar("T")


class Mirror:
    """Another copy of the set. See caskit.shards.damage.Source.

    Args:
        reference: of the copy, `URL_OR_PATH`.

    Raises:
        InputError: a URL that is not allowed.
    """

    def __init__(self, reference: str) -> None:
        self._store = open_store(SetReference.parse(reference).location)
        self.location = self._store.location

    def record(self, read: Callable[[Store], T], name: str) -> T:
        """Read a record, again while it is not whole."""
        return again(lambda: read(self._store), self.location)

    def tar(self, records: Records, shard: int, folder: Path) -> Path:
        """Fetch a tar, held to its digest on arrival. Raises RunFailed or IntegrityError if it does not come."""
        due = records.shards[shard]
        file = PublishedFile(name=shard_path(shard), size_bytes=due.size_bytes, sha256=due.sha256)
        fetch(self._store, LocalStore(folder), file)
        return folder / file.name

    def codes(self, records: Records, shard: int, folder: Path) -> Path:
        """Fetch the codes of a shard, held to its rows on arrival. Raises IntegrityError if they do not come."""
        name, path, rows = codes_path(shard), folder / "codes", rows_of_shard(records, shard)

        def attempt() -> None:
            try:
                size = self._store.size(name)
                if size > _MAX_CODES_BYTES:
                    raise IntegrityError(f"{self.location}/{name}: {size} bytes, at most {_MAX_CODES_BYTES} are read")
                with path.open("wb") as out, self._store.open(name) as file:
                    while piece := file.read(PIECE_BYTES):
                        out.write(piece)
            except FileNotFoundError:
                raise IntegrityError(f"{self.location}/{name}: is missing from the set") from None
            check_sidecar(path, f"{self.location}/{name}", rows)

        again(attempt, self.location)
        return path
