import numpy as np
import pytest
from scipy import stats

from caskit.evaluate.hypotheses import NUISANCE, benjamini_hochberg, failure, mcnemar


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 9), (10, 10), (163, 611), (2000, 2100)])
def test_mcnemar_is_the_exact_sign_test(first: int, second: int) -> None:
    expected = 1.0 if first + second == 0 else stats.binomtest(first, first + second).pvalue
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_adjusted_p_values_equal_scipy() -> None:
    values = np.random.default_rng(0).random(50) ** 3
    assert benjamini_hochberg(values.tolist()) == pytest.approx(stats.false_discovery_control(values))
    assert benjamini_hochberg([0.02, 0.02, 1.0]) == pytest.approx([0.03, 0.03, 1.0])
    assert benjamini_hochberg([]) == []


def test_a_collapsed_class_fails_and_an_ordinary_gap_does_not() -> None:
    assert failure(0, 40, 50) < 1e-4 / 2  # found alone among a thousand classes
    assert failure(30, 40, 50) > 0.9
    assert failure(0, 0, 50) == 1.0  # Real does not know the class either
    assert failure(0, 3, 3) > 0.2  # three images prove little
    assert failure(100, 900, 1000) == pytest.approx(NUISANCE)


def test_a_class_at_half_of_real_is_called_failed_no_more_often_than_promised() -> None:
    generator = np.random.default_rng(1)
    reals, hits = generator.binomial(50, 0.8, 4000), generator.binomial(50, 0.4, 4000)
    rejected = [failure(int(k), int(r), 50) <= 0.05 for k, r in zip(hits, reals, strict=True)]
    assert np.mean(rejected) <= 0.05
