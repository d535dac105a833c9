"""From a closed tar to a committed shard; every row is digested once, `commit_shard` would check that once more."""

from pathlib import Path

import pyarrow as pa

from caskit.shards.commit import (
    Made,
    Outcome,
    check_rows_written,
    commit_checked,
    commit_shard,
    describe_shard,
)
from caskit.shards.store import Store
from caskit.shards.writing import Written


def commit_written(
    store: Store,
    tar: Path,
    rows: pa.Table,
    written: Written,
    *,
    shard: int,
    plan_id: str,
    environment_id: str = "",
    codes: Path | None = None,
    discard_orphans: bool = False,
) -> Outcome:
    """Describe and commit a shard whose tar was just written.

    Args:
        store: the set.
        tar: the tar, a scratch file; one that is not what its writer left is read again.
        rows: its rows in sample_id order.
        written: what its writer hashed and read back.
        shard: its number.
        plan_id: digest of plan.json or of the record that stands for it.
        environment_id: empty for a real or imported set.
        codes: the sidecar, see `commit_shard`, as for what follows, what is returned and what is raised.
        discard_orphans: see there.
    """
    info = describe_shard(tar, rows, shard=shard, plan_id=plan_id, environment_id=environment_id, written=written)
    if not written.is_still(tar):
        return commit_shard(store, tar, rows, info, codes=codes, discard_orphans=discard_orphans)
    check_rows_written(written, rows, shard)
    made = Made(tar=tar, codes=codes, rows=rows, info=info)
    return commit_checked(store, made, discard_orphans=discard_orphans)
