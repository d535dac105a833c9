"""The network through torch.compile, for recipes that ask for it."""

import os
import shutil
import sys
from typing import Any, cast

import torch
from torch import nn

from caskit.manifests.errors import InputError


def require_compiler() -> None:
    """Raise InputError unless there is a C++ compiler, for kernels of the CPU and for what launches those of GPUs."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise InputError(
            f"recipe: compile needs a C++ compiler, {compiler} is not there; install it, name another one in CXX, or "
            "train without compile, which is another recipe"
        )


def compiled(model: nn.Module) -> nn.Module:
    """Return what a step calls instead of the model; it shares the model's weights, its kernels are made at first call.

    Fused kernels round elsewhere and draw dropout from other numbers than torch's own operations, so a training ends
    with other bits: `compile` is a field of the recipe. In one environment these are the same in every run, as nothing
    that is measured while compiling chooses between kernels.

    Raises:
        InputError: see `require_compiler`.
    """
    require_compiler()
    from torch._inductor import config  # on use: it takes seconds to import

    known = hasattr(config, "deterministic")  # not by torch 2.6
    options: dict[str, Any] = {"deterministic": True} if known else {}
    return cast(nn.Module, torch.compile(model, dynamic=False, options=options))
