"""Recomputes the p-values of an audit's bundle (docs/formats/audit.md) from the papers' formulas, without the program:
SipHash-2-4, the binomial, gamma and lattice tails, sign flips and ranks. Compares with results.json, relative in ln p.

    /work/rivals/venv/bin/python tests/golden/audit_bundle.py CASE…        (numpy, mpmath)
"""

import json
import math
import pathlib
import sys

import mpmath
import numpy

mpmath.mp.dps = 50
MASK = (1 << 64) - 1


def siphash(key, data):
    k0, k1 = (int.from_bytes(key[i:i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def rotate(x, b):
        return ((x << b) | (x >> (64 - b))) & MASK

    def round_():
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)

    padded = data + bytes((-len(data) - 1) % 8) + bytes([len(data) & 255])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i:i + 8], "little")
        v[3] ^= word
        round_()
        round_()
        v[0] ^= word
    v[2] ^= 255
    for _ in range(4):
        round_()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def pair_hash(key, tokens):
    return siphash(key, b"".join(int(t).to_bytes(4, "little") for t in tokens))


def log_binomial_tail(k, n, p):
    """The terms themselves, from k on, until they no longer count."""
    if k <= 0:
        return 0.0
    p = mpmath.mpf(p)
    term = mpmath.binomial(n, k) * p**k * (1 - p)**(n - k)
    total = mpmath.mpf(0)
    for i in range(k, n + 1):
        total += term
        if i > n * p and term < total * mpmath.mpf(10)**-40:
            break
        term *= mpmath.mpf(n - i) / (i + 1) * p / (1 - p)
    return float(mpmath.log(total))


def log_gamma_tail(n, x):
    return float(mpmath.log(mpmath.gammainc(n, mpmath.mpf(x), mpmath.inf, regularized=True)))


