"""A set in a dataset repository on the Hugging Face Hub, as a `Store` that is read.

A branch or a tag is looked up once, at the first use; from then on everything is read at that one commit. What is
there, how large it is and which SHA-256 it is stated to have comes from the Hub's list of that commit. The bytes come
through obstore: the Hub sends requests for large files on to another host, to which the token does not go.
"""

import hashlib
import logging
import threading
from typing import Any
from urllib.parse import urlsplit

from caskit.manifests.errors import InputError
from caskit.shards.remote.hub import Entry, Hub
from caskit.shards.remote.location import HubPlace, Location
from caskit.shards.remote.objects import ObjectStore, connect
from caskit.shards.remote.patience import Transient
from caskit.shards.store import check_name

_log = logging.getLogger(__name__)


class HubStore(ObjectStore):
    """Files below a folder of a repository. May be pickled, and is opened again at the same commit if one is known.

    Args:
        location: `hf://datasets/ORG/NAME[@REVISION]/PATH`.
        patience: how long is waited and how often is tried.

    Attributes:
        location: as given, and with the commit instead of the branch once that was looked up.

    Raises:
        InputError: a URL that is not allowed; from the first use on, no such dataset or no access to it.
        ModuleNotFoundError: huggingface_hub or obstore is not installed.
    """

    def _begin(self) -> None:
        """Ask for nothing yet: a set that is to be written there is refused without a request."""
        self._place = HubPlace.of(self._where)
        self._listed: dict[str, Entry] | None = None
        self._lock = threading.Lock()

    @classmethod
    def at(cls, place: HubPlace, entries: dict[str, Entry], patience: Any) -> "HubStore":
        """Return the store at a commit whose files are known."""
        assert place.is_pinned, "entries are those of a commit"
        store = cls(str(place), patience=patience)
        store._listed = entries
        return store

    def size(self, name: str) -> int:
        """See Store."""
        return self._entry(name).size_bytes

    def md5(self, name: str) -> str | None:
        """See ObjectStore. The Hub tells none."""
        return None

    def stated_sha256(self, name: str) -> str | None:
        """Return the SHA-256 under which the Hub keeps a large file; of a file in git it states none."""
        return self._entry(name).sha256

    def exists(self, name: str) -> bool:
        """See Store."""
        check_name(name, self.location)
        return name in self._entries()

    def names(self, prefix: str) -> list[str]:
        """See Store."""
        return sorted(name for name in self._entries() if name.startswith(prefix))

    def read_piece(self, name: str, start: int, length: int) -> bytes:
        """See ObjectStore. Files in git are small and come whole, since not all of the Hub answers ranges of them."""
        entry = self._entry(name)
        if entry.sha256 is not None:
            return super().read_piece(name, start, length)
        data = self.call("read", name, lambda: self._whole(name, entry))
        return data[start : start + length]

    def check_writable(self) -> None:
        """Raise InputError."""
        raise InputError(
            f"{self.location}: the Hub takes commits and cannot create a file only where none is, so nothing is made "
            "there; make the set in a folder or an object store and `caskit push` it"
        )

    def _whole(self, name: str, entry: Entry) -> bytes:
        data = b"".join(self.chunks(name, 0))
        if len(data) != entry.size_bytes or (len(entry.blob_id) == 40 and git_blob_id(data) != entry.blob_id):
            raise Transient("it arrived with other bytes")
        return data

    def _entry(self, name: str) -> Entry:
        check_name(name, self.location)
        try:
            return self._entries()[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", f"{self.location}/{name}") from None

    def _entries(self) -> dict[str, Entry]:
        """Return the files there by name, looked up at the first call."""
        with self._lock:
            if self._listed is None:
                hub, place = Hub(self._place.repository, self.patience), self._place
                if not place.is_pinned:
                    pinned = place.at(hub.commit_of(place.revision))
                    _log.info("%s: is %s now", place, pinned)
                    self._place, self.location = pinned, str(pinned)
                assert self._place.revision is not None, "it was pinned"
                self._listed = hub.entries(self._place.revision, self._place.path)
            return self._listed

    def _connect(self, timeout_s: float) -> Any:
        self._entries()
        hub, place = Hub(self._place.repository, self.patience), self._place
        address = urlsplit(hub.endpoint)
        parts = (address.path.strip("/"), "datasets", place.repository, "resolve", str(place.revision), place.path)
        where = Location(scheme=address.scheme, host=address.netloc, path="/".join(part for part in parts if part))
        return connect(where, self.patience, timeout_s, hub.headers())


def git_blob_id(data: bytes) -> str:
    """Return the id that git gives a file's bytes, 40 hex digits."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
