"""Making a damaged set whole again in its folder: what is bad or missing is replaced, what is good is not touched.

What comes instead of a bad file is held to the set's identity before it gets its name (damage.py says how), so whoever
gives it need not be trusted. Each file is replaced in one step; replica.json, if it was lost, comes last. The same call
again goes on.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.manifests.replica import Replica
from caskit.manifests.sets import SetReference
from caskit.manifests.view import View
from caskit.shards.card import write_card
from caskit.shards.codes import codes_path
from caskit.shards.commit import shard_path
from caskit.shards.damage import LAST, Source, check_sidecar, find_damage
from caskit.shards.digest import sha256_file
from caskit.shards.records import Records
from caskit.shards.row_checks import rows_of_shard
from caskit.shards.store import LocalStore
from caskit.shards.verify import VerifyProgress, verify

SUMS = "SHA256SUMS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepairProgress:
    """How far a stage is, in files: `look` at what is there, `mend`."""

    stage: str
    done: int
    total: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a repair came to, or with dry_run would come to.

    Attributes:
        location: the folder.
        replica: the identity, which is what it was.
        reasons: what was wrong with every file that was replaced, by name.
        num_good: files that were looked at and left alone.
    """

    location: str
    replica: Replica
    reasons: dict[str, str]
    num_good: int


def repair(
    reference: str,
    source: Source,
    *,
    dry_run: bool = False,
    progress: Callable[[RepairProgress], None] = lambda _: None,
    verifying: Callable[[VerifyProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Repaired:
    """Replace what is bad of a frozen set in a folder, and verify the whole in full.

    Args:
        reference: the set, `PATH[@sha256:prefix]`; where replica.json itself is lost, the prefix says what is due.
        source: where good files come from.
        dry_run: only find out what is bad.
        progress: told after every tar that was looked at, and every file that was replaced.
        verifying: told how far the check at the end is.
        stop: asked between files that are replaced.

    Raises:
        InputError: no set there, or none of this identity at the source.
        IntegrityError: the source gave something else, or the set is broken in a way that none of its files mends.
        RunFailed: a tar or codes of the source are not the set's.
        NotFinished: `stop` said so.
    """
    asked = SetReference.parse(reference)
    if "://" in asked.location:
        raise InputError(f"{asked.location}: a set is repaired in a folder; repair its copy there, and push that")
    if not Path(asked.location).is_dir():
        raise InputError(f"{asked.location}: no such folder; `caskit pull` fetches a set that is not there")
    target = LocalStore(Path(asked.location))

    def looked(done: int, total: int) -> None:
        progress(RepairProgress(stage="look", done=done, total=total))

    damage = find_damage(target, asked, source, looked=looked)
    records = damage.records
    report = Repaired(
        location=target.location, replica=records.replica, reasons=damage.reasons, num_good=damage.num_good
    )
    if dry_run:
        return report
    for name, data in damage.writes.items():
        if name != LAST:
            target.mend(name, data)
    works = [*((_mend_tar, shard) for shard in damage.tars), *((_mend_codes, shard) for shard in damage.sidecars)]
    for done, (mend, shard) in enumerate(works):
        if stop():
            raise NotFinished(f"repair of {target.location}: stopped with {done} of {len(works)} files replaced")
        mend(target, source, records, shard)
        progress(RepairProgress(stage="mend", done=done + 1, total=len(works)))
    if LAST in damage.writes:
        target.mend(LAST, damage.writes[LAST])
    verify(f"{asked.location}@sha256:{records.replica.replica_id}", "full", progress=verifying)
    if damage.writes and target.exists(SUMS) and not isinstance(records.origin, View):
        write_card(target)  # it has the digests of the tables' bytes, which another pyarrow may have written
    return report


def _mend_tar(target: LocalStore, source: Source, records: Records, shard: int) -> None:
    due = records.shards[shard]
    with target.scratch() as folder:
        path = source.tar(records, shard, folder)
        found = sha256_file(path)
        if found != due.sha256:
            raise RunFailed(
                f"{source.location}: gives {due.name} with sha256 {found}, the set's has {due.sha256}; it was not taken"
            )
        target.mend(shard_path(shard), path)


def _mend_codes(target: LocalStore, source: Source, records: Records, shard: int) -> None:
    name = codes_path(shard)
    with target.scratch() as folder:
        path = source.codes(records, shard, folder)
        check_sidecar(path, f"{source.location}/{name}", rows_of_shard(records, shard))
        target.mend(name, path)
