"""What an audit is told: which samples, by which check, how strictly."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Numerics
from caskit.manifests.seeds import MAX_SEED, audited_samples

MODES = ("teacher-forced", "redraw")
# Where batch shape, threads or environment differ from those of the sampling: a value close to the middle between two
# grey levels is rounded the other way, in reduced precision to one of the next few; a lossy codec spreads such a step
# over a block of pixels.
TOLERANCE_FLOAT32, TOLERANCE_REDUCED, TOLERANCE_LOSSY = 1, 8, 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which samples are checked: all, or those of some keys, or `num_random` that `seed` draws.

    Attributes:
        keys: of the samples, at least one.
        num_random: how many to draw.
        seed: of the draw; the draw depends on it and on the replica_id alone.
    """

    keys: tuple[str, ...] | None = None
    num_random: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.keys is not None and self.num_random is not None:
            raise InputError("keys and a random draw are two selections, choose one")
        if self.keys is not None and not all(self.keys):
            raise InputError("an empty key was named")
        if (self.num_random is None) != (self.seed is None):
            raise InputError("a random draw needs both a number of samples and an audit seed")
        if self.num_random is not None and self.num_random < 1:
            raise InputError(f"random is {self.num_random}, must be at least 1")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"audit seed is {self.seed}, allowed: 0..{MAX_SEED}")

    def sample_ids(self, keys: pa.ChunkedArray, replica_id: str) -> np.ndarray:
        """Return the selected samples' ids, ascending.

        Args:
            keys: of all samples, by sample_id.
            replica_id: of the replica.

        Raises:
            InputError: a key that the replica does not have, or more samples than it has.
        """
        if self.num_random is not None and self.seed is not None:
            if self.num_random > len(keys):
                raise InputError(f"random is {self.num_random}, the replica has {len(keys)} samples")
            return audited_samples(self.seed, replica_id, len(keys), self.num_random)
        if self.keys is None:
            return np.arange(len(keys), dtype=np.int64)
        wanted = set(self.keys)
        places = {key: place for place, key in enumerate(keys.to_pylist()) if key in wanted}
        missing = sorted(wanted - set(places))
        if missing:
            raise InputError(f"key {missing[0]!r} is not in the replica ({len(missing)} of {len(wanted)} named ones)")
        return np.sort(np.array(list(places.values()), dtype=np.int64))

    def to_json(self) -> dict[str, Any]:
        """Return the selection as JSON values."""
        kind = "random" if self.num_random is not None else "all" if self.keys is None else "keys"
        keys = None if self.keys is None else sorted(set(self.keys))
        return {"kind": kind, "keys": keys, "num_random": self.num_random, "seed": self.seed}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """How an audit is made.

    Attributes:
        selection: which samples.
        mode: `teacher-forced`, which needs recorded codes, or `redraw`; None takes the first where it can.
        epsilon: how far a uniform may lie outside its code's interval; None takes the default of the plan's precision.
        pixel_tolerance: largest difference of a pixel in grey levels; None demands equality where the plan's batch
            size, threads and environment class are met, and takes a default where they are not.
        batch_size, threads: other ones than the plan's, for a teacher-forced check only.
        device: `cpu`, `cuda` or `cuda:i`.
        classifier: of a plan with rejection, for a redraw; None also for the one that the checkpoint brings.
        allow_checkpoint: audit with another checkpoint or other source than the plan names, to see what that gives.
        allow_code: the plan may name code that is not caskit's own, which an audit then runs.
    """

    selection: Selection = dataclasses.field(default_factory=Selection)
    mode: str | None = None
    epsilon: float | None = None
    pixel_tolerance: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    device: str = "cpu"
    classifier: Path | None = None
    allow_checkpoint: bool = False
    allow_code: bool = False

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in MODES:
            raise InputError(f"audit mode is {self.mode!r}, allowed: {', '.join(MODES)}")
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and 0 <= self.epsilon < 1):
            raise InputError(f"epsilon is {self.epsilon}, allowed: 0 to below 1")
        for name, low, high in (("pixel_tolerance", 0, 255), ("batch_size", 1, 65536), ("threads", 1, 1024)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}, allowed: {low}..{high}")
        if self.mode == "redraw" and (self.batch_size is not None or self.threads is not None):
            raise InputError("a redraw takes batch size and threads from the plan, leave them out")


def is_lossy(codec: Codec) -> bool:
    """Say whether a codec changes pixels."""
    return codec.name == "jpeg" or (codec.name == "webp" and not codec.settings["lossless"])


def default_tolerance(numerics: Numerics, codec: Codec) -> int:
    """Return the pixel tolerance where equality cannot be demanded, in grey levels."""
    reduced = numerics.precision != "float32" or numerics.tf32
    return max(TOLERANCE_REDUCED if reduced else TOLERANCE_FLOAT32, TOLERANCE_LOSSY if is_lossy(codec) else 0)
