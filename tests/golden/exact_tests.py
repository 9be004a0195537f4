"""Values that src/stats/exact_tests, multiplicity and the incomplete gamma functions are held to, written to
tests/data/stats/exact_tests.json.

  log_upper_gamma, log_lower_gamma: a, x, ln Q(a, x) or ln P(a, x), with 60 digits by mpmath
  binomial: k, n, p, ln P(X ≥ k), summed exactly in rational arithmetic
  lattice: terms [[weight, count]…], p, s, ln P(S ≥ s), from the exact polynomial of the counts
  sign_flip: differences (whole numbers), ln of the share of all 2ⁿ signs whose sum is as large, counted exactly, and
      of those whose sum is larger
  kolmogorov: d, n, SciPy's exact P(D ≥ d)
  adjusted: p-values, and SciPy's / hand-rolled Holm, Bonferroni and Benjamini–Hochberg adjustments
  bets: mean, observations, ln wealth and ln p of the bettor of src/stats/e_values.h, from its definition
  mean_e: logarithms of e-values, that of their mean
  rank: value, others, (1 + how many are as large) / (1 + how many there are)
"""

import fractions
import json
import math
import pathlib
import platform

import mpmath
import numpy
import scipy
from scipy import stats

mpmath.mp.dps = 60
Fraction = fractions.Fraction


def log_ratio(numerator, denominator):
    return float(mpmath.log(mpmath.mpf(numerator)) - mpmath.log(mpmath.mpf(denominator)))


def log_gamma_tail(a, x, upper):
    a, x = mpmath.mpf(a), mpmath.mpf(x)
    if upper:
        value = mpmath.gammainc(a, x, mpmath.inf, regularized=True)
    else:
        value = mpmath.gammainc(a, 0, x, regularized=True)
    return float(mpmath.log(value))


def at_rate(rate, a, upper):
    """The x on one side of a where x − a − a ln(x/a), which is −ln of the tail but for its front, is `rate`."""
    low, high = (a, a + 10 * (rate + a)) if upper else (a, mpmath.mpf(a) * mpmath.exp(-(rate + 2 * a) / a))
    for _ in range(300):
        middle = (low + high) / mpmath.mpf(2)
        low, high = (middle, high) if middle - a - a * mpmath.log(middle / a) < rate else (low, middle)
    return float(low)


def gamma_rows(upper):
    rows = []
    for a in [0.5, 1, 7, 40, 300, 2500, 20000]:
        for factor in [0.05, 0.3, 0.8, 1, 1.05, 1.4, 3]:
            rows.append([a, a * factor, log_gamma_tail(a, a * factor, upper)])
        # Tails of about 1e-30, 1e-300 and beyond what a double holds.
        for rate in [69, 691, 2000]:
            x = at_rate(rate, a, upper)
            if x > 1e-290:
                rows.append([a, x, log_gamma_tail(a, x, upper)])
    if upper:
        rows += [[500, 2200, log_gamma_tail(500, 2200, True)], [3, 700, log_gamma_tail(3, 700, True)]]
    return rows


def binomial_row(k, n, p):
    p = Fraction(p)
    tail = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    return [k, n, float(p), log_ratio(tail.numerator, tail.denominator)]


def lattice_row(terms, p, s):
    """Exact: P as a polynomial whose coefficients are whole numbers over denominator^n."""
    p = Fraction(p)
    a, b = p.numerator, p.denominator - p.numerator
    mass = {0: 1}
    n = 0
    for weight, count in terms:
        n += count
        step = [math.comb(count, i) * a**i * b ** (count - i) for i in range(count + 1)]
        new = {}
        for x, m in mass.items():
            for i, c in enumerate(step):
                new[x + weight * i] = new.get(x + weight * i, 0) + m * c
        mass = new
    tail = sum(m for x, m in mass.items() if x >= s)
    return [terms, float(p), s, log_ratio(tail, p.denominator**n)]


def sign_flip_row(differences):
    counts = {0: 1}
    for d in differences:
        new = {}
        for x, c in counts.items():
            new[x + d] = new.get(x + d, 0) + c
            new[x - d] = new.get(x - d, 0) + c
        counts = new
    total = sum(differences)
    tails = [sum(c for x, c in counts.items() if x >= least) for least in (total, total + 1)]
    return [differences, *(log_ratio(tail, 2 ** len(differences)) if tail else None for tail in tails)]


