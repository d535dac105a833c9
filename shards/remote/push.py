"""Publishing a frozen set: every file is created once, looked at after it arrived, and replica.json comes last."""

import hashlib
import logging

from caskit.manifests.errors import InputError, RunFailed
from caskit.shards.dataset import open_set
from caskit.shards.digest import sha256_stored
from caskit.shards.records import Records, read_records, read_replica
from caskit.shards.remote.attempts import ATTEMPTS
from caskit.shards.remote.hub_push import push_to_hub
from caskit.shards.remote.location import HUB_SCHEME, HubPlace, is_url, parse_location
from caskit.shards.remote.objects import ObjectStore
from caskit.shards.remote.patience import Patience
from caskit.shards.remote.progress import Transfer, TransferConfig, TransferProgress, in_threads
from caskit.shards.remote.published import LAST, PublishedFile, published_files
from caskit.shards.store import REPLACEABLE, AlreadyExists, Store, open_store, probe_create_only

_log = logging.getLogger(__name__)


def push(
    reference: str,
    location: str,
    config: TransferConfig | None = None,
) -> Transfer:
    """Copy a frozen set to where it is to be published; the same call again goes on, or adds new signatures.

    Args:
        reference: the set, `PATH[@sha256:prefix]`; it is checked in full first.
        location: URL of an object store or of a dataset on the Hub, or a folder.
        config: how; see TransferConfig.

    Raises:
        InputError: no frozen set, a location that cannot be written or does not refuse to overwrite, or one that holds
            something else.
        RunFailed: a file did not arrive whole.
        NotFinished: the config's `stop` said so.
    """
    config = config or TransferConfig()
    where = parse_location(location) if is_url(location) else None
    open_set(reference, progress=config.verifying)
    records = read_records(reference)
    files = published_files(records)
    if where is not None and where.scheme == HUB_SCHEME:
        return push_to_hub(records, files, HubPlace.of(where), config, Patience())
    target = open_store(location)
    complete = _check_target(target, records)
    if not config.dry_run and not complete:
        probe_create_only(target)
    *others, last = files
    assert last.name == LAST, "what completes the set is written last"
    total, done, moved = sum(file.size_bytes for file in files), [0, 0], [0, 0]

    def carry(file: PublishedFile) -> bool:
        if config.dry_run:
            return not (target.exists(file.name) and target.size(file.name) == file.size_bytes)
        return _carry(records.store, target, file)

    what = f"push to {target.location}"
    for part in (others, [last]):
        for file, was_moved in in_threads(carry, part, workers=config.workers, stop=config.stop, what=what):
            for counts in (done, moved) if was_moved else (done,):
                counts[0], counts[1] = counts[0] + 1, counts[1] + file.size_bytes
            at = TransferProgress(bytes_done=done[1], num_bytes=total, files_done=done[0], num_files=len(files))
            config.progress(at)
    return Transfer(
        source=records.store.location,
        location=target.location,
        replica_id=records.replica.replica_id,
        num_files=len(files),
        num_bytes=total,
        files_moved=moved[0],
        bytes_moved=moved[1],
    )


def _check_target(target: Store, records: Records) -> bool:
    """Say whether the set is complete there already. Raises InputError if another one is."""
    if not target.exists(LAST):
        return False
    there = read_replica(target).replica_id
    if there != records.replica.replica_id:
        raise InputError(f"{target.location}: holds the set {there}, not {records.replica.replica_id}; push elsewhere")
    return True


def _carry(source: Store, target: Store, file: PublishedFile) -> bool:
    """Have a file arrive whole; returns whether it was moved, False if it was there."""
    if target.exists(file.name):
        if _is_whole(source, target, file):
            return False
        if file.name not in REPLACEABLE:
            raise InputError(
                f"{target.location}/{file.name}: is there with other bytes than the set has; delete it, or push to "
                "another place"
            )
    for attempt in range(ATTEMPTS):
        if attempt:
            _log.warning("%s/%s: arrived with other bytes; sent again", target.location, file.name)
        _send(source, target, file, again=attempt > 0)
        if _is_whole(source, target, file):
            return True
    raise RunFailed(f"{target.location}/{file.name}: did not arrive with the bytes that were sent, {ATTEMPTS} times")


def _send(source: Store, target: Store, file: PublishedFile, *, again: bool) -> None:
    if file.name in REPLACEABLE:
        target.replace(file.name, source.read(file.name) if file.data is None else file.data)
        return
    if again:
        target.delete(file.name)  # ours of a moment ago, and the set is not complete
    path = source.local_path(file.name)
    try:
        if path is None:
            target.create(file.name, source.read(file.name))
        else:
            target.create_from(file.name, path)
    except AlreadyExists:
        _log.info("%s/%s: another push was first", target.location, file.name)


def _is_whole(source: Store, target: Store, file: PublishedFile) -> bool:
    """Say whether the target holds a file's bytes, by the MD5 that a store tells of one or else by reading it."""
    if target.size(file.name) != file.size_bytes:
        return False
    path = None if file.data is not None else source.local_path(file.name)
    if isinstance(target, ObjectStore) and path is not None:
        told = target.md5(file.name)
        if told is not None:
            with path.open("rb") as opened:
                if hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == told:
                    return True
    return sha256_stored(target, file.name) == file.sha256
