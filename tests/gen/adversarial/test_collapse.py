"""Every measure on its own."""

import dataclasses

import numpy as np
import pytest
import torch

from caskit.gen.adversarial.collapse import Verdict, Watch, looked_at, read_verdict, variance_within, write_verdict
from caskit.gen.adversarial.config import CollapseConfig
from caskit.manifests.errors import InputError

CONFIG = CollapseConfig(grace=10, window=4, min_diversity=0.2, max_diversity=4.0, max_saturation=0.9, max_score=50.0)


def test_a_healthy_watch_has_no_fault() -> None:
    watch = Watch(diversity=0.9)
    for _ in range(100):
        watch.average(0.4, 2.0, CONFIG.window)
    assert watch.fault(CONFIG, 100, {"loss": 1.0}) is None


@pytest.mark.parametrize(("diversity", "step", "at_fault"), [(0.1, 10, True), (0.1, 9, False), (5.0, 10, True)])
def test_samples_that_are_alike_or_noise_count_after_the_grace(diversity: float, step: int, at_fault: bool) -> None:
    fault = Watch(diversity=diversity).fault(CONFIG, step, {})
    assert (fault is not None) == at_fault
    if fault is not None:
        assert fault[0] == "diversity of samples within classes"


def test_samples_that_are_no_numbers_count_at_once() -> None:
    assert Watch(diversity=float("nan")).fault(CONFIG, 1, {}) is not None


def test_saturation_counts_where_it_lasts() -> None:
    watch = Watch()
    watch.average(1.0, 0.0, CONFIG.window)
    assert watch.fault(CONFIG, 1, {}) is None
    for _ in range(30):
        watch.average(1.0, 0.0, CONFIG.window)
    fault = watch.fault(CONFIG, 31, {})
    assert fault is not None and fault[0] == "saturation of the discriminator" and fault[2] == "up to 0.9"


def test_scores_that_explode_and_losses_that_are_not_finite_count() -> None:
    watch = Watch()
    watch.average(0.0, 1e5, CONFIG.window)
    fault = watch.fault(CONFIG, 1, {})
    assert fault is not None and fault[0] == "the discriminator's mean absolute score"
    fault = Watch().fault(CONFIG, 1, {"loss": 1.0, "norm": float("inf")})
    assert fault == ("norm", "inf", "finite numbers")


def test_variance_within_is_that_of_numpy_and_knows_no_distance_between_classes() -> None:
    images = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(20) % 2
    expected = np.mean([images[label::2].numpy().reshape(10, 9).var(axis=0, ddof=1).sum() for label in (0, 1)])
    assert variance_within(images, classes) == pytest.approx(expected, rel=1e-6)
    moved = images + 100 * classes[:, None, None, None]
    assert variance_within(moved, classes) == pytest.approx(expected, rel=1e-4)


def test_classes_with_one_image_cannot_be_looked_at() -> None:
    found = looked_at(np.array([0, 1, 1, 2, 2, 2, 3, 3]), CollapseConfig(samples_per_class=2, num_classes=2))
    assert {label: ids.tolist() for label, ids in found.items()} == {1: [1, 2], 2: [3, 4]}
    with pytest.raises(InputError, match="no class has two images"):
        looked_at(np.arange(4), CollapseConfig())


def test_a_verdict_is_of_one_fit(tmp_path) -> None:
    verdict = Verdict(step=7, measure="loss", value="nan", allowed="finite numbers", kept=4)
    assert read_verdict(tmp_path, "a") is None
    write_verdict(tmp_path, "a", verdict)
    assert read_verdict(tmp_path, "a") == verdict
    assert "collapsed at step 7: loss is nan, allowed: finite numbers; the checkpoint is the generator of step 4" in (
        verdict.text()
    )
    assert "nothing is kept" in dataclasses.replace(verdict, kept=None).text()
    with pytest.raises(InputError, match="another fit"):
        read_verdict(tmp_path, "b")
    (tmp_path / "collapse.json").write_text("{}")
    with pytest.raises(InputError, match="not a verdict of caskit"):
        read_verdict(tmp_path, "a")
