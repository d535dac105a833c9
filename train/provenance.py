"""What a result records about its making: the sets it used, and the processor, which is part of no id."""

import platform
from typing import Any

import torch

from caskit.shards.dataset import FrozenSet
from caskit.shards.mixture import Mixture, TrainingSet


def parts_of(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the descriptions of the sets of a mixture, or the one of a set."""
    return described.get("parts") or [described]


def describe_training_set(data: TrainingSet) -> dict[str, Any]:
    """Return the same for what is trained on; a mixture has no replica_id of its own, its `parts` have."""
    if not isinstance(data, Mixture):
        return describe_set(data)
    return {
        **dict.fromkeys(("replica_id", "content_root", "dataset", "split", "generator")),
        "kind": data.kind,
        "num": len(data),
        "expression": data.expression.to_json(),
        "set_id": data.expression.set_id,
        "parts": [describe_set(part) for part in data.parts],
    }


def describe_set(data: FrozenSet) -> dict[str, Any]:
    """Return what a result records about a set: ids, kind and where it came from, JSON values without a path."""
    described: dict[str, Any] = {
        "replica_id": data.replica.replica_id,
        "content_root": data.replica.content_root,
        "kind": data.kind,
        "num": len(data),
        "expression": data.expression.to_json(),
        "set_id": data.expression.set_id,
        "dataset": None,
        "split": data.split,
        "generator": None,
    }
    if data.ingest is not None:
        described["dataset"] = data.ingest.dataset
    if data.imported is not None:
        described["dataset"] = data.imported.title
    if data.reconstruction is not None:
        made = data.reconstruction
        described["dataset"] = made.parent.dataset
        described["generator"] = {
            "family": made.family,
            "preset": made.preset,
            "checkpoint_id": made.checkpoint_id,
            "parent_replica_id": made.parent.replica_id,
            "parent_content_root": made.parent.content_root,
            "reconstruction_id": made.origin_id,
        }
    if data.plan is not None:
        plan = data.plan
        described["generator"] = {
            "family": plan.family,
            "preset": plan.preset,
            "checkpoint_id": plan.checkpoint_id,
            "sampler": dict(plan.sampler),
            "rejection": None if plan.rejection is None else plan.rejection.to_json(),
            "quota": plan.quota,
            "seed": plan.seed,
            "plan_id": plan.plan_id,
        }
    return described


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what computed: device and instruction set, on which the last bits of a training depend."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
