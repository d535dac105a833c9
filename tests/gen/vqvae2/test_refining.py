"""A refined generator has learned what a classifier said of its samples, and nothing else about it changed."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caskit import cli
from caskit.gen.autoregressive.mixture import Mixture
from caskit.gen.autoregressive.sampler import map_nats
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.vqvae2 import RefineConfig, Settings, load, refine, refining
from caskit.gen.vqvae2.config import BOTTOM, TOP
from caskit.gen.vqvae2.weights import load_networks
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.train.presets import get_recipe
from caskit.train.training import Classifier

CPU = torch.device("cpu")
NEXT = np.array([1, 2, 0])  # what the classifier below calls an image of each class
STAGE = StageConfig(num_steps=60, batch_size=32, learning_rate=5e-3, ema_decay=0.9)
CONFIG = RefineConfig(num_drawn=300, share_drawn=0.5, top=STAGE, bottom=dataclasses.replace(STAGE, num_steps=40))


class NextClass(nn.Module):
    """Names the class after the one whose row is brightest: a mistake that can only be learned from it."""

    def forward(self, images: Tensor) -> Tensor:
        rows = images.mean(dim=(1, 3))[:, [1, 3, 5]]
        return 100 * rows.roll(1, dims=1)


def classifier_of(checkpoint: Checkpoint, model: nn.Module, **record: Any) -> Classifier:
    recipe = dataclasses.replace(get_recipe("digits"), resolution=8)
    known = {"classifier_id": "cd" * 32, "classes": checkpoint.record["classes"], "channels": 1}
    known["data"] = {"content_root": "ab" * 32}
    return Classifier(
        path=Path("classifier"),
        record={**known, "recipe": recipe.to_json(), **record},
        recipe=recipe,
        classes=checkpoint.classes,
        channels=1,
        model=model,
        device=CPU,
    )


@pytest.fixture(scope="module")
def source(tiny_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def refined(source: Checkpoint, tiny_set: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    out = tmp_path_factory.mktemp("refined") / "checkpoint"
    return refine(source, tiny_set(), classifier_of(source, NextClass()), CONFIG, out, device=CPU)


def drawn(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {name: np.load(checkpoint.path / f"_work/drawn/codes/{name}.npy") for name in (TOP, BOTTOM, "label")}


def test_samples_have_the_label_of_what_they_show(source: Checkpoint, refined: Checkpoint) -> None:
    maps = drawn(refined)
    asked = np.arange(CONFIG.num_drawn) % 3
    images, finite = load(source, Settings(), CPU).decode_codes(asked, {name: maps[name] for name in (TOP, BOTTOM)})
    assert finite.all()
    shown = images[:, [1, 3, 5]].astype(np.float64).mean(axis=(2, 3)).argmax(axis=1)
    labels = maps["label"][:, 0, 0]
    assert (labels == NEXT[shown]).mean() > 0.99, "but for ties"
    assert (shown == asked).mean() > 0.8, "the generator draws what it is asked for, so labels are not those asked for"


def test_priors_learn_the_new_labels(source: Checkpoint, refined: Checkpoint) -> None:
    maps = {name: torch.from_numpy(values.astype(np.int64)) for name, values in drawn(refined).items()}
    labels = maps["label"][:, 0, 0]
    asked = torch.arange(CONFIG.num_drawn) % 3
    before, after = (load_networks(checkpoint)[1] for checkpoint in (source, refined))

    def nats(priors: Any, given: Tensor) -> float:
        top, bottom = map_nats(priors[TOP], maps[TOP], given), map_nats(priors[BOTTOM], maps[BOTTOM], given, maps[TOP])
        return float((top + bottom).mean())

    assert nats(after, labels) < nats(before, labels) - 5, "an image's"
    assert nats(after, labels) < nats(before, asked) + 5, "and it has not forgotten how to draw them"


def test_the_rest_is_the_old_checkpoints_and_it_says_what_was_done(source: Checkpoint, refined: Checkpoint) -> None:
    old, new = source.tensors(), refined.tensors()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert old.keys() == new.keys()
    # The tiny top map is always the same one, so its prior has nothing to learn.
    assert changed and {name.split(".")[0] for name in changed} <= {"top", "bottom"}
    for name in ("family", "preset", "config", "classes", "height", "width", "channels"):
        assert refined.record[name] == source.record[name]
    assert refined.record["derived_from"] == source.checkpoint_id
    said = json.loads(refined.record["transform"])
    assert said["name"] == "relabelled-samples" and said["num_drawn"] == 300 and said["classifier_id"] == "cd" * 32
    assert said["content_root"] == "ab" * 32 and said["top"]["num_steps"] == 60


def test_stopped_in_every_stage_it_is_the_same(
    source: Checkpoint, refined: Checkpoint, tiny_set: Callable[..., Any], tmp_path: Path
) -> None:
    answers = iter([False, True] + [False] * 2 + [True] + [False] * 40 + [True] + [False] * 50 + [True] + [False] * 500)
    stops = 0
    while True:
        try:
            again = refine(
                source,
                tiny_set(),
                classifier_of(source, NextClass()),
                CONFIG,
                tmp_path / "out",
                device=CPU,
                stop=lambda: next(answers),
            )
            break
        except NotFinished:
            stops += 1
            assert not (tmp_path / "out" / "checkpoint.json").exists()
    assert stops == 4
    assert again.checkpoint_id == refined.checkpoint_id
    done = refine(source, tiny_set(), classifier_of(source, NextClass()), CONFIG, tmp_path / "out", device=CPU)
    assert done.checkpoint_id == refined.checkpoint_id


def test_what_does_not_fit_is_refused(
    source: Checkpoint, refined: Checkpoint, tiny_set: Callable[..., Any], tmp_path: Path
) -> None:
    good, data = classifier_of(source, NextClass()), tiny_set()
    test_split = tiny_set()
    test_split.split = "test"
    other = classifier_of(source, NextClass(), classes=source.record["classes"][:2])
    elsewhere = classifier_of(source, NextClass(), data={"content_root": "ef" * 32})
    cases: list[tuple[Any, Classifier, RefineConfig, Path, str]] = [
        (data, good, CONFIG, source.path, "is the folder of the checkpoint to refine"),
        (test_split, good, CONFIG, tmp_path / "a", "is a test split"),
        (tiny_set(side=16), good, CONFIG, tmp_path / "b", "16x16 with 1 channels and 8x8"),
        (data, other, CONFIG, tmp_path / "c", "class list is not that of the checkpoint"),
        (data, elsewhere, CONFIG, tmp_path / "d", "the classifier was not trained on tiny"),
        (data, good, dataclasses.replace(CONFIG, seed=1), refined.path, "holds another checkpoint"),
    ]
    for own, classifier, config, out, said in cases:
        with pytest.raises(InputError, match=said):
            refine(source, own, classifier, config, out, device=CPU)
    for values, said in (({"num_drawn": 0}, "num_drawn is 0"), ({"share_drawn": 1.0}, "share_drawn is 1.0")):
        with pytest.raises(InputError, match=said):
            RefineConfig(**values)  # type: ignore[arg-type]


def test_a_sample_that_is_not_finite_ends_it(
    source: Checkpoint, tiny_set: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        generator = load(*arguments)
        decode = generator.decode_codes
        generator.decode_codes = lambda labels, codes: (decode(labels, codes)[0], np.arange(len(labels)) != 7)  # type: ignore[method-assign]
        return generator

    monkeypatch.setattr(refining, "load", broken)
    with pytest.raises(RunFailed, match="sample 7 of the samples to learn from is not finite"):
        refine(source, tiny_set(), classifier_of(source, NextClass()), CONFIG, tmp_path / "out", device=CPU)


@pytest.mark.parametrize(("first", "second", "share"), [(10, 4, 0.5), (4, 10, 0.5), (8, 8, 0.75), (100, 7, 0.1)])
def test_a_mixture_has_all_of_both_in_their_shares(first: int, second: int, share: float) -> None:
    mixture = Mixture(first, second, share)
    assert set(mixture.first) == set(range(first)) and set(mixture.second) == set(range(second))
    assert len(mixture.second) / len(mixture) == pytest.approx(share, abs=0.5 / len(mixture) + 1e-9)
    for places, num in ((mixture.first, first), (mixture.second, second)):
        counts = np.bincount(places, minlength=num)
        assert counts.max() - counts.min() <= 1
    values = mixture.of(np.arange(first), 1000 + np.arange(second))
    ids = np.random.default_rng(0).permutation(len(mixture))
    assert np.array_equal(values[ids], np.concatenate([mixture.first, 1000 + mixture.second])[ids])


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, judge, out = tmp_path / "real", tmp_path / "judge", tmp_path / "refined"
    assert cli.main(["data", "digits", "--out", str(real)]) == 0
    trained = ["--recipe", "digits", "--seed", "0", "--set", "num_steps=20", "--out", str(judge)]
    assert cli.main(["train", "--data", f"{real}/train", *trained]) == 0
    steps = ["--set", "num_drawn=60", "--set", "top.num_steps=3", "--set", "bottom.num_steps=2"]
    line = ["refine", "--gen", "vqvae2:digits", "--data", f"{real}/train", "--classifier", str(judge), *steps]
    capsys.readouterr()
    assert cli.main([*line, "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    checkpoint = load_checkpoint(out)
    assert said[0] == f"refined from {checkpoint.record['derived_from']}"
    assert said[1] == f"checkpoint   {checkpoint.checkpoint_id}"
    sampled = ["--gen", "vqvae2:digits", "--checkpoint", str(out), "--num", "20", "--executor", "inline"]
    assert cli.main(["sample", *sampled, "--out", str(tmp_path / "replica")]) == 0
    capsys.readouterr()
    assert cli.main([*line[:1], "--gen", "cvae:digits", *line[3:], "--out", str(tmp_path / "no")]) == 2
    assert "family cvae has no refinement, vqvae2 has" in capsys.readouterr().err