def bet_row(mean, values):
    """Kelly's stake for the mean and variance seen so far, the null's standing for one observation; at most half of what
    could be lost. Wealth as a product of rational numbers would grow too long: 60 digits."""
    mean, wealth, highest, seen, squares = mpmath.mpf(mean), mpmath.mpf(0), mpmath.mpf(0), [], mpmath.mpf(0)
    for value in values:
        n = len(seen) + 1
        gap = (sum(seen) + mean) / n - mean
        stake = min(max(gap / ((squares + mpmath.mpf(0.25)) / n + gap * gap), 0), mpmath.mpf(0.5) / mean)
        wealth += mpmath.log1p(stake * (value - mean))
        highest = max(highest, wealth)
        seen.append(mpmath.mpf(value))
        squares += (value - (sum(seen) + mean) / (len(seen) + 1)) ** 2
    return [float(mean), [float(v) for v in values], float(wealth), float(-highest)]


def mean_e_row(logs):
    return [logs, float(mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(x)) for x in logs) / len(logs)))]


def rank_row(value, others):
    return [value, others, (1 + sum(x >= value for x in others)) / (1 + len(others))]


def holm(p):
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        out[i] = largest
    return out


def main():
    rng = numpy.random.default_rng(3)
    terms = [[w, 20] for w in range(1, 12)] + [[290 - 9 * i, 8] for i in range(30)]
    total = sum(w * c for w, c in terms)
    p_values = [0.0001, 0.04, 0.03, 0.2, 0.04, 0.9, 0.0007]
    golden = {
        "versions": {
            "script": "tests/golden/exact_tests.py",
            "scipy": scipy.__version__,
            "numpy": numpy.__version__,
            "mpmath": mpmath.__version__,
            "python": platform.python_version(),
        },
        "log_upper_gamma": gamma_rows(True),
        "log_lower_gamma": gamma_rows(False),
        "binomial": [
            binomial_row(k, n, p)
            for k, n, p in [(1, 1, 0.5), (3, 10, 0.25), (10, 10, 0.25), (300, 1000, 0.25), (700, 1000, 0.25),
                            (990, 1000, 0.25), (200, 1000, 0.25), (3000, 5000, 0.25)]
        ],
        "lattice": [
            lattice_row(terms, 0.5, int(total * share)) for share in [0.02, 0.3, 0.499, 0.5, 0.51, 0.56, 0.7, 0.97, 0.9999]
        ] + [
            lattice_row([[3, 5], [7, 4], [11, 3]], 0.25, s) for s in [1, 10, 19, 20, 21, 40, 70, 76]
        ] + [
            lattice_row([[6, 9], [10, 4]], 0.25, s) for s in [13, 24, 60, 90]
        ],
        "sign_flip": [
            sign_flip_row([3, 1, 4, 1, 5, -9, 2, 6]),
            sign_flip_row([0, 0, 2, -1]),
            sign_flip_row([int(x) for x in rng.integers(1, 60, 40)]),
            sign_flip_row([int(x) for x in rng.integers(-30, 60, 300)]),
            sign_flip_row([int(x) for x in rng.integers(-10, 60, 900)]),
        ],
        "bets": [
            bet_row(0.25, [float(x) for x in rng.random(200) < 0.25]),
            bet_row(0.25, [float(x) for x in rng.random(300) < 0.5]),
            bet_row(0.9, [float(x) for x in rng.random(50)]),
        ],
        "mean_e": [mean_e_row([1.0, 2.0, -3.0]), mean_e_row([-5000.0, -5001.5]), mean_e_row([3000.0, -3000.0, 2999.0]),
                   mean_e_row([0.25])],
        "rank": [rank_row(3.0, [1.0, 2.0, 3.0, 4.0]), rank_row(0.5, []), rank_row(-1.0, [float(x) for x in rng.normal(size=99)])],
        "kolmogorov": [
            [d, n, float(stats.kstwo.sf(d, n))]
            for n in [1, 5, 40, 1000]
            for d in [0.02, 0.04, 0.06, 0.2, 0.51, 0.8]
        ],
        "adjusted": {
            "p": p_values,
            "holm": holm(p_values),
            "bonferroni": [min(1.0, len(p_values) * p) for p in p_values],
            "benjamini_hochberg": [float(x) for x in stats.false_discovery_control(p_values, method="bh")],
        },
    }
    path = pathlib.Path(__file__).parents[1] / "data" / "stats" / "exact_tests.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
