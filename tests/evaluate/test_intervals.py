import pytest
from scipy import stats

from caskit.evaluate.intervals import Z_95, wilson


@pytest.mark.parametrize("trials", [1, 2, 10, 1000, 10000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.923, 1.0])
def test_equals_scipy(trials: int, share: float) -> None:
    successes = round(share * trials)
    reference = stats.binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_solves_the_defining_equation() -> None:
    # The bounds are the p at which |p_hat - p| = z sqrt(p (1 - p) / n).
    for bound in wilson(37, 120):
        assert abs(37 / 120 - bound) == pytest.approx(Z_95 * (bound * (1 - bound) / 120) ** 0.5)


def test_contains_the_value_and_stays_inside() -> None:
    for trials in range(1, 60):
        for successes in range(trials + 1):
            low, high = wilson(successes, trials)
            assert 0 <= low <= successes / trials <= high <= 1


def test_of_no_trials_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
