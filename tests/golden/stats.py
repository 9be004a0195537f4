"""Values of SciPy that src/stats is held to, written to tests/data/stats/scipy.json.

  normal_cdf, log_incomplete_beta, normal_quantile, incomplete_beta, incomplete_beta_inverse: rows of arguments, then
      the value. The incomplete beta functions are evaluated with 60 digits by mpmath, since SciPy has no logarithm of
      them and loses digits for large arguments; the inverse is SciPy's.
  clopper_pearson, wilson: k, n, confidence, low, high
  quantile: share, value, for `sample`
  bootstrap: data of a ratio of sums (numerators, denominators), SciPy's replicates of it, and from them its BCa and
      percentile intervals
"""

import json
import pathlib
import platform

import mpmath
import numpy
import scipy
from scipy import special, stats

mpmath.mp.dps = 60


def at_rate(rate, a, b):
    """The x below the mean m where a ln(m/x) + b ln((1−m)/(1−x)), which is −ln I_x but for its front, is `rate`."""
    m = mpmath.mpf(a) / (a + b)
    low, high = mpmath.mpf(0), m
    for _ in range(300):
        middle = (low + high) / 2 if low > 0 else high * mpmath.exp(-(rate + a + b) / a)
        gap = a * mpmath.log(m / middle) + b * mpmath.log((1 - m) / (1 - middle)) - rate
        low, high = (middle, high) if gap > 0 else (low, middle)
    return float(high)


def beta_rows():
    rows = []
    for a, b in [(0.5, 0.5), (1, 1), (2, 7), (30, 4), (150, 0.5), (1000, 1200), (62050, 186151), (1e6, 3e6)]:
        mean, sd = a / (a + b), (a * b / (a + b) ** 3) ** 0.5
        for z in [-8, -2, -0.5, 0, 0.5, 2, 8]:
            x = mean + z * sd
            if 0 < x < 1:
                rows.append([a, b, x])
    # Tails of about 1e-30, 1e-300 and beyond what a double holds.
    for a, b in [(2, 7), (30, 4), (1000, 1200), (62050, 186151)]:
        for rate in [69, 691, 2000]:
            rows.append([a, b, at_rate(rate, a, b)])
    rows += [[3, 5, 1e-12], [3, 5, 1 - 1e-9], [40, 2, 1e-30], [2100, 5901, 0.2], [5, 1e5, 1e-3]]
    return rows


def exact_log_beta(a, b, x):
    a, b, x = mpmath.mpf(a), mpmath.mpf(b), mpmath.mpf(x)
    if max(a, b) < 1000:
        return mpmath.log(mpmath.betainc(a, b, 0, x, regularized=True))
    # For large shapes a series of positive terms, x^a (1−x)^b / (a B(a, b)) · ₂F₁(1, a+b; a+1; x), below the mean; above it
    # what the other side leaves.
    if x > a / (a + b):
        return mpmath.log1p(-mpmath.exp(beta_series(b, a, 1 - x)))
    return beta_series(a, b, x)


def beta_series(a, b, x):
    term = total = mpmath.mpf(1)
    n = 0
    while term > total * mpmath.mpf(10) ** -50:
        term *= (a + b + n) / (a + 1 + n) * x
        total += term
        n += 1
    log_norm = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
    return a * mpmath.log(x) + b * mpmath.log1p(-x) - log_norm - mpmath.log(a) + mpmath.log(total)


def bootstrap_case(seed, clusters):
    rng = numpy.random.default_rng(seed)
    denominators = rng.integers(5, 60, clusters).astype(float)
    numerators = denominators * rng.gamma(1.5, 0.8, clusters)

    def ratio(numerator, denominator, axis=-1):
        return numerator.sum(axis=axis) / denominator.sum(axis=axis)

    options = dict(paired=True, vectorized=True, rng=numpy.random.default_rng(seed + 1))
    bca = stats.bootstrap((numerators, denominators), ratio, n_resamples=1999, method="BCa", **options)
    percentile = stats.bootstrap(
        (numerators, denominators), ratio, n_resamples=0, method="percentile", bootstrap_result=bca, **options
    )
    return dict(
        numerators=numerators.tolist(),
        denominators=denominators.tolist(),
        replicates=bca.bootstrap_distribution.tolist(),
        bca=list(bca.confidence_interval),
        percentile=list(percentile.confidence_interval),
        standard_error=float(bca.standard_error),
    )


def interval_rows(method):
    rows = []
    for k, n in [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (57, 64), (250, 1000), (999, 1000), (12345, 50000)]:
        for confidence in [0.9, 0.95, 0.999]:
            interval = stats.binomtest(k, n).proportion_ci(confidence, method=method)
            rows.append([k, n, confidence, float(interval.low), float(interval.high)])
    return rows


def main():
    sample = numpy.random.default_rng(5).normal(size=37)
    probabilities = [1e-300, 1e-20, 1e-9, 0.001, 0.025, 0.3, 0.5, 0.7, 0.975, 0.999999]
    golden = {
        "versions": {
            "script": "tests/golden/stats.py",
            "scipy": scipy.__version__,
            "numpy": numpy.__version__,
            "mpmath": mpmath.__version__,
            "python": platform.python_version(),
        },
        "normal_cdf": [[x, float(mpmath.ncdf(x))] for x in [-37.0, -12.5, -3.0, -1.0, 0.0, 0.1, 1.0, 2.5, 6.0]],
        "normal_quantile": [[p, float(special.ndtri(p))] for p in probabilities],
        "log_incomplete_beta": [[*row, float(exact_log_beta(*row))] for row in beta_rows()],
        "incomplete_beta": [[*row, float(mpmath.exp(exact_log_beta(*row)))] for row in beta_rows()],
        "incomplete_beta_inverse": [
            [a, b, p, float(special.betaincinv(a, b, p))]
            for a, b in [(1, 20), (3, 18), (58, 7), (0.5, 0.5), (250, 751)]
            for p in [1e-6, 0.025, 0.5, 0.975]
        ],
        "clopper_pearson": interval_rows("exact"),
        "wilson": interval_rows("wilson"),
        "sample": sample.tolist(),
        "quantile": [[q, float(numpy.quantile(sample, q))] for q in [0, 0.025, 0.1, 0.5, 0.9, 1]],
        "mean": float(sample.mean()),
        "variance": float(sample.var(ddof=1)),
        "bootstrap": [bootstrap_case(11, 12), bootstrap_case(12, 40)],
    }
    path = pathlib.Path(__file__).parents[1] / "data" / "stats" / "scipy.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
