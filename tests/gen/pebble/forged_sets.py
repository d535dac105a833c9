"""Replicas that agree with themselves in every digest and root, and not with their plan: only an audit can tell."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.codes import as_coded, code_levels
from caskit.gen.drawing import Drawn, draw_shard
from caskit.gen.environment import ENVIRONMENT_NAME, environment_id, environment_of
from caskit.gen.family import Generator, family_path, load_family, make_settings
from caskit.gen.numerics import numerics_applied
from caskit.gen.packer import ShardPacker
from caskit.gen.planning import write_plan
from caskit.gen.sampling import freeze_replica
from caskit.manifests.canonical import canonical_json
from caskit.manifests.classes import sample_key
from caskit.manifests.plan import Plan
from caskit.shards.commit import commit_shard, describe_shard, shard_name
from caskit.shards.store import LocalStore

Change = Callable[[dict[str, Drawn], Generator], None]


def forge(
    out: Path, stated: Plan, checkpoint: Path, *, made: Plan | None = None, change: Change | None = None,
    labels_of: Callable[[np.ndarray], np.ndarray] = lambda labels: labels,
) -> None:  # fmt: skip
    """Make a whole frozen replica of `stated` from what `made` draws.

    Args:
        out: its folder.
        stated: the plan that it claims.
        checkpoint: what it is drawn with, whatever the plan says.
        made: the plan that is drawn, of the same samples in the same order; `stated` by default.
        change: may change the drawn samples of all shards, by key.
        labels_of: the labels that are drawn in place of the plan's.
    """
    store, made = LocalStore(out), made or stated
    write_plan(store, stated)
    environment = environment_of(stated, torch.device("cpu"))
    store.create(ENVIRONMENT_NAME, canonical_json(environment))
    family = load_family(family_path(stated.family))
    with numerics_applied(stated.numerics):
        settings = make_settings(family, stated.sampler)
        generator = family.load(load_checkpoint(checkpoint), settings, torch.device("cpu"))
        samples: dict[str, Drawn] = {}
        for shard in range(stated.num_shards):
            labels, ordinals = stated.draw_order.assign(*stated.shard_range(shard))
            for drawn in draw_shard(generator, made, labels_of(labels), ordinals):
                for place, position in enumerate(drawn.positions.tolist()):
                    key = sample_key(stated.classes.ids[int(labels[position])], int(ordinals[position]))
                    samples[key] = drawn.take(np.arange(len(drawn.positions)) == place)
        if change is not None:
            change(samples, generator)
    for shard in range(stated.num_shards):
        _commit(store, stated, shard, samples, generator, environment_id(environment))
    freeze_replica(out)


def _commit(
    store: LocalStore, plan: Plan, shard: int, samples: dict[str, Drawn], generator: Generator, environment: str
) -> None:
    labels, ordinals = plan.draw_order.assign(*plan.shard_range(shard))
    levels = code_levels(as_coded(generator, plan.family)) if plan.record_codes else ()
    with store.scratch() as folder:
        tar = folder / shard_name(shard)
        with ShardPacker(tar, plan, shard, labels, ordinals, levels) as packer:
            for position, (label, ordinal) in enumerate(zip(labels.tolist(), ordinals.tolist(), strict=True)):
                sample = samples[sample_key(plan.classes.ids[label], ordinal)]
                packer.add(dataclasses.replace(sample, positions=np.array([position])))
            rows = packer.rows()
        info = describe_shard(tar, rows, shard=shard, plan_id=plan.plan_id, environment_id=environment)
        commit_shard(store, tar, rows, info, codes=packer.codes_path)