def log_lattice_tail(weights, p, s):
    """P(Σ w·Bernoulli(p) ≥ s), exponentially tilted so that s is the mean, then one Fourier transform. weights: w → count"""
    weights = {int(w): int(c) for w, c in weights.items()}
    top = sum(w * c for w, c in weights.items())
    if s <= 0:
        return 0.0

    def mean(t):
        return sum(w * c * p / (p + (1 - p) * math.exp(-t * w)) for w, c in weights.items())

    low, high = 0.0, 1.0
    target = min(float(s), top - 0.5)
    if mean(0) < target:
        while mean(high) < target:
            high *= 2
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if mean(middle) < target else (low, middle)
    t = low
    size = 1 << max(4, top.bit_length())
    angle = 2 * math.pi * numpy.arange(size // 2 + 1) / size
    log_phi = numpy.zeros(size // 2 + 1, dtype=complex)
    log_scale = 0.0
    for w, c in weights.items():
        tilted = p / (p + (1 - p) * math.exp(-t * w))
        log_scale += c * (math.log(p * math.exp(t * w) + 1 - p) if t * w < 500 else t * w + math.log(p))
        log_phi += c * numpy.log1p(tilted * (numpy.exp(-1j * angle * w) - 1))
    mass = numpy.fft.irfft(numpy.exp(log_phi), size)
    at = numpy.arange(s, top + 1)
    return log_scale - t * s + math.log(float(numpy.sum(mass[s:top + 1] * numpy.exp(-t * (at - s)))))


def differences_of(evidence):
    differences = []
    for pair in evidence["pairs"]:
        side = [pair[k] - pair.get(k + "_reference", 0.0) for k in ("served", "withheld")]
        side = [x / pair.get(k + "_bytes", 1) for x, k in zip(side, ("served", "withheld"))]
        differences.append(side[0] - side[1])
    return differences


def twins(evidence):
    differences = differences_of(evidence)
    kept = [abs(d) for d in differences if d != 0]
    if not kept:
        return 0.0
    n, largest = len(kept), max(kept)
    grid = min(max(min(1e6 / n, 1e9 / (n * n)), 8.0), 50000.0)
    scale = math.floor(grid / largest) if largest <= grid else grid / largest

    def whole(x):  # halves away from zero, as llround
        return int(math.floor(abs(x) * scale + 0.5))

    weights = [whole(d) for d in kept if whole(d) > 0]
    # All 2ⁿ subsets, counted exactly, in whole numbers.
    counts = 1
    bits = n + 2
    for w in weights:
        counts += counts << (bits * w)
    positive = sum(whole(d) for d in differences if d > 0)
    mask, tail = (1 << bits) - 1, 0
    rest = counts >> (bits * positive)
    data = rest.to_bytes((rest.bit_length() + 7) // 8 or 1, "little")
    total = int.from_bytes(data, "little")
    # The sum of the fields: modulo 2^bits − 1, which exceeds it.
    tail = total % mask
    tail = tail or (mask if total else 0)
    return float(mpmath.log(mpmath.mpf(tail)) - len(weights) * mpmath.log(2))


def bet(values, null):
    """Waudby-Smith and Ramdas' bettor: a stake of at most half of what could be lost, by the mean and variance so far, with
    the null's own as one observation before the first. ln of the wealth at the end, and of the greatest."""
    null = mpmath.mpf(null)
    squares, wealth, most, total = mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(1), mpmath.mpf(0)
    for n, value in enumerate(values, 1):
        gap = (total + null) / n - null
        spread = (squares + mpmath.mpf("0.25")) / n
        stake = min(max(gap / (spread + gap * gap), 0), mpmath.mpf("0.5") / null)
        wealth *= 1 + stake * (value - null)
        most = max(most, wealth)
        total += value
        squares += (value - (total + null) / (n + 1)) ** 2
    return float(mpmath.log(wealth)), float(mpmath.log(most))


def null_mean(scheme):
    return scheme["gamma"] if scheme["scheme"] == "red-green" else 0.5


def outcomes(scheme, hashes):
    weights = [10 * (scheme["layers"] - 1) - 9 * layer for layer in range(scheme["layers"])]
    for h in hashes:
        if scheme["scheme"] == "red-green":
            yield mpmath.mpf(h < mpmath.mpf(scheme["gamma"]) * 2**64)
        elif scheme["scheme"] == "gumbel":
            yield (mpmath.mpf(h >> 11) + 0.5) / 2**53
        else:
            yield mpmath.mpf(sum(w for layer, w in enumerate(weights) if h >> layer & 1)) / sum(weights)


def e_value(evidence):
    """ln of the wealth that each kind of evidence gives."""
    test = evidence["test"]
    if test.startswith("twin-"):
        values, sizes = [], 0.0
        for n, d in enumerate(differences_of(evidence)):
            if sizes > 0:
                values.append(0.5 + 0.5 * max(-1.0, min(1.0, d / (2 * sizes / n))))
            sizes += abs(d)
        return bet(values, 0.5)[0]
    if test == "canary":
        return bet([1 - (sum(x >= c["scores"][c["planted"]] for x in c["scores"]) - 1) / (len(c["scores"]) - 1)
                    for c in evidence["canaries"]], 0.5)[0]
    scheme, key = evidence["scheme"], bytes.fromhex(evidence["subkey"])
    if test == "green-mass":
        bound = mpmath.mpf(scheme["gamma"]) * 2**64
        return bet([mpmath.mpf(sum(w for t, w in zip(c["tokens"], c["weights"]) if pair_hash(key, c["window"] + [t]) < bound)) /
                    sum(c["weights"]) for c in evidence["contexts"] if c["weights"]], scheme["gamma"])[0]
    return bet(outcomes(scheme, [pair_hash(key, pair) for pair in evidence["pairs"]]), null_mean(scheme))[0]


def pairs(evidence):
    scheme, key = evidence["scheme"], bytes.fromhex(evidence["subkey"])
    hashes = [pair_hash(key, pair) for pair in evidence["pairs"]]
    n = len(hashes)
    assert len({tuple(p) for p in evidence["pairs"]}) == n
    if evidence.get("stopping"):
        return -bet(outcomes(scheme, hashes), null_mean(scheme))[1]
    if scheme["scheme"] == "red-green":
        bound = mpmath.mpf(scheme["gamma"]) * 2**64
        return log_binomial_tail(sum(h < bound for h in hashes), n, scheme["gamma"])
    if scheme["scheme"] == "gumbel":
        return log_gamma_tail(n, mpmath.fsum(-mpmath.log1p(-(mpmath.mpf(h >> 11) + 0.5) / 2**53) for h in hashes))
    m = scheme["layers"]
    weight = [10 * (m - 1) - 9 * layer for layer in range(m)]
    s = sum(weight[layer] for h in hashes for layer in range(m) if h >> layer & 1)
    counts = {}
    for w in weight:
        counts[w] = counts.get(w, 0) + n
    return log_lattice_tail(counts, 0.5, s)


def canaries(evidence):
    total = 0.0
    for canary in evidence["canaries"]:
        scores, planted = canary["scores"], canary["planted"]
        total -= math.log(sum(x >= scores[planted] for x in scores) / len(scores))
    return log_gamma_tail(len(evidence["canaries"]), total)


def mass(evidence):
    gamma, key = evidence["scheme"]["gamma"], bytes.fromhex(evidence["subkey"])
    bound = mpmath.mpf(gamma) * 2**64
    counts, s = {}, 0
    for context in evidence["contexts"]:
        for token, weight in zip(context["tokens"], context["weights"]):
            counts[weight] = counts.get(weight, 0) + 1
            if pair_hash(key, context["window"] + [token]) < bound:
                s += weight
    return log_lattice_tail(counts, gamma, s)


def main():
    worst = 0.0
    for folder in map(pathlib.Path, sys.argv[1:]):
        for result in json.loads((folder / "results.json").read_text()):
            evidence = json.loads((folder / f"evidence/{result['test']}.json").read_text())
            own = {"twin-likelihood": twins, "twin-continuation": twins, "radioactivity-closed": pairs,
                   "radioactivity-open": pairs, "canary": canaries, "green-mass": mass}[result["test"]](evidence)
            apart = abs(own - result["log_p"]) / max(abs(own), 1e-3)
            won = e_value(evidence)
            worst = max(worst, apart, abs(won - result["log_e"]) / max(abs(won), 1e-3))
            print(f"{folder.name:24} {result['test']:22} {evidence.get('scheme', {}).get('scheme', ''):11} n {result['n']:6} "
                  f"ln p {result['log_p']:.9f} reference {own:.9f} apart {apart:.1e}; ln e {result['log_e']:.9f} reference {won:.9f}")
    print(f"worst {worst:.1e}")
    return 0 if worst < 1e-6 else 1


if __name__ == "__main__":
    sys.exit(main())
