"""A fit ends with equal tensors however often it was stopped, and refuses what it cannot fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.cvae import FitConfig, fit
from caskit.manifests.errors import InputError, NotFinished
from caskit.train.engine import Progress

CPU = torch.device("cpu")


def test_a_second_fit_gives_the_same_checkpoint(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    again = fit(tiny_set(), tiny_config(), tmp_path / "fit", device=CPU)
    for name in ("checkpoint.json", "model.safetensors"):
        assert (again / name).read_bytes() == (tiny_checkpoint / name).read_bytes()


def test_a_fit_stopped_again_and_again_ends_with_equal_tensors(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    answers = iter([False] * 30 + [True] + [False] * 64 + [True] + [False] * 26 + [True] + [False] * 1000)
    stops = 0
    while True:
        try:
            folder = fit(tiny_set(), tiny_config(), tmp_path / "fit", device=CPU, stop=lambda: next(answers))
            break
        except NotFinished:
            stops += 1
            assert not (tmp_path / "fit" / "checkpoint.json").exists()
    assert stops == 3
    for name in ("checkpoint.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tiny_checkpoint / name).read_bytes()


def test_logs_and_progress_tell_both_stages(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    seen: list[Progress] = []
    folder = fit(tiny_set(), tiny_config(num_steps=40), tmp_path / "fit", device=CPU, progress=seen.append)
    assert {progress.stage for progress in seen} == {"autoencoder", "density"}
    lines = (folder / "_work/autoencoder/autoencoder.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 40
    assert {"loss", "mse", "kl", "lr"} <= set(json.loads(lines[-1]))


def test_the_seed_and_the_data_change_the_checkpoint(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = fit(tiny_set(), tiny_config(seed=1), tmp_path / "fit", device=CPU)
    assert load_checkpoint(other).checkpoint_id != load_checkpoint(tiny_checkpoint).checkpoint_id
    with pytest.raises(InputError, match=r"config\.seed"):
        fit(tiny_set(), tiny_config(), tmp_path / "fit", device=CPU)
    with pytest.raises(InputError, match="content_root"):
        fit(tiny_set(content_root="cd" * 32), tiny_config(seed=1), tmp_path / "fit", device=CPU)


def test_sets_that_cannot_be_fitted_are_refused(
    tiny_set: Callable[..., Any], tiny_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"images are 9x9, .* multiples of 4"):
        fit(tiny_set(side=9), tiny_config(), tmp_path / "side", device=CPU)
    with pytest.raises(InputError, match="batch_size is 500, the set has 96 images"):
        fit(tiny_set(), tiny_config(batch_size=500), tmp_path / "batch", device=CPU)
    with pytest.raises(InputError, match="class 0 has 32 images, mixture_components is 40"):
        fit(tiny_set(), tiny_config(mixture_components=40), tmp_path / "mixture", device=CPU)
    assert not any(tmp_path.iterdir())
