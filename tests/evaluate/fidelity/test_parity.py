"""The numbers are torch-fidelity's and prdc's, whatever the batch size; images come from shards, not from files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from caskit.evaluate.fidelity import Settings, measure, open_extractor
from caskit.evaluate.fidelity.distances import frechet
from caskit.evaluate.fidelity.manifold import neighbour_radii, prdc
from caskit.evaluate.fidelity.moments import Moments, ScoreSums, splits_of

CPU = torch.device("cpu")
MakeSets = Callable[..., Any]


@pytest.fixture
def registered(stand_in: Any) -> Iterator[str]:
    """Register the small network with torch-fidelity, for this test."""
    network = stand_in.network

    class Registered(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **options: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, str]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = dict(zip(("features", "logits"), network(images), strict=True))
            return tuple(found[name] for name in self.features_list)

    register_feature_extractor("stand-in", Registered)
    yield "stand-in"
    del FEATURE_EXTRACTORS_REGISTRY["stand-in"]


@pytest.mark.parametrize("channels", [3, 1])
def test_hundreds_of_images_have_the_numbers_of_torch_fidelitys_command_line(
    make_sets: MakeSets,
    write_pngs: Any,
    fidelity_cli: Any,
    registered: str,
    stand_in: Any,
    parity: dict[str, Any],
    tmp_path: Path,
    channels: int,
) -> None:
    replica, real = make_sets(320, 263, channels=channels)
    due = fidelity_cli(
        write_pngs(replica), write_pngs(real), "--feature-extractor", registered, "--kid-subset-size", "120", "-b", "50"
    )
    assert due["inception_score_mean"] > 1.02 and due["frechet_inception_distance"] > 0.01, "nothing to compare"
    for batch_size in (64, 7):
        record = measure(
            replica, real, stand_in, out=tmp_path / f"{batch_size}", settings=Settings(kid_subset_size=120),
            batch_size=batch_size, device=CPU,
        )  # fmt: skip
        assert parity["printed_values"](record) == pytest.approx(due, rel=1e-5)


@pytest.mark.timeout(1200)
def test_inception_has_the_numbers_of_torch_fidelitys_command_line(
    make_sets: MakeSets, write_pngs: Any, fidelity_cli: Any, parity: dict[str, Any], tmp_path: Path
) -> None:
    replica, real = make_sets(40, 32)
    weights = tmp_path / "inception.pth"
    parity["random_weights"](weights, np.stack([real.image(sample) for sample in range(0, 32, 4)]))
    due = fidelity_cli(
        write_pngs(replica), write_pngs(real), "--feature-extractor-weights-path", str(weights),
        "--kid-subset-size", "20", "-b", "16",
    )  # fmt: skip
    assert due["inception_score_mean"] > 1.01 and due["frechet_inception_distance"] > 0.1, "nothing to compare"
    extractor = open_extractor("inception-2015", weights=weights, device=CPU)
    settings = Settings(kid_subset_size=20)
    record = measure(replica, real, extractor, out=tmp_path / "out", settings=settings, batch_size=9, device=CPU)
    assert parity["printed_values"](record) == pytest.approx(due, rel=1e-3)
    title = f"inception-2015@{extractor.identity.digest[:8]}"
    assert [entry["name"] for entry in record["metrics"]][:3] == [
        f"is[{title}]@40", f"fid[{title}]@40", f"kid(size=20)[{title}]@40",
    ]  # fmt: skip
    assert record["metrics"][1]["marks"] == ["n-below-dimension"] and record["dim"] == 2048


def test_prdc_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    real = generator.normal(size=(1300, 8)).astype(np.float32)
    fake = (1.4 * generator.normal(size=(1150, 8)) + 0.3).astype(np.float32)
    fake[:20] = real[:20]  # copies
    for nearest_k in (3, 5):
        due = compute_prdc(real, fake, nearest_k=nearest_k)
        found = prdc(real, fake, nearest_k=nearest_k)
        assert found == pytest.approx(due, rel=1e-12) and 0.2 < found["recall"] < 1
    capsys.readouterr()


def test_radii_are_of_other_points() -> None:
    points = np.array([[0.0], [1.0], [3.0], [3.0]], dtype=np.float32)
    assert neighbour_radii(points, 1).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert neighbour_radii(points, 2).tolist() == [3.0, 2.0, 2.0, 2.0]


def test_moments_in_batches_are_those_of_all() -> None:
    values = np.random.default_rng(1).normal(3.0, 0.01, (101, 5))
    moments = Moments(5)
    for start in (0, 1, 41):
        moments.add(values[start : {0: 1, 1: 41, 41: 101}[start]])
    assert moments.num == 101
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(values, rowvar=False), rtol=1e-10)


def test_the_score_of_running_sums_is_torch_fidelitys() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (137, 6)).astype(np.float32)
    splits = splits_of(137)
    sums = ScoreSums(10, 6)
    for start in range(0, 137, 29):
        sums.add(splits[start : start + 29], logits[start : start + 29])
    due = isc_features_to_metric(torch.from_numpy(logits))
    assert sums.scores().mean() == pytest.approx(due["inception_score_mean"], rel=1e-12)
    assert sums.scores().std() == pytest.approx(due["inception_score_std"], rel=1e-9)


def test_the_frechet_distance_of_known_gaussians() -> None:
    first = np.zeros(3), np.diag([1.0, 4.0, 9.0])
    second = np.array([1.0, 2.0, 2.0]), np.diag([4.0, 4.0, 1.0])
    assert frechet(first, second).value == pytest.approx(9 + 1 + 0 + 4)  # |mean|^2 + sum (s1 - s2)^2
