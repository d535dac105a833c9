"""Adopts the shards of another replica that the plan would make again with the same bytes.

A balanced plan's full shards do not depend on its number of samples, so a replica of 50,000 images is the beginning of
one of 1,281,167 (docs/format.md, rule 2.2).
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from caskit.gen.environment import claim_environment, keep_environment, read_environments
from caskit.gen.planning import read_plan
from caskit.gen.worker import ShardResult, scratch_parent
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.plan import Plan, differing_fields
from caskit.shards.codes import codes_path
from caskit.shards.commit import (
    CommitInfo,
    commit_shard,
    committed_shards,
    describe_shard,
    read_commit,
    shard_name,
    shard_path,
)
from caskit.shards.scratch import scratch_folder
from caskit.shards.store import AlreadyExists, Store, open_store

PARENTS_FOLDER = "_work/parents"
# What may differ between two plans without changing a sample that both have.
_NUMBER_FIELDS = ("quota", "histogram")


def same_shards(plan: Plan, other: Plan, where: str) -> list[int]:
    """Return the shards that both plans fill with the same samples.

    Raises:
        InputError: the plans differ in more than their numbers of samples, naming the fields.
    """
    ours, theirs = plan.to_json(), other.to_json()
    differing = differing_fields(
        {name: value for name, value in ours.items() if name not in _NUMBER_FIELDS},
        {name: value for name, value in theirs.items() if name not in _NUMBER_FIELDS},
    )
    if differing:
        raise InputError(f"{where}: cannot be extended, its plan differs in {', '.join(differing)}")
    return [shard for shard in range(min(plan.num_shards, other.num_shards)) if _equal_samples(plan, other, shard)]


def _equal_samples(plan: Plan, other: Plan, shard: int) -> bool:
    if plan.shard_range(shard) != other.shard_range(shard):
        return False
    ours = plan.draw_order.assign(*plan.shard_range(shard))
    theirs = other.draw_order.assign(*plan.shard_range(shard))
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def adopt_shards(
    store: Store,
    plan: Plan,
    parent: Path,
    shards: range,
    *,
    environment: dict[str, Any],
    allow_environment: bool,
    stop: Callable[[], bool],
    adopted: Callable[[ShardResult], None],
) -> None:
    """Commit, for `plan`, those of `shards` that the replica at `parent` has already; their digests are verified.

    Args:
        store: of the new replica, plan.json written.
        plan: of the new replica.
        parent: folder of a replica of the same plan but for its number of samples, frozen or not.
        shards: numbers this process cares for.
        environment: this process's class; the parent's has to be the same.
        allow_environment: adopt from another class, and have the provenance say so.
        stop: asked between shards.
        adopted: told of every shard.

    Raises:
        InputError: the parent's plan or environment class differs, naming the fields; or it has no commits.
        IntegrityError: a tar or the rows of the parent are not what its commit says.
        NotFinished: `stop` said so.
    """
    source = open_store(str(parent))
    other = read_plan(source)
    theirs = committed_shards(source)
    if not theirs:
        raise InputError(f"{parent}: has no commits under _work/commits, there is nothing to adopt")
    candidates = set(same_shards(plan, other, str(parent))) & set(shards) & theirs
    todo = sorted(candidates - committed_shards(store))
    if not todo:
        return
    environments = read_environments(source)
    _note_parent(store, other)
    for shard in todo:
        if stop():
            raise NotFinished("stopped on request while adopting shards; the same command goes on from here")
        rows, info = read_commit(source, shard)
        if info.plan_id != other.plan_id:
            raise IntegrityError(
                f"{parent}: the commit of shard {shard} belongs to plan {info.plan_id}, not to plan.json"
            )
        _bring_environment(store, info, environments, environment, parent, allow=allow_environment)
        with scratch_folder(scratch_parent(store), "caskit-adopt-") as folder:
            tar = folder / shard_name(shard)
            codes = tar.with_suffix(".codes.parquet") if plan.record_codes else None
            _copy(source, shard_path(shard), tar)
            if codes is not None:
                _copy(source, codes_path(shard), codes)
            ours = describe_shard(tar, rows, shard=shard, plan_id=plan.plan_id, environment_id=info.environment_id)
            if (ours.tar_size, ours.tar_sha256) != (info.tar_size, info.tar_sha256):
                raise IntegrityError(
                    f"{parent}/shards/{info.tar_name}: sha256 {ours.tar_sha256}, its commit says {info.tar_sha256}"
                )
            commit_shard(store, tar, rows, ours, codes=codes)
        adopted(ShardResult(shard=shard, outcome="extended", num_drawn=0, num_redrawn=0, seconds={}))


def _copy(source: Store, name: str, path: Path) -> None:
    try:
        with source.open(name) as opened, path.open("wb") as copy:
            shutil.copyfileobj(opened, copy, 2**20)
    except FileNotFoundError:
        raise IntegrityError(f"{source.location}/{name}: missing, the shard is committed") from None


def _bring_environment(
    store: Store,
    info: CommitInfo,
    environments: dict[str, dict[str, Any]],
    environment: dict[str, Any],
    parent: Path,
    *,
    allow: bool,
) -> None:
    """Bring the class a shard was drawn in into the new replica; it must be this process's own unless allowed."""
    described = environments.get(info.environment_id)
    if described is None:
        raise IntegrityError(
            f"{parent}: shard {info.shard} was drawn in environment {info.environment_id}, not described there"
        )
    if described != environment and not allow:
        raise InputError(
            f"{parent}: shard {info.shard} was drawn in another environment class than this one: "
            f"{', '.join(differing_fields(environment, described))}; "
            "--allow-environment adopts it and gives the promise of equal bytes up"
        )
    claim_environment(store, environment, allow=allow)
    if described != environment:
        keep_environment(store, described)


def _note_parent(store: Store, other: Plan) -> None:
    """Keep for the provenance which replica was extended."""
    try:
        store.create(
            f"{PARENTS_FOLDER}/{other.plan_id}.json", canonical_json({"plan_id": other.plan_id, "num": other.num})
        )
    except AlreadyExists:
        return
