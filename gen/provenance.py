"""What is told about how a replica was made. Never part of its identity."""

from collections import Counter
from typing import Any

from caskit.gen.environment import ENVIRONMENT_NAME, read_environments
from caskit.gen.extending import PARENTS_FOLDER
from caskit.manifests.canonical import parse_canonical
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.shards.commit import read_commit_info
from caskit.shards.software import git_commit, versions
from caskit.shards.store import Store


def collect_provenance(store: Store, plan: Plan | Reconstruction, *, licence: str | None) -> dict[str, Any]:
    """Return what provenance.json says of a replica whose shards are all committed.

    `environments` counts shards per environment class; more than one class means that some were let in, and
    `one_environment` is false: equal bytes are then not promised.
    """
    counted = Counter(read_commit_info(store, shard).environment_id for shard in range(plan.num_shards))
    described = read_environments(store)
    parents = [
        parse_canonical(store.read(name), name=f"{store.location}/{name}") for name in store.names(f"{PARENTS_FOLDER}/")
    ]
    return {
        "versions": versions(),
        "git_commit": git_commit(),
        "environments": [
            {"environment_id": name, "num_shards": counted[name], "class": described.get(name)}
            for name in sorted(counted)
        ],
        "environment_file": ENVIRONMENT_NAME,
        "one_environment": len(counted) == 1,
        "extended": parents,
        "licence": licence,
    }
