"""Statistics of features kept between runs: a network sees a set once.

An entry is named by what decides it: content_root, extractor, subset, resize and how many features were kept. It lies
in the cache folder (or in --cache), holds tensors only, and carries a digest of its own; a damaged one is made again.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load, save

from caskit.evaluate.fidelity.extractor import Identity
from caskit.evaluate.fidelity.moments import SPLITS
from caskit.evaluate.fidelity.statistics import Statistics
from caskit.evaluate.fidelity.subset import Subset
from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import IntegrityError
from caskit.shards.cache import cache_folder
from caskit.shards.dataset import FrozenSet
from caskit.train.folder import write_atomic

CACHE_VERSION = 1  # raised whenever equal inputs give other statistics
_DIGEST_BYTES = 32
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Return where statistics are kept unless --cache says otherwise."""
    return cache_folder("features")


def entry_key(identity: Identity, data: FrozenSet, subset: Subset, num_features: int) -> dict[str, Any]:
    """Return everything that decides an entry, JSON values."""
    return {
        "cache_version": CACHE_VERSION,
        "content_root": data.replica.content_root,
        "extractor": identity.to_json(),  # resize is in it
        "subset": {"num": len(subset), "sha256": subset.sha256},
        "num_features": min(num_features, len(subset)),
        "splits": SPLITS,
    }


def _path(folder: Path, key: dict[str, Any]) -> Path:
    return folder / f"{sha256_hex(canonical_json(key))}.features"


def read_statistics(folder: Path, key: dict[str, Any]) -> Statistics | None:
    """Return the statistics of a key; None if they are not there, or damaged, which is logged."""
    path = _path(folder, key)
    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        if hashlib.sha256(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
            raise IntegrityError(f"{path}: its bytes are not those that were written")
        return Statistics.from_arrays(load(data[_DIGEST_BYTES:]), name=str(path))
    except (IntegrityError, safetensors.SafetensorError) as error:
        _log.warning("%s; the features are extracted again", error)
        return None


def write_statistics(folder: Path, key: dict[str, Any], statistics: Statistics) -> None:
    """Keep statistics. Where the folder cannot be written nothing is kept, which is logged."""
    arrays = {name: np.ascontiguousarray(array) for name, array in statistics.to_arrays().items()}
    data = save(arrays)

    def write(path: Path) -> None:
        path.write_bytes(hashlib.sha256(data).digest() + data)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(_path(folder, key), write)
    except OSError as error:
        _log.warning("%s: features are not kept: %s", folder, error)
