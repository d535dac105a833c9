"""Which process of a torchrun this one is. Torch is not imported for it: the command line asks before any stage."""

import dataclasses
import os
from collections.abc import Mapping

from caskit.manifests.errors import InputError

_MARKER = "TORCHELASTIC_RUN_ID"  # torchrun sets it; RANK and WORLD_SIZE alone are in the environment of many a cluster
_NAMES = {"rank": "RANK", "size": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_size": "LOCAL_WORLD_SIZE"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """The place of a process among those that one torchrun started; the default is that of a process alone.

    Attributes:
        rank, size: its number among all processes and how many they are.
        local_rank, local_size: the same on its own machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.size and 0 <= self.local_rank < self.local_size <= self.size):
            raise InputError(
                f"torchrun's environment says rank {self.rank} of {self.size}, {self.local_rank} of {self.local_size} "
                "on this machine; start the processes by torchrun"
            )


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Read torchrun's environment variables. Raises InputError if they are incomplete or not numbers."""
    if _MARKER not in environment:
        return Launch()
    try:
        return Launch(**{field: int(environment[name]) for field, name in _NAMES.items()})
    except (KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"torchrun's environment is not whole ({error}); {', '.join(_NAMES.values())} must be numbers"
        ) from error
