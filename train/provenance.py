"""What a result records about its making: the sets it used; versions, commit and processor, which are part of no id."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import caskit
from caskit.shards.dataset import FrozenSet

_PACKAGES = ("torch", "timm", "numpy", "pyarrow", "pillow")


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
    if data.plan is not None:
        plan = data.plan
        described["generator"] = {
            "family": plan.family,
            "preset": plan.preset,
            "checkpoint_id": plan.checkpoint_id,
            "sampler": dict(plan.sampler),
            "quota": plan.quota,
            "seed": plan.seed,
            "plan_id": plan.plan_id,
        }
    return described


def versions() -> dict[str, str]:
    """Return the versions of caskit, Python and the packages that results depend on; absent packages are left out."""
    found = {"caskit": caskit.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout caskit runs from, `-dirty` appended if files differ; None for a wheel."""
    root = Path(caskit.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what computed: device and instruction set, on which the last bits of a training depend."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
