import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from caskit.manifests.errors import InputError, NotFinished
from caskit.train.engine import EngineConfig
from caskit.train.recipes import Recipe
from caskit.train.training import MODEL_NAME, train

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="tiny", widths=(4, 6), num_poolings=1, resolution=8, num_steps=6, batch_size=8, bn_batch=4, learning_rate=0.05,
    ema_decay=0.5, threads=1, compile=True,
)  # fmt: skip
MakeSet = Callable[..., Any]


def test_another_recipe_with_an_id_of_its_own() -> None:
    plain = dataclasses.replace(RECIPE, compile=False)
    assert "compile" not in plain.to_json() and RECIPE.to_json()["compile"] is True
    assert plain.recipe_id != RECIPE.recipe_id
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    with pytest.raises(InputError, match="recipe: compile is 1, allowed: true, false"):
        dataclasses.replace(RECIPE, compile=1)  # type: ignore[arg-type]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("cxx")
def test_a_compiled_training_is_the_same_training_and_resumes_exactly(tmp_path: Path, make_set: MakeSet) -> None:
    whole = train(make_set(), RECIPE, seed=1, out=tmp_path / "whole", device=CPU)
    calls = iter([False, False, True])
    with pytest.raises(NotFinished, match="after step 3"):
        train(make_set(), RECIPE, seed=1, out=tmp_path / "cut", device=CPU, stop=lambda: next(calls))
    torch.compiler.reset()  # what another process begins with
    cut = train(make_set(), RECIPE, seed=1, out=tmp_path / "cut", device=CPU, config=EngineConfig(log_every=2))
    assert cut["model_sha256"] == whole["model_sha256"]

    plain = dataclasses.replace(RECIPE, compile=False)
    train(make_set(), plain, seed=1, out=tmp_path / "plain", device=CPU)
    ours, theirs = (safetensors.torch.load_file(tmp_path / name / MODEL_NAME) for name in ("whole", "plain"))
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)


def test_no_compiler_is_one_line(tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"compile needs a C\+\+ compiler, no-such-compiler is not there; install it"):
        train(make_set(), RECIPE, seed=1, out=tmp_path, device=CPU)
