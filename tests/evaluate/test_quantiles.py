import pytest
from scipy import special, stats

from caskit.evaluate.quantiles import beta_cdf, beta_quantile, binomial_at_most, student_quantile


@pytest.mark.parametrize("a", [0.5, 1, 7.25, 300, 20000])
@pytest.mark.parametrize("b", [0.5, 2, 41, 30000])
def test_beta_equals_scipy(a: float, b: float) -> None:
    for x in (0.0, 1e-9, 0.02, 0.4, 0.9, 1 - 1e-9, 1.0, a / (a + b)):
        assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-9, abs=1e-300)
    for probability in (1e-6, 0.025, 0.5, 0.999):
        assert beta_quantile(probability, a, b) == pytest.approx(special.betaincinv(a, b, probability), rel=1e-9)


def test_binomial_tails_equal_scipy() -> None:
    for trials in (1, 5, 50, 10000):
        for probability in (0.0, 1e-4, 0.3, 0.5, 1.0):
            for successes in {-1, 0, 1, trials // 3, trials - 1, trials}:
                expected = stats.binom.cdf(successes, trials, probability)
                assert binomial_at_most(successes, trials, probability) == pytest.approx(expected, rel=1e-9, abs=1e-250)


@pytest.mark.parametrize("degrees", [0.7, 1, 2, 2.5, 9.3, 200, 1e5, 1e9])
def test_student_equals_scipy(degrees: float) -> None:
    for probability in (0.6, 0.975, 0.9995):
        assert student_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-6)
