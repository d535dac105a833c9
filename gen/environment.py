"""The environment class: what besides the plan decides the bits. Equal bytes are promised inside one class only."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
from PIL import features

from caskit.manifests.canonical import canonical_json, parse_canonical, sha256_hex
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan, differing_fields
from caskit.manifests.reconstruction import Reconstruction
from caskit.shards.software import versions
from caskit.shards.store import AlreadyExists, Store

if TYPE_CHECKING:
    import torch

ENVIRONMENT_NAME = "environment.json"
OTHERS_FOLDER = "_work/environments"  # of workers that were let in from another class
# CPU features that ATen, oneDNN and MKL choose their kernels by; the rest of the flags does not matter.
_ISA_PREFIXES = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm", "neon")
# Variables that make oneDNN, MKL and numpy choose others; what ATen chose can be asked.
_DISPATCH_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
)


@cache
def _cpu() -> dict[str, Any]:
    """Return vendor and instruction-set flags, from /proc/cpuinfo where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {"vendor": platform.processor(), "flags": []}
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    vendor = fields.get("vendor_id") or fields.get("CPU implementer") or ""
    return {"vendor": vendor, "flags": sorted({flag for flag in flags if flag.startswith(_ISA_PREFIXES)})}


def _codec_version(name: str) -> str:
    return str(features.version(name) or "")


def environment_class(device: "torch.device | None" = None) -> dict[str, Any]:
    """Describe this process's environment class as JSON values: effective instruction set, GPU kind, versions."""
    import torch  # on use: a driver that hands shards out needs no torch

    described: dict[str, Any] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": {
            **_cpu(),
            "aten_capability": torch.backends.cpu.get_cpu_capability(),
            **{name: os.environ.get(name, "") for name in _DISPATCH_VARIABLES},
        },
        "gpu": None,
        "versions": {
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            **{name: _codec_version(name) for name in ("zlib", "zlib_ng", "libjpeg_turbo", "webp")},
        },
    }
    if device is not None and device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described["gpu"] = {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda or "",
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        }
    return described


def environment_of(plan: Plan | Reconstruction, device: "torch.device | str") -> dict[str, Any]:
    """Describe this process's environment class for a plan: with rejection, the judge's layers are timm's."""
    import torch

    described = environment_class(torch.device(device))
    if isinstance(plan, Plan) and plan.rejection is not None:
        described["versions"]["timm"] = versions().get("timm", "")
    return described


def environment_id(environment: dict[str, Any]) -> str:
    """Return the SHA-256 of a described environment class, 64 hex digits."""
    return sha256_hex(canonical_json(environment))


def claim_environment(store: Store, environment: dict[str, Any], *, allow: bool) -> str:
    """Make this process's class the replica's, or compare with the one that the first worker wrote.

    Args:
        store: the replica's.
        environment: from `environment_class`.
        allow: let another class in; the replica then gives its promise of equal bytes up and its provenance says so.

    Returns:
        The environment_id of this process.

    Raises:
        InputError: another class, naming the fields that differ.
    """
    data = canonical_json(environment)
    try:
        store.create(ENVIRONMENT_NAME, data)
    except AlreadyExists:
        first = parse_canonical(store.read(ENVIRONMENT_NAME), name=f"{store.location}/{ENVIRONMENT_NAME}")
        if first != environment:
            if not allow:
                raise InputError(
                    f"{store.location}: this worker is of another environment class than the replica's: "
                    f"{', '.join(differing_fields(environment, first))}; "
                    "--allow-environment takes it in and gives the promise of equal bytes up"
                ) from None
            keep_environment(store, environment)
    return sha256_hex(data)


def keep_environment(store: Store, environment: dict[str, Any]) -> None:
    """Store the description of a class that is not the replica's own, for its provenance."""
    try:
        store.create(f"{OTHERS_FOLDER}/{environment_id(environment)}.json", canonical_json(environment))
    except AlreadyExists:
        return


def read_environments(store: Store) -> dict[str, dict[str, Any]]:
    """Return the described classes that worked on a replica, by environment_id; the replica's own comes first."""
    names = [ENVIRONMENT_NAME] if store.exists(ENVIRONMENT_NAME) else []
    found = {}
    for name in [*names, *store.names(f"{OTHERS_FOLDER}/")]:
        value = parse_canonical(store.read(name), name=f"{store.location}/{name}")
        found[environment_id(value)] = value
    return found
