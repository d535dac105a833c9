"""What a worker imports to draw is what it needs: torch's compiler alone takes 150 MB and seconds."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from caskit.gen.adversarial.weights import UndrawnWeights
from caskit.gen.biggan_deep import packaged

LOADING = """
import sys, torch
from pathlib import Path
from caskit.gen.biggan_deep import Settings, load
from caskit.gen.checkpoint import load_checkpoint
load(load_checkpoint(Path(sys.argv[1])), Settings(), torch.device("cpu"))
print([name for name in ("torch._dynamo", "sympy", "sklearn") if name in sys.modules])
"""


def test_loading_a_generator_imports_no_compiler() -> None:
    folder = packaged("fashion-mnist")
    assert folder is not None
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(Path(folder).absolute())], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_layers_are_built_with_their_weights_undrawn() -> None:
    state = torch.random.get_rng_state()
    with UndrawnWeights():
        layer, embedding = nn.Linear(3, 4), nn.Embedding(5, 6)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (layer.weight.shape, layer.bias.shape, embedding.weight.shape) == ((4, 3), (4,), (5, 6))
