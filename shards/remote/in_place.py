"""Checking a published set where it lies: nothing of it is kept here, and what the store vouches for is not moved."""

import itertools
from collections.abc import Callable, Iterator

from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.roots import ShardRecord
from caskit.manifests.sets import SetReference
from caskit.manifests.view import View
from caskit.shards.code_checks import CodesCheck, due_sidecars
from caskit.shards.commit import shard_path
from caskit.shards.digest import sha256_stored
from caskit.shards.fault import MAX_FAULTS, BrokenSet, Fault
from caskit.shards.records import Records
from caskit.shards.remote.attempts import again
from caskit.shards.remote.objects import ObjectStore
from caskit.shards.remote.pull import read_checked
from caskit.shards.row_checks import check_rows
from caskit.shards.shard_rows import HeldRows
from caskit.shards.store import open_store
from caskit.shards.verify import Report, VerifyProgress
from caskit.shards.view_checks import check_view


def verify_in_place(
    reference: str, *, trust_store: bool = True, progress: Callable[[VerifyProgress], None] = lambda _: None
) -> Report:
    """Check a published set against its ids without a copy of it.

    The records are read and checked as by `verify`. Of a tar whose SHA-256 the store states, that is compared; any
    other tar is read, a few pieces in memory at a time, and so are codes. Whether a tar with the due digest holds what
    its rows say is not looked at: that is `verify` at level full.

    Args:
        reference: the set, `URL[@sha256:prefix]`.
        trust_store: False reads every tar.
        progress: called after every tar.

    Raises:
        InputError: no frozen set there, or another than the reference asks for.
        IntegrityError: a record cannot be read; BrokenSet with up to 20 faults.
    """
    asked = SetReference.parse(reference)
    if not isinstance(open_store(asked.location), ObjectStore):
        raise InputError(f"{asked.location}: is a folder; leave --in-place out")
    records = again(lambda: read_checked(asked), asked.location)
    check = check_view if isinstance(records.origin, View) else check_rows
    faults = list(itertools.islice(check(records), MAX_FAULTS))
    if faults:
        raise BrokenSet(records.store.location, faults)
    num_stated = 0
    for shard in records.shards:
        fault, stated = _check_tar(records, shard, trust_store=trust_store)
        faults, num_stated = faults + fault, num_stated + stated
        progress(VerifyProgress(stage="tars", done=shard.shard + 1, total=len(records.shards)))
    faults += itertools.islice(_check_codes(records), MAX_FAULTS)
    if faults:
        raise BrokenSet(records.store.location, faults[:MAX_FAULTS])
    num = len(records.shards)
    checks = [("rows", records.manifest.num_rows), ("roots", 3)]
    checks += [("tars by the store's word", num_stated), ("tars read", num - num_stated)]
    if due_sidecars(records.origin, num):
        checks.append(("digests of codes", records.manifest.num_rows))
    return Report(location=records.store.location, replica=records.replica, level="in place", checks=tuple(checks))


def _check_tar(records: Records, due: ShardRecord, *, trust_store: bool) -> tuple[list[Fault], bool]:
    """Return what is wrong with a tar, and whether the store's word was enough."""
    store, name = records.store, shard_path(due.shard)
    assert isinstance(store, ObjectStore), "folders were refused"

    def read() -> None:
        found = sha256_stored(store, name)
        if found != due.sha256:
            raise IntegrityError(f"has sha256 {found}, must have {due.sha256}")

    try:
        size = store.size(name)
        if size != due.size_bytes:
            return [Fault(file=name, message=f"has {size} bytes, must have {due.size_bytes}")], False
        if trust_store and store.stated_sha256(name) == due.sha256:
            return [], True
        again(read, f"{store.location}/{name}")
    except FileNotFoundError:
        return [Fault(file=name, message="is missing")], False
    except IntegrityError as error:
        return [Fault(file=name, message=str(error))], False
    return [], False


def _check_codes(records: Records) -> Iterator[Fault]:
    """Read every sidecar of codes and compare it with its rows."""
    names, check = due_sidecars(records.origin, records.num_shards), CodesCheck(records.store)
    for (name, shard), rows in zip(names.items(), HeldRows(records) if names else (), strict=True):
        if not records.store.exists(name):
            yield Fault(file=name, message="is missing")
            continue
        faults = list(check.check_shard(shard, rows))
        yield from faults and list(check.check_shard(shard, rows))  # once more: bits change on the way
