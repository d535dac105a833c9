"""Publishing a frozen set on the Hugging Face Hub: commits of some files each, replica.json in the last one.

A commit is made only onto the one that was looked at (`parent_commit`), so two pushes cannot mix. Large files are
uploaded before their commit and found again by their digest after a kill. Every file is read back after the commit that
brought it, since the digest that the Hub states of it is the one it was told; only then comes the commit with
replica.json, the card and what else tools read. So no commit shows a part of a set as a set.
"""

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from caskit.manifests import index
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.shards.digest import sha256_stored
from caskit.shards.records import Records, read_replica
from caskit.shards.remote.attempts import ATTEMPTS
from caskit.shards.remote.hub import Entry, Hub, Moved, NoRepository
from caskit.shards.remote.hub_store import HubStore, git_blob_id
from caskit.shards.remote.location import HubPlace
from caskit.shards.remote.patience import Patience, Transient
from caskit.shards.remote.progress import Transfer, TransferConfig, TransferProgress, in_threads
from caskit.shards.remote.published import LAST, PublishedFile
from caskit.shards.store import REPLACEABLE, Store

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

COMMIT_FILES = 100  # of one commit; what is uploaded for one that is not made yet has to be found by its digest
_LAST = {*REPLACEABLE, LAST} - {index.FILE}  # what makes it a set, for caskit and for others
_log = logging.getLogger(__name__)


def push_to_hub(
    records: Records, files: Sequence[PublishedFile], place: HubPlace, config: TransferConfig, patience: Patience
) -> Transfer:
    """Publish a checked set; the same call again goes on, or adds new signatures. See push.

    A repository that is not there is made, private.

    Raises:
        InputError: a commit instead of a branch, no access, or something else is there.
        RunFailed: what the Hub has is not what was sent.
        NotFinished: the config's `stop` said so.
    """
    if place.is_pinned:
        raise InputError(f"{place}: a commit never changes; name a branch to push to, or none for the main one")
    work = _Push(records, place, config, patience)
    if not config.dry_run:
        work.check_access()
    work.look()
    due = [file for file in files if not work.has(file)]
    if not config.dry_run:
        work.carry(files)
    return Transfer(
        source=records.store.location,
        location=str(work.there),
        replica_id=records.replica.replica_id,
        num_files=len(files),
        num_bytes=sum(file.size_bytes for file in files),
        files_moved=len(due),
        bytes_moved=sum(file.size_bytes for file in due),
    )


