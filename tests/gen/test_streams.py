import math
import statistics

import numpy as np
import pytest

from caskit.gen.streams import (
    Streams,
    central_mass,
    natural_log,
    normal_from_words,
    truncated_normal_from_words,
    uniform_from_words,
)
from caskit.manifests.seeds import stream_key

KEYS = [stream_key(0, 7, 123, 0), stream_key(1, 0, 0, 2), stream_key(0, 7, 123, 1)]
NORMAL = statistics.NormalDist()
EXTREMES = np.array([0, 2**64 - 1], dtype=np.uint64)


def test_literal_vectors_of_a_stream() -> None:
    streams = Streams([bytes.fromhex("17e228f8a07fc3a371dfaf6462aae30b")])
    assert [f"{w:016x}" for w in streams.words("token", 3, start=4097)[0].tolist()] == [
        "d70145ba94930f8f",
        "1b4c6edce3ef4c41",
        "558af0c0169fff4a",
    ]
    assert [u.hex() for u in streams.uniform("token", (3,), start=4097)[0].tolist()] == [
        "0x1.ae028b7529261p-1",
        "0x1.b4c6edce3ef48p-4",
        "0x1.562bc3005a7fep-2",
    ]
    assert [n.hex() for n in streams.normal("token", (3,), start=4097)[0].tolist()] == [
        "0x1.fcdfe428d372ep-1",
        "-0x1.3e9fab0dd7257p+0",
        "-0x1.b6c31ff16d06dp-2",
    ]


def test_a_sample_does_not_depend_on_its_batch_or_place() -> None:
    together = Streams(KEYS).normal("z", (3, 5))
    assert together.shape == (3, 3, 5)
    for row, key in enumerate(KEYS):
        assert np.array_equal(Streams([key]).normal("z", (3, 5))[0], together[row])
    assert np.array_equal(Streams(KEYS[::-1]).normal("z", (3, 5))[::-1], together)


def test_start_and_shape_only_address_words() -> None:
    streams = Streams(KEYS)
    whole = streams.words("z", 23)
    assert whole.dtype == np.uint64
    for start in (0, 1, 3, 4, 9, 22):
        assert np.array_equal(streams.words("z", 23 - start, start), whole[:, start:])
    assert np.array_equal(streams.uniform("z", (4, 5), 3), uniform_from_words(whole[:, 3:]).reshape(3, 4, 5))
    assert np.array_equal(streams.normal("z", (20,), 3), normal_from_words(whole[:, 3:]))
    assert streams.normal("z", ()).shape == (3,)


def test_draws_keys_and_attempts_differ() -> None:
    streams = Streams(KEYS)
    assert not np.array_equal(streams.words("a", 4), streams.words("b", 4))
    assert len({row.tobytes() for row in streams.words("a", 4)}) == 3


def test_a_key_has_sixteen_bytes() -> None:
    with pytest.raises(AssertionError, match="16 bytes"):
        Streams([b"short"])


def test_uniforms_at_the_ends() -> None:
    words = np.array([0, 2**11 - 1, 2**11, 2**64 - 1, 2**63], dtype=np.uint64)
    assert uniform_from_words(words).tolist() == [0.0, 0.0, 2.0**-53, 1 - 2.0**-53, 0.5]


def test_normals_are_the_quantiles() -> None:
    """The standard library implements the same algorithm with the platform's logarithm."""
    rng = np.random.default_rng(0)
    below_half = rng.integers(0, 2**63, 4000, dtype=np.uint64)
    words = np.concatenate([below_half, below_half >> np.uint64(20), below_half >> np.uint64(45)])
    expected = [NORMAL.inv_cdf((int(w >> 11) + 0.5) * 2.0**-53) for w in words.tolist()]
    np.testing.assert_allclose(normal_from_words(words), expected, rtol=3e-15)


def test_normals_are_symmetric_and_finite_everywhere() -> None:
    rng = np.random.default_rng(1)
    words = np.concatenate([rng.integers(0, 2**64, 5000, dtype=np.uint64), np.array([0, 2**64 - 1], dtype=np.uint64)])
    normals = normal_from_words(words)
    assert np.isfinite(normals).all()
    assert np.array_equal(normal_from_words(~words), -normals)
    assert normals[-1] == pytest.approx(-NORMAL.inv_cdf(2.0**-54), rel=1e-15)
    assert np.array_equal(np.argsort(normals, kind="stable"), np.argsort(words >> np.uint64(11), kind="stable"))


def test_normals_have_the_moments_of_a_normal() -> None:
    normals = Streams([stream_key(0, 0, ordinal, 0) for ordinal in range(200)]).normal("z", (500,))
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert (normals**power).mean() == pytest.approx(moment, abs=0.12)


def test_the_logarithm_is_within_three_units_in_the_last_place() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.random(20000), 10.0 ** rng.uniform(-290, 290, 20000), 1 + rng.normal(0, 1e-9, 100)])
    np.testing.assert_array_max_ulp(natural_log(x), np.log(x), maxulp=3)
    assert natural_log(np.array([1.0]))[0] == 0.0


@pytest.mark.parametrize("bound", [1e-3, 0.4, 1.0, 2.0, 3.0, 4.0, 8.9])
def test_the_mass_between_two_bounds(bound: float) -> None:
    assert central_mass(bound) == pytest.approx(math.erf(bound / math.sqrt(2)), rel=4e-16)
    assert central_mass(9.0) == central_mass(200.0) == 1.0


@pytest.mark.parametrize("bound", [0.04, 1.0, 2.0, 3.0, 4.0])
def test_truncated_normals_are_those_of_scipy(bound: float) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    words = np.concatenate([np.random.default_rng(3).integers(0, 2**64, 4000, dtype=np.uint64), EXTREMES])
    values = truncated_normal_from_words(words, bound)
    p = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    np.testing.assert_allclose(values, scipy_stats.truncnorm.ppf(p, -bound, bound), rtol=1e-12, atol=1e-14)
    assert np.abs(values).max() <= bound
    assert np.array_equal(truncated_normal_from_words(~words, bound), -values)
    assert scipy_stats.kstest(values[:-2], scipy_stats.truncnorm(-bound, bound).cdf).pvalue > 1e-3


def test_far_bounds_change_nothing() -> None:
    words = np.concatenate([np.random.default_rng(4).integers(0, 2**64, 1000, dtype=np.uint64), EXTREMES])
    assert np.array_equal(truncated_normal_from_words(words, 9.0), normal_from_words(words))


def test_truncated_normals_of_a_stream_are_addressed_by_word() -> None:
    streams = Streams(KEYS)
    expected = truncated_normal_from_words(streams.words("z", 6, start=3), 2.0).reshape(3, 2, 3)
    assert np.array_equal(streams.truncated_normal("z", (2, 3), 2.0, start=3), expected)
