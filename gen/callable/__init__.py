"""Any Python function `(labels, streams) -> images` as a generator, named by its import path, pinned by its source.

`callable:package.module:function`. Nothing is fitted and there is no checkpoint: the plan holds the digests of the
module's source, of the local modules that it imports, and of the data files that were named.
"""

from caskit.gen.callable.binding import bind, rebind
from caskit.gen.callable.generator import FitConfig, FunctionGenerator, Settings, fit, load, packaged

NAME = "callable"
MICROBATCH_SIZE = 64
SAMPLER_VERSION = 1  # raised by every change of ours that changes the bytes of samples
CODED = False
PRESETS: dict[str, type[FitConfig]] = {}  # the import path stands where others have a preset

__all__ = [
    "CODED",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "FitConfig",
    "FunctionGenerator",
    "Settings",
    "bind",
    "fit",
    "load",
    "packaged",
    "rebind",
]