class _Push:
    """What one push knows of the branch: the commit it is at, and the files there."""

    def __init__(self, records: Records, place: HubPlace, config: TransferConfig, patience: Patience) -> None:
        self._source: Store = records.store
        self._replica_id = records.replica.replica_id
        self._place, self._config, self._patience = place, config, patience
        self._hub = Hub(place.repository, patience)
        self._head: str | None = None  # None where there is no repository yet
        self._entries: dict[str, Entry] = {}
        self._complete = False

    @property
    def there(self) -> HubPlace:
        """The place, at the commit that was looked at last."""
        return self._place if self._head is None else self._place.at(self._head)

    def look(self) -> None:
        """Look where the branch is and what it holds. Raises InputError if that is another set."""
        try:
            self._head = self._hub.commit_of(self._place.revision)
        except NoRepository:
            if not self._config.dry_run:
                self._hub.make()
                self._head = self._hub.commit_of(self._place.revision)
        self._entries = {} if self._head is None else self._hub.entries(self._head, self._place.path)
        self._complete = LAST in self._entries
        if self._complete:
            there = read_replica(self._store()).replica_id
            if there != self._replica_id:
                raise InputError(f"{self.there}: holds the set {there}, not {self._replica_id}; push elsewhere")

    def check_access(self) -> None:
        """Raise InputError without a token."""
        if not self._hub.headers():
            raise InputError(f"{self._place}: to push needs a token, from HF_TOKEN or `hf auth login`")

    def has(self, file: PublishedFile) -> bool:
        """Say whether the Hub states to have a file's bytes. Raises InputError for others that may not be replaced."""
        entry = self._entries.get(file.name)
        if entry is None:
            return False
        if entry.size_bytes == file.size_bytes:
            stated, due = entry.sha256, file.sha256
            if stated is None:
                stated, due = entry.blob_id, git_blob_id(self._read(file))
            if stated == due:
                return True
        if file.name in REPLACEABLE:
            return False
        raise InputError(
            f"{self.there}/{file.name}: is there with other bytes than the set has; delete it, or push to another place"
        )

    def carry(self, files: Sequence[PublishedFile]) -> None:
        """Have all files arrive whole."""
        last = [file for file in files if file.name in _LAST]
        before = [file for file in files if file.name not in _LAST]
        batches = [before[start : start + COMMIT_FILES] for start in range(0, len(before), COMMIT_FILES)]
        meter = _Meter(files, self._config)
        for number, batch in enumerate([*batches, last]):
            if self._config.stop():
                raise NotFinished(f"push to {self._place}: stopped")
            part = "" if batch is last else f", part {number + 1} of {len(batches) + 1}"
            was_complete = self._complete  # then all of it was read back once
            sent = self._commit(batch, f"caskit: frozen set {self._replica_id[:12]}{part}", meter)
            self._read_back(sent if was_complete else batch)
            meter.count(batch)

    def _commit(self, batch: list[PublishedFile], message: str, meter: "_Meter") -> list[PublishedFile]:
        """Have the files of a batch in a commit; returns those that were not there.

        After an answer that did not come, or another's commit, the branch is looked at again.
        """
        missing = [file for file in batch if not self.has(file)]
        meter.count([file for file in batch if file not in missing])
        is_sure = True

        def attempt() -> None:
            nonlocal is_sure
            if not is_sure:
                self.look()
            due = [file for file in missing if not self.has(file)]
            if not due:
                return
            assert self._head is not None, "the branch was looked at"
            is_sure = False
            with contextlib.ExitStack() as stack:
                added = self._upload(due, stack, meter)
                try:
                    self._head = self._hub.commit(added, self._head, self._place.revision, message)
                except Moved:
                    raise Transient("another commit came between") from None
            names = [file.name for file in due]
            self._entries.update(self._hub.entries_of(self._head, self._place.path, names))

        self._patience.call(f"{self._place}: cannot commit", attempt)
        return missing

    def _upload(
        self, due: list[PublishedFile], stack: contextlib.ExitStack, meter: "_Meter"
    ) -> "list[CommitOperationAdd]":
        """Send files, several at a time; they stay open until the stack is closed."""
        opened = {file.name: stack.enter_context(self._open(file)) for file in due}

        def send(file: PublishedFile) -> "CommitOperationAdd":
            path = f"{self._place.path}/{file.name}".lstrip("/")
            return self._hub.upload(path, opened[file.name], file.sha256, self._place.revision)

        what, added = f"push to {self._place}", {}
        for file, operation in in_threads(send, due, workers=self._config.workers, stop=self._config.stop, what=what):
            added[file.name] = operation
            meter.count([file])
        return [added[file.name] for file in due]

    def _read_back(self, files: list[PublishedFile]) -> None:
        store = self._store()

        def check(file: PublishedFile) -> None:
            try:
                for _ in range(ATTEMPTS):
                    if sha256_stored(store, file.name) == file.sha256:
                        return
                    _log.warning("%s/%s: arrived with other bytes; read again", store.location, file.name)
            except FileNotFoundError:
                raise InputError(
                    f"{store.location}/{file.name}: the Hub left it out of the commit; does a .gitignore name it?"
                ) from None
            raise RunFailed(
                f"{store.location}/{file.name}: the Hub has other bytes than were sent, read {ATTEMPTS} times"
            )

        what = f"push to {self._place}"
        for _ in in_threads(check, files, workers=self._config.workers, stop=self._config.stop, what=what):
            pass

    def _store(self) -> HubStore:
        return HubStore.at(self.there, self._entries, self._patience)

    def _open(self, file: PublishedFile) -> BinaryIO:
        path = None if file.data is not None else self._source.local_path(file.name)
        return io.BytesIO(self._read(file)) if path is None else path.open("rb")

    def _read(self, file: PublishedFile) -> bytes:
        return self._source.read(file.name) if file.data is None else file.data


class _Meter:
    """Tells how many files are there or sent, each once."""

    def __init__(self, files: Sequence[PublishedFile], config: TransferConfig) -> None:
        self._config, self._num, self._total = config, len(files), sum(file.size_bytes for file in files)
        self._done: dict[str, int] = {}

    def count(self, files: list[PublishedFile]) -> None:
        """Tell of some files."""
        self._done.update((file.name, file.size_bytes) for file in files)
        done = sum(self._done.values())
        self._config.progress(
            TransferProgress(bytes_done=done, num_bytes=self._total, files_done=len(self._done), num_files=self._num)
        )
