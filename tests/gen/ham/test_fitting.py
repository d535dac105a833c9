"""A fit ends with equal tensors however often it was stopped, and refuses what it cannot fit."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_ham as tiny
import torch

from caskit.gen.autoregressive.variants import shift_offsets, shifted
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.ham import FitConfig, HamGenerator, Settings, fit, load
from caskit.gen.ham.config import LevelConfig, config_of
from caskit.manifests.errors import InputError, NotFinished
from caskit.train.engine import Progress

CPU = torch.device("cpu")
STAGES = ["level1", "codes1", "decoder1", "level2", "codes2", "decoder2", "prior"]
MakeSet = Callable[..., Any]


def short(**changes: Any) -> FitConfig:
    return tiny.shortened(tiny.tiny_config(**changes), 12)


def last_lines(folder: Path) -> dict[str, dict[str, float]]:
    return {
        stage: json.loads((folder / f"_work/{stage}/{stage}.jsonl").read_text().splitlines()[-1]) for stage in STAGES
    }


def test_a_fit_stopped_in_every_stage_ends_with_equal_tensors(tiny_set: MakeSet, tmp_path: Path) -> None:
    whole = fit(tiny_set(), short(), tmp_path / "whole", device=CPU)
    # 12 steps of each of five stages with one step of encoding after the first and the third.
    answers = iter(([False] * 6 + [True]) * 9 + [False] * 100)
    stopped: set[str] = set()
    seen: list[Progress] = []
    while True:
        try:
            parts = fit(
                tiny_set(), short(), tmp_path / "parts", device=CPU, stop=lambda: next(answers), progress=seen.append
            )
            break
        except NotFinished as error:
            stopped.add(str(error).partition(":")[0])
            assert not (tmp_path / "parts/checkpoint.json").exists()
    assert stopped == {"level1", "decoder1", "level2", "decoder2", "prior"}
    assert list(dict.fromkeys(progress.stage for progress in seen)) == STAGES
    for name in ("checkpoint.json", "model.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_every_stage_learns_and_says_how_far_it_is(tiny_checkpoint: Path) -> None:
    lines = last_lines(tiny_checkpoint)
    assert {"loss", "error", "commit", "perplexity", "usage", "revived"} <= set(lines["level1"])
    assert 4 < lines["level1"]["perplexity"] <= 16 and lines["level1"]["error"] < 0.15
    assert lines["level2"]["error"] < 0.75 * np.log(16)  # nats per code below, told by the codes above
    for stage, num_codes in (("decoder1", 256), ("decoder2", 16), ("prior", 12)):
        assert lines[stage]["loss"] < 0.8 * np.log(num_codes)


@pytest.mark.parametrize("below", [False, True])
def test_masked_prediction_learns_codes_and_its_features_stay_apart(
    below: bool, tiny_set: MakeSet, tmp_path: Path
) -> None:
    msp = {"auxiliary": "msp", "abstraction": dataclasses.replace(tiny.tiny_level().abstraction, num_steps=300)}
    levels = [tiny.tiny_level(), tiny.tiny_level(upsamplings=0)] if below else [tiny.tiny_level(4)]
    levels[-1] = dataclasses.replace(levels[-1], **msp)
    config = tiny.shortened(tiny.tiny_config(), 12)
    config = dataclasses.replace(config, levels=tuple(levels))
    name = f"level{len(levels)}"
    folder = fit(tiny_set(), config, tmp_path / "fit", device=CPU)
    found = json.loads((folder / f"_work/{name}/{name}.jsonl").read_text().splitlines()[-1])
    assert found["error"] < 0.8, "the error of knowing nothing is 1"
    assert found["apart"] < 0.5 and found["perplexity"] > 4
    generator = load(load_checkpoint(folder), Settings(), CPU)
    assert type(generator) is HamGenerator and not hasattr(generator, "reconstruct")
    # The code of some place tells the class of most images; guessing would be right for a third.
    data = tiny_set()
    codes = generator.encode(data.images)[f"codes{len(levels)}"].reshape(len(data), -1)
    purity = [
        sum(np.bincount(data.labels[column == code]).max() for code in np.unique(column)) / len(data)
        for column in codes.T
    ]
    assert codes.shape[1] == 4 and max(purity) > 0.7, purity


def test_no_gradient_of_a_decoder_reaches_an_encoder(tiny_set: MakeSet, tmp_path: Path) -> None:
    wide = dataclasses.replace(tiny.tiny_level().decoder, hidden=24)
    folders = []
    for number, decoder in enumerate((tiny.tiny_level().decoder, wide)):
        level = tiny.tiny_level(decoder=decoder)
        config = tiny.shortened(tiny.tiny_config(levels=(level, tiny.tiny_level(upsamplings=0))), 12)
        folders.append(fit(tiny_set(), config, tmp_path / str(number), device=CPU))
    first, second = (load_checkpoint(folder).tensors() for folder in folders)
    for name in first:
        if name.startswith(("level", "decoder2", "prior")):
            assert torch.equal(first[name], second[name]), name
    assert first["decoder1.positions"].shape != second["decoder1.positions"].shape


def test_other_decoders_keep_the_levels_and_other_levels_are_refused(tiny_set: MakeSet, tmp_path: Path) -> None:
    folder = fit(tiny_set(), short(), tmp_path / "fit", device=CPU)
    before = (folder / "_work/level1/resume.pt").read_bytes()
    levels = short().levels
    wider = dataclasses.replace(levels[0], decoder=dataclasses.replace(levels[0].decoder, hidden=24))
    with pytest.raises(InputError, match=r"network\.hidden"):
        fit(tiny_set(), dataclasses.replace(short(), levels=(wider, levels[1])), folder, device=CPU)
    assert (folder / "_work/level1/resume.pt").read_bytes() == before
    with pytest.raises(InputError, match="seed"):
        fit(tiny_set(), short(seed=1), folder, device=CPU)
    with pytest.raises(InputError, match="content_root"):
        fit(tiny_set(content_root="cd" * 32), short(), folder, device=CPU)


def test_mirror_images_and_shifts_are_encoded_after_the_images(tiny_set: MakeSet, tmp_path: Path) -> None:
    data = tiny_set()
    folder = fit(data, short(mirrored=True, shifts=1, storage="float16"), tmp_path / "fit", device=CPU)
    generator = load(load_checkpoint(folder), Settings(), CPU)
    assert load_checkpoint(folder).tensors()["prior.positions"].dtype == torch.float16
    num = len(data)
    for name in ("codes1", "codes2"):
        stored = np.load(folder / f"_work/{name}/{name}.npy")
        assert len(stored) == 9 * 2 * num
        for variant, offset in enumerate(shift_offsets(1)):
            for mirror in (False, True):
                images = data.images[:, :, ::-1] if mirror else data.images
                found = generator.encode(np.ascontiguousarray(shifted(images, offset)))[name]
                start = (2 * variant + mirror) * num
                assert (stored[start : start + num] == found).mean() > 0.9  # the checkpoint's weights are rounded


def test_sets_that_cannot_be_fitted_are_refused(tiny_set: MakeSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images are 10x10, .* multiples of 4"):
        fit(tiny_set(side=10), short(), tmp_path / "side", device=CPU)
    with pytest.raises(InputError, match=r"level 1: abstraction\.batch_size is 16, the set has 9 images"):
        fit(tiny_set(num=9), short(), tmp_path / "batch", device=CPU)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 3}, "stride is 3, allowed: 2, 4, 8, 16"),
        ({"auxiliary": "both"}, "auxiliary is 'both', allowed: feedforward, msp"),
        ({"num_codes": 1}, "num_codes is 1, allowed: whole numbers 2..65535"),
        ({"upsamplings": 2}, "upsamplings is 2, allowed: whole numbers 0..1"),
        ({"mask": 0}, "mask is 0, allowed: numbers"),
        ({"spread": float("nan")}, "spread is nan"),
        (
            {"decoder": dataclasses.replace(tiny.tiny_level().decoder, condition_layers=0)},
            "decoder.condition_layers is 0",
        ),
        (
            {"abstraction": dataclasses.replace(tiny.tiny_level().abstraction, optimizer="muon")},
            "abstraction.optimizer is 'muon', allowed: adam",
        ),
    ],
)
def test_levels_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny.tiny_level(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": ()}, "levels are 0, allowed: 1..8"),
        ({"preset": ""}, "preset is ''"),
        ({"storage": "int8"}, "storage is 'int8'"),
        ({"mirrored": 1}, "mirrored is 1, allowed: true, false"),
        ({"shifts": 9}, "shifts is 9, allowed: whole numbers 0..8"),
        ({"prior_network": tiny.tiny_level().decoder}, "prior_network.condition_layers is 1"),
    ],
)
def test_configs_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny.tiny_config(**changes)


def test_a_config_is_read_back_from_json() -> None:
    config = tiny.tiny_config(mirrored=True)
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    assert config_of(values) == config and isinstance(config_of(values).levels[1], LevelConfig)
